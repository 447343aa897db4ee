"""Arguments: from what users write to a request, here and for a server alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from onnxscape.core.direction import Ignore
from onnxscape.core.grid import Axis, Grid
from onnxscape.core.normalization import Normalization
from onnxscape.errors import GridError, UsageError
from onnxscape.evaluation.request import EvalRequest

if TYPE_CHECKING:
    from enum import StrEnum

    from onnxscape.evaluation.request import Data, Model

_Choice = TypeVar("_Choice", bound="StrEnum")

_OPTIONS = frozenset(EvalRequest.__slots__) - {"normalization"}  # here it is `normalize`


def make_request(
    model: Model,
    data: Data,
    *,
    grid: str | int | Grid = "25x25",
    radius: float = 1.0,
    x: str | Axis | tuple[float, float, int] | None = None,
    y: str | Axis | tuple[float, float, int] | None = None,
    normalize: str = "filter",
    ignore: str = "biasbn",
    **options: Any,
) -> EvalRequest:
    """Make a request from the arguments of `evaluate`.

    Args:
        model: As `evaluate` takes it.
        data: Likewise.
        grid: Likewise.
        radius: Likewise.
        x: Likewise.
        y: Likewise.
        normalize: Likewise.
        ignore: Likewise.
        **options: Further fields of the request.

    Returns:
        The request.

    Raises:
        UsageError: If an option means nothing.
    """
    unknown = set(options) - _OPTIONS
    if unknown:
        raise UsageError(f"unknown option {', '.join(sorted(unknown))} for evaluate()")
    for name in ("include", "exclude"):
        patterns = options.get(name, ())
        options[name] = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    metrics = options.get("metrics")
    if isinstance(metrics, str):
        options["metrics"] = tuple(filter(None, metrics.split(",")))
    return EvalRequest(
        model=model,
        data=data,
        grid=make_grid(grid, radius, x, y),
        normalization=_choice(Normalization, "normalize", normalize),
        ignore=_choice(Ignore, "ignore", ignore),
        **options,
    )


def make_grid(
    grid: str | int | Grid,
    radius: float,
    x: str | Axis | tuple[float, float, int] | None,
    y: str | Axis | tuple[float, float, int] | None,
) -> Grid:
    """Make a grid from what users write.

    Args:
        grid: `"51x51"`, `"51"`, or a grid; used if neither `x` nor `y` is given.
        radius: Largest coordinate of `grid`.
        x: Axis along delta.
        y: Axis along eta.

    Returns:
        The grid.

    Raises:
        GridError: If it holds no points.
    """
    if x is None and y is None:
        return grid if isinstance(grid, Grid) else Grid.parse(str(grid), radius)
    return Grid(*map(_axis, (x, y)))


def _axis(axis: str | Axis | tuple[float, float, int] | None) -> Axis | None:
    if axis is None or isinstance(axis, Axis):
        return axis
    if isinstance(axis, str):
        return Axis.parse(axis)
    try:
        start, stop, num = axis
        return Axis(float(start), float(stop), int(num))
    except (TypeError, ValueError) as error:
        raise GridError(
            f"expected an axis as 'MIN:MAX:NUM', (min, max, num) or Axis, got {axis!r}"
        ) from error


def _choice(choices: type[_Choice], option: str, value: str) -> _Choice:
    try:
        return choices(value)
    except ValueError:
        raise UsageError(
            f"expected {option} to be one of {', '.join(choices)}, got {value!r}"
        ) from None
