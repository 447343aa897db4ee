"""`onnxscape token`: make, list and revoke the tokens of a server's users."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxscape.errors import UsageError
from onnxscape.service.access.tokens import TokenStore
from onnxscape.service.catalog.tables import SCHEMA
from onnxscape.service.data_folder import make_folder
from onnxscape.service.settings.loading import load_config
from onnxscape.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}

_CONFIG = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="The server's TOML file."
)
_DATA_DIR = click.option("--data-dir", help="The server's folder.")


@contextmanager
def _tokens(
    file: Path | None, data_dir: str | None, *, make: bool = False
) -> Iterator[TokenStore]:
    """Open the tokens of a server, which may be running, or not have been started yet."""
    flags = {} if data_dir is None else {"data_dir": data_dir}
    folder = load_config(flags, environment=os.environ, file=file).data_dir
    if make:
        make_folder(folder)
    elif not (folder / "catalog.sqlite").is_file():
        raise UsageError(
            f"expected the folder of a server, got {folder}, which is none; name another by "
            "--data-dir"
        )
    with Database.open(folder / "catalog.sqlite", SCHEMA) as database:
        yield TokenStore(database)


@click.group("token")
def command() -> None:
    """Make, list and revoke the tokens by which a server knows its users.

    They are kept in the server's folder; a server that runs takes notice at once.
    """


@command.command("create")
@click.argument("user")
@click.option("--name", default="", help="For people: what it is for.")
@click.option("--expires", metavar="TIME", help="As 12h, 30d or 1y; without it never.")
@_CONFIG
@_DATA_DIR
def create_command(
    user: str, name: str, expires: str | None, file: Path | None, data_dir: str | None
) -> None:
    """Make a token for USER, and print it. It cannot be shown again."""
    with _tokens(file, data_dir, make=True) as tokens:
        seconds = None if expires is None else _seconds(expires)
        token, secret = tokens.create(user, name=name, seconds=seconds)
    click.echo(secret)
    until = "never" if token.expires is None else _date(token.expires)
    click.echo(f"token {token.id} of {user}, expires {until}", err=True)


@command.command("list")
@_CONFIG
@_DATA_DIR
def list_command(file: Path | None, data_dir: str | None) -> None:
    """List all tokens: id, state, user, when made, used and expiring, and the name."""
    with _tokens(file, data_dir) as tokens:
        for token in tokens.tokens():
            used = "never" if token.used is None else _date(token.used)
            until = "never" if token.expires is None else _date(token.expires)
            line = (
                f"{token.id}  {token.state(time.time()):<7}  {token.user:<16}  made "
                f"{_date(token.created)}  used {used}  expires {until}  {token.name}"
            )
            click.echo(line.rstrip())


@command.command("revoke")
@click.argument("identifier", metavar="ID")
@_CONFIG
@_DATA_DIR
def revoke_command(identifier: str, file: Path | None, data_dir: str | None) -> None:
    """Make the token ID good for nothing, from now on."""
    with _tokens(file, data_dir) as tokens:
        token = tokens.revoke(identifier)
    click.echo(f"token {token.id} of {token.user} is revoked")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})([hdwy])", text)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"expected --expires as 12h, 30d, 4w or 1y, got {text!r}")
    return float(int(match[1]) * _UNITS[match[2]])


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
