"""The numbers of a picture of a line: curves, bands, gaps, ends of the axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.plots.numbers.captions import is_percent, metric_label, split_of
from onnxscape.plots.numbers.gaps import thin
from onnxscape.plots.numbers.plane import (
    cell_edges,
    center_value,
    display_values,
    drawable_values,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.landscape import Landscape
    from onnxscape.plots.numbers.scale import Scale

_LIMIT = 20_000
"""Most points of a curve: more than any picture has columns."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One metric along a line.

    Attributes:
        label: For the legend, e.g. `test loss`.
        percent: Whether the values are percentages.
        dashed: Whether the line is dashed, as curves of test data are.
        steps: Steps with a value [n].
        values: [n]; NaN where not finite.
        error: Standard error of the values [n]; None if unknown or zero throughout.
        center: Value at the center; NaN if not known.
        marked: Whether each point is marked, because few are known.
    """

    label: str
    percent: bool
    dashed: bool
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    error: NDArray[np.float64] | None
    center: float
    marked: bool

    def band(self, lowest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values less and plus one standard error.

        Args:
            lowest: Where the axis ends: no value goes below.

        Returns:
            Lower and upper values [n]; NaN where the error is not known.
        """
        error = np.full_like(self.values, np.nan) if self.error is None else self.error
        return np.maximum(self.values - error, lowest), self.values + error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LineNumbers:
    """The curves of one landscape on a line.

    Attributes:
        axis: `x` for a line along delta, `y` for one along eta.
        start: First step of the grid.
        stop: Last step of the grid.
        main: Curve of the metric drawn on the left axis.
        second: Curve of the accuracy on the right axis, beside a loss.
        holes: [k, 2] from where to where the main metric is not finite.
        non_finite: At how many points it is not.
    """

    axis: str
    start: float
    stop: float
    main: Curve
    second: Curve | None
    holes: NDArray[np.float64]
    non_finite: int


def line_numbers(landscape: Landscape, metric: str) -> LineNumbers:
    """Take the numbers of a picture from a line.

    Args:
        landscape: On a line.
        metric: Name of one of its surfaces; beside a loss the accuracy is drawn too.

    Returns:
        The numbers.
    """
    steps = landscape.betas if landscape.alphas is None else landscape.alphas
    assert steps is not None  # noqa: S101 - a grid has at least one axis
    values = display_values(landscape, metric)
    not_finite = landscape.known & np.isnan(values)
    with_accuracy = metric == "loss" and "accuracy" in landscape.surfaces
    return LineNumbers(
        axis="y" if landscape.alphas is None else "x",
        start=float(steps[0]),
        stop=float(steps[-1]),
        main=_curve(landscape, metric, steps),
        second=_curve(landscape, "accuracy", steps) if with_accuracy else None,
        holes=_spans(steps, not_finite),
        non_finite=int(np.count_nonzero(not_finite)),
    )


def axis_ends(scale: Scale, curves: list[Curve]) -> tuple[float, float]:
    """Return where an axis begins and ends, with room around its curves.

    Args:
        scale: Of the values.
        curves: What is drawn on it.

    Returns:
        Ends a little outside the scale and the bands of standard error; exactly the
        scale's own where it cuts values off.
    """
    low, high = scale.low, scale.high
    if scale.log:
        # The lower half of a band may reach below zero: it does not stretch the axis.
        room = (high / low) ** 0.04
        return (low if scale.below else low / room, high if scale.above else high * room)
    for curve in curves:
        lower, upper = curve.band(-np.inf)
        if np.isfinite(lower).any():
            low = low if scale.below else min(low, float(np.nanmin(lower)))
            high = high if scale.above else max(high, float(np.nanmax(upper)))
    room = 0.04 * (high - low)
    return (low if scale.below else low - room, high if scale.above else high + room)


def _curve(landscape: Landscape, metric: str, steps: NDArray[np.float64]) -> Curve:
    known = np.flatnonzero(landscape.known)
    known = known[thin(np.ones(known.size, dtype=np.bool_), _LIMIT)]
    percent = is_percent(metric)
    error = None
    if metric == "loss" and landscape.loss_stderr is not None:
        error = drawable_values(landscape.loss_stderr[known], percent=False)
        error = error if np.nan_to_num(error).any() else None
    split = split_of(landscape)
    label = metric_label(metric).removesuffix(" (%)")
    return Curve(
        label=label if split is None else f"{split} {label}",
        percent=percent,
        dashed=split == "test",
        steps=steps[known],
        values=display_values(landscape, metric)[known],
        error=error,
        center=float(center_value(landscape, metric)[0]),
        marked=not landscape.complete or known.size <= 60,
    )


def _spans(steps: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return from where to where marked steps reach, half way to their neighbours [k, 2]."""
    edges = np.clip(cell_edges(steps), steps[0], steps[-1])
    changes = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    starts, stops = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    return np.stack([edges[starts], edges[stops]], axis=1)
