"""`onnxscape serve`: run a server that computes landscapes for others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxscape.service.monitoring.logs import configure
from onnxscape.service.server import run_server
from onnxscape.service.settings.config import ServerConfig
from onnxscape.service.settings.loading import PREFIX, SETTINGS, load_config
from onnxscape_cli.sections import SectionedCommand, section

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SWITCHES = ("insecure",)


def _settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each setting, in the order of the table."""
    defaults = ServerConfig()
    for name, setting in reversed(list(SETTINGS.items())):
        shown = _shown(getattr(defaults, name))
        text = setting.meaning if shown is None else f"{setting.meaning}  [default: {shown}]"
        kind = {"is_flag": True, "default": None} if name in _SWITCHES else {"type": str}
        option = section(setting.section)
        function = option(f"--{name.replace('_', '-')}", name, help=text, **kind)(function)
    return function


def _shown(value: object) -> str | None:
    if isinstance(value, tuple):
        return ",".join(value)
    if value is None or isinstance(value, bool | dict):
        return None
    if isinstance(value, int) and value and value % (1 << 30) == 0:
        return f"{value >> 30}GiB"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@click.command("serve", cls=SectionedCommand)
@section("Server")(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="TOML file with settings, named as the options, with _ for -.",
)
@_settings
def command(file: Path | None, **flags: Any) -> None:
    """Run a server that computes landscapes for others.

    Every option is also a variable, such as ONNXSCAPE_DATA_DIR, and a setting in a TOML file;
    options win over variables, and these over the file.

    The first SIGTERM or Ctrl-C lets the points under way end, another one stops at once. What
    is not finished goes on when a server is started on the same folder again.
    """
    config = load_config(_given(flags), environment=os.environ, file=_file(file))
    configure(form=config.log_format, level=config.log_level)
    asyncio.run(run_server(config, click.echo))


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _file(file: Path | None) -> Path | None:
    """Return the file with settings: the option's, or the variable's."""
    named = os.environ.get(f"{PREFIX}CONFIG")
    return Path(named) if file is None and named else file
