"""From points to a landscape: finished points arranged as surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.grid import Point
from onnxscape.core.landscape import Landscape
from onnxscape.core.samples import SUBSET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec

Results = dict[tuple[int, int], "Mapping[str, float]"]
"""(row, column) of a point to its metrics."""


def assembled(
    spec: EvalSpec, results: Results, plan: Plan | None, origin: Mapping[str, Any]
) -> Landscape:
    """Arrange results as surfaces.

    Args:
        spec: What was evaluated.
        results: The points that are finished.
        plan: What defines their bits; None if none is.
        origin: Where they come from, for people: plain JSON values.

    Returns:
        The landscape; a point that is missing is NaN and not evaluated. Of a point that has a
        few samples only, where others take all, nothing but these is told.
    """
    grid = spec.grid
    names = ["loss", *spec.metrics, "loss_stderr"]
    on_few: list[str] = []
    if spec.two_level is not None:
        on_few = ["samples_used", *(SUBSET + name for name in names[:-1])]
    elif spec.stderr is not None:
        names.append("samples_used")
    surfaces = {name: np.full(grid.shape, np.nan) for name in [*names, *on_few]}
    evaluated = np.zeros(grid.shape, dtype=np.bool_)
    for (row, column), metrics in results.items():
        if row < 0 or column < 0:
            continue
        index = grid.index(Point(row, column, 0.0, 0.0))
        evaluated[index] = not on_few or metrics["samples_used"] == spec.samples
        for name in [*names, *on_few] if evaluated[index] else on_few:
            surfaces[name][index] = metrics[name]
    center = grid.center()
    return Landscape(
        grid=grid,
        surfaces=surfaces,
        evaluated=evaluated,
        center=dict(results.get((center.row, center.column), {})),
        spec=spec,
        plan=plan,
        provenance=origin,
    )
