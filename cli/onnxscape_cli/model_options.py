"""Options that say how a model is read and what of it moves, alike in all commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onnxscape.core.direction import Ignore
from onnxscape.core.execution import PRECISIONS
from onnxscape.errors import UsageError
from onnxscape_cli.sections import section

if TYPE_CHECKING:
    from collections.abc import Callable

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def _axes(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, int]:
    """Read `NAME=AXIS`, any number of times."""
    axes = {}
    for text in texts:
        name, _, axis = text.rpartition("=")
        if not name or not axis.removeprefix("-").isdecimal():
            raise UsageError(
                f"expected --filter-axis as NAME=AXIS, the axis a number, got {text!r}"
            )
        axes[name] = int(axis)
    return axes


_moves = section("What moves")
_model = section("Model")

_OPTIONS = (
    _moves(
        "--ignore",
        type=click.Choice([i.value for i in Ignore]),
        default="biasbn",
        show_default=True,
        help="biasbn: biases and normalization stay; none: they move with the weights.",
    ),
    _moves(
        "--include",
        metavar="PATTERN",
        multiple=True,
        help="Tensors to move as well; may be repeated.",
    ),
    _moves(
        "--exclude",
        metavar="PATTERN",
        multiple=True,
        help="Tensors to leave alone; may be repeated.",
    ),
    _moves(
        "--filter-axis",
        metavar="NAME=AXIS",
        multiple=True,
        callback=_axes,
        help="Axis that counts a tensor's filters; may be repeated.",
    ),
    _model(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="fp32",
        show_default=True,
        help="tf32, fp16 and bf16 are faster, on a GPU; native: the file's own half floats.",
    ),
    _model(
        "--weights",
        type=click.Path(path_type=Path),
        metavar="FILE.npz",
        help="Values of model inputs that are weights.",
    ),
)


def model_options(command: _Command) -> _Command:
    """Add the options that are fields of a request and arguments of an inspection."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
