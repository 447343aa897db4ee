"""Kinds of orders: those of a kind differ in seed and grid only, and need one check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnxscape.core.direction import MAX_SEED
from onnxscape.core.spec import EvalSpec
from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.grid import Grid
    from onnxscape.jobs.order import Order


def without_seed_and_grid(order: Order) -> Order:
    """Return the order that stands for all of other seeds and grids.

    Which axes there are stays, and all of the grid where it matters which points are wanted.

    Args:
        order: Any order.

    Returns:
        The same order for all of its kind.

    Raises:
        UsageError: If the seed is none.
    """
    options = dict(order.options)
    seed = options.pop("seed", 0)
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise UsageError(f"expected a seed from 0 to {MAX_SEED}, got {seed!r}")
    if not options.get("adaptive") and options.get("two_level") is None:
        for name in ("x", "y"):
            if options.get(name) is not None:
                options[name] = [-1.0, 1.0, 3]
    return replace(order, options=options)


def spec_of(values: Mapping[str, Any], order: Order, grid: Grid) -> EvalSpec:
    """Return the spec of an order from that of its kind.

    Args:
        values: The spec of the order without seed and grid, as a dictionary.
        order: The order.
        grid: Its grid.

    Returns:
        The spec.
    """
    spec = EvalSpec.from_dict(values)
    seed = None if spec.seed is None else order.options.get("seed", 0)
    return replace(spec, grid=grid, seed=seed)
