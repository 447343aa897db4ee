"""`onnxscape data`: list data sets, and get them."""

from __future__ import annotations

from pathlib import Path

import click

from onnxscape.data import list_datasets, load_dataset
from onnxscape_cli.terminal import Terminal

_DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where data sets are kept.  [default: the user's cache folder]",
)


@click.group("data")
def command() -> None:
    """List and get data sets."""


@command.command("list")
@_DATA_DIR
def list_command(data_dir: Path | None) -> None:
    """List the data sets known by name."""
    for info in list_datasets(data_dir=data_dir):
        click.echo(f"{info.name:<14}  {info.description}")
        counts = ", ".join(f"{count} {split}" for split, count in info.samples.items())
        click.echo(f"{'':<14}  {counts}; {info.availability}")
        click.echo(f"{'':<14}  fed as {info.preprocessing}")
        click.echo(f"{'':<14}  {info.citation} ({info.licence})")


@command.command("get")
@click.argument("name")
@_DATA_DIR
@click.option("--split", default="train", show_default=True, help="Split to be shown.")
def get_command(name: str, data_dir: Path | None, split: str) -> None:
    """Get the data set NAME, unless it is here, and show what it holds."""
    terminal = Terminal(quiet=False, to_stderr=False)
    try:
        dataset = load_dataset(
            name,
            split=split,
            data_dir=data_dir,
            report=terminal.note,
            progress=terminal.bytes_read,
        )
    finally:
        terminal.close()
    for field, array in dataset.fields.items():
        click.echo(f"{dataset.name}: {field} {list(array.shape)} {array.dtype}")
    click.echo(f"digest {dataset.digest()}")
    kept = {info.name: info.file for info in list_datasets(data_dir=data_dir)}.get(name)
    if kept is not None:
        click.echo(f"kept in {kept}")
