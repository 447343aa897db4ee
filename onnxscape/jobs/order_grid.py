"""The grid of an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscape.core.grid import Axis, Grid
from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from onnxscape.jobs.order import Order

_DEFAULT = (-1.0, 1.0, 25)


def grid_of(order: Order) -> Grid:
    """Return the points that an order asks for; 25 x 25 if it names no axis.

    Args:
        order: The order.

    Returns:
        The grid.

    Raises:
        GridError: If it holds no points.
        UsageError: If an axis is none.
    """
    axes = [_axis(order.options.get(name), name) for name in ("x", "y")]
    return Grid(*([Axis(*_DEFAULT)] * 2 if axes == [None, None] else axes))


def _axis(value: Any, name: str) -> Axis | None:
    if value is None:
        return None
    try:
        start, stop, num = value
        ends = float(start), float(stop)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"expected {name} as [start, stop, num], got {value!r}") from error
    if type(num) is not int:
        raise UsageError(f"expected the number of points of {name} as an integer, got {num!r}")
    return Axis(*ends, num)
