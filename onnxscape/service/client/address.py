"""Where a server is, and how the way there is secured."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from onnxscape.errors import UsageError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from os import PathLike

DEFAULT_PORT = 50051

_ADDRESS = re.compile(
    r"(?P<host>\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[^\[\]:/\s]+)(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of a server.

    Attributes:
        host: Name or number; of IPv6 without brackets.
        port: From 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`, `[IPv6]:PORT` or `HOST`.

        Args:
            text: What the user wrote.

        Returns:
            The address.

        Raises:
            UsageError: If it is none.
        """
        match = _ADDRESS.fullmatch(text.strip())
        port = DEFAULT_PORT if match is None else int(match["port"] or DEFAULT_PORT)
        if match is None or not 1 <= port <= 65535:
            raise UsageError(
                f"expected a server as HOST:PORT such as 127.0.0.1:{DEFAULT_PORT}, got "
                f"{text!r}"
            )
        return cls(match["host"].strip("[]"), port)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, reached without a network."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How a client shows who it is, and knows whom it talks to.

    Attributes:
        token: Sent with every call; None for none.
        tls_ca: File (PEM) with the certificates that may vouch for the server; None for those
            that the system trusts.
        tls_cert: File (PEM) with the client's certificate chain, for servers that ask for one.
        tls_key: File (PEM) with its key.
        insecure: Whether to talk to another machine without TLS.

    Raises:
        UsageError: If they do not go together, or the token could not be sent.
    """

    token: str | None = None
    tls_ca: str | PathLike[str] | None = None
    tls_cert: str | PathLike[str] | None = None
    tls_key: str | PathLike[str] | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError(
                "expected a client's certificate and its key, got only one of them; give both "
                "--tls-cert and --tls-key"
            )
        if self.insecure and self._has_files:
            raise UsageError(
                "--insecure talks to the server without TLS, so that --tls-ca, --tls-cert and "
                "--tls-key have no meaning; leave out one or the other"
            )
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise UsageError(
                "expected a token of printable characters without spaces, as `onnxscape token "
                "create` shows it; check --token or ONNXSCAPE_TOKEN"
            )

    @property
    def _has_files(self) -> bool:
        return any(f is not None for f in (self.tls_ca, self.tls_cert, self.tls_key))

    def encrypts(self, address: Address) -> bool:
        """Return whether the way to a server is encrypted.

        Args:
            address: The server. What stays on this machine needs no encryption.
        """
        return self._has_files or not (self.insecure or address.is_loopback)

    def pem(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Read the files.

        Returns:
            Certificates that may vouch, key, certificate chain; None for what is not given.

        Raises:
            UsageError: If one cannot be read.
        """
        return (
            _read(self.tls_ca, "--tls-ca"),
            _read(self.tls_key, "--tls-key"),
            _read(self.tls_cert, "--tls-cert"),
        )


def _read(path: str | PathLike[str] | None, option: str) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {option} {path}: {reason(error)}") from error
    if b"-----BEGIN" not in content:
        raise UsageError(f"expected {option} as a PEM file, got {path}, which is none")
    return content
