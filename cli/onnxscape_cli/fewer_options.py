"""Options that save evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from onnxscape_cli.sections import section

if TYPE_CHECKING:
    from collections.abc import Callable

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_fewer = section("Fewer evaluations")

_OPTIONS = (
    _fewer(
        "--adaptive",
        is_flag=True,
        help="Evaluate points only where interpolation is not enough.",
    ),
    _fewer(
        "--tolerance",
        metavar="ERROR",
        type=float,
        help="Largest relative error of interpolated losses.  [default: 0.05]",
    ),
    _fewer(
        "--stderr",
        metavar="ERROR",
        type=float,
        help="With --samples auto: add samples to a point until the standard error is below.",
    ),
    _fewer(
        "--two-level",
        metavar="N",
        type=int,
        help="Evaluate most points on N of the samples, and correct them from a coarse grid "
        "on all.",
    ),
)


def fewer_options(command: _Command) -> _Command:
    """Add the options that save evaluations."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
