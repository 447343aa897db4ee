"""Options that say which server to ask, and how to reach it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onnxscape.errors import UsageError
from onnxscape_cli.evaluation_options import given
from onnxscape_cli.sections import section

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxscape.service.client.client import Client

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_server = section("Server")
_path = click.Path(path_type=Path)

_OPTIONS = (
    _server(
        "--server",
        metavar="HOST:PORT",
        envvar="ONNXSCAPE_SERVER",
        show_envvar=True,
        help="An `onnxscape serve`, here or elsewhere.",
    ),
    _server(
        "--token",
        metavar="TOKEN",
        envvar="ONNXSCAPE_TOKEN",
        show_envvar=True,
        help="Shows the server who asks; others on this machine see a command line.",
    ),
    _server(
        "--tls-ca",
        type=_path,
        envvar="ONNXSCAPE_TLS_CA",
        show_envvar=True,
        help="Certificates (PEM) that may vouch for the server.",
    ),
    _server("--tls-cert", type=_path, help="Your certificate (PEM), if the server asks."),
    _server("--tls-key", type=_path, help="Its key (PEM)."),
    _server("--insecure", is_flag=True, help="Reach another machine without TLS."),
)

_NAMES = ("server", "token", "tls_ca", "tls_cert", "tls_key", "insecure")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerChoice:
    """Which server to ask.

    Attributes:
        address: As the user wrote it.
        arguments: The others, as `Client` takes them.
    """

    address: str
    arguments: dict[str, Any]

    def client(self, told: Callable[[str], None] | None = None) -> Client:
        """Return a client of it; gRPC is loaded here.

        Args:
            told: Told when the server is lost and found; by default stderr is, as stdout is
                for results.
        """
        from onnxscape.service.client.client import Client  # noqa: PLC0415 - takes its time

        return Client(self.address, told=told or _tell, **self.arguments)


def _tell(text: str) -> None:
    """Say what happens to the connection where no result is expected."""
    click.echo(f"onnxscape: {text}", err=True)


def server_options(command: _Command) -> _Command:
    """Add the options of this module."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_server(options: dict[str, Any]) -> ServerChoice | None:
    """Take these options out of all; None if no server is named."""
    arguments = {name: options.pop(name) for name in _NAMES}
    address = arguments.pop("server")
    if address:
        return ServerChoice(address=address, arguments=arguments)
    alone = given(*_NAMES[1:])
    if alone:
        raise UsageError(
            f"{' and '.join(alone)} {'has' if len(alone) == 1 else 'have'} no meaning without "
            "a server; add --server HOST:PORT"
        )
    return None


def need_server(options: dict[str, Any]) -> ServerChoice:
    """Take these options out of all; refuse if no server is named."""
    server = take_server(options)
    if server is None:
        raise UsageError("expected --server HOST:PORT, or ONNXSCAPE_SERVER, got neither")
    return server
