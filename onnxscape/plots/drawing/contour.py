"""Contour lines with their values written on them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from onnxscape.plots.drawing import style
from onnxscape.plots.drawing.planar import PlaneKind
from onnxscape.plots.numbers.plane import rectangles
from onnxscape.plots.numbers.scale import format_value, format_values

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.contour import QuadContourSet
    from numpy.typing import NDArray

    from onnxscape.plots.numbers.plane import PlaneNumbers
    from onnxscape.plots.numbers.scale import Scale


_MOST_LABELS = 3
"""Most labels of one level: a ragged line has many pieces."""


def paint(
    axes: Axes,
    numbers: PlaneNumbers,
    *,
    scale: Scale,
    levels: NDArray[np.float64],
    label: str,
) -> tuple[ScalarMappable | None, list[Artist]]:
    """Draw contour lines.

    Args:
        axes: Where.
        numbers: The plane.
        scale: How values become colors.
        levels: Values of the lines, increasing.
        label: Of the metric, for the legend.

    Returns:
        No mappable, for the lines carry their values; the legend's entries.
    """
    heights = numbers.heights(log=scale.log)
    keys = paint_holes(axes, numbers, heights)
    drawn = inside(levels, heights)
    colors = style.colormap(for_lines=True)
    if drawn.size:
        lines = axes.contour(
            numbers.alphas,
            numbers.betas,
            heights,
            levels=drawn,
            norm=style.color_norm(scale),
            cmap=colors,
            linewidths=0.9,
            corner_mask=False,
        )
        _write_levels(axes, lines, drawn)
        beyond = f" (none above {format_value(scale.high)})" if scale.above else ""
        sample = Line2D([], [], color=colors(0.5), linewidth=0.9, label=label + beyond)
        keys.insert(0, sample)
    elif scale.flat:
        keys.insert(0, flat_key(heights, label))
    return None, keys


def paint_holes(
    axes: Axes, numbers: PlaneNumbers, heights: NDArray[np.float64]
) -> list[Artist]:
    """Draw where there are no contours for want of values.

    Args:
        axes: Where.
        numbers: The plane.
        heights: What is contoured [n_beta, n_alpha].

    Returns:
        The legend's entries for areas not evaluated.
    """
    not_finite, unknown = numbers.quad_holes(heights)
    for mask, hatched in ((unknown, False), (not_finite, True)):
        boxes = rectangles(mask, numbers.alphas, numbers.betas)
        style.fill_rectangles(axes, boxes, hatched=hatched)
    return [style.blank_key()] if unknown.any() else []


def inside(levels: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the levels that some of the heights lie below, and some above.

    Args:
        levels: [n].
        heights: Any shape; NaN does not count.
    """
    finite = heights[~np.isnan(heights)]
    low, high = (finite.min(), finite.max()) if finite.size else (np.inf, -np.inf)
    between: NDArray[np.float64] = levels[(levels > low) & (levels < high)]
    return between


def flat_key(heights: NDArray[np.float64], label: str) -> Artist:
    """Return the legend's entry for a plane of one value, or none.

    Args:
        heights: What would be contoured [n_beta, n_alpha].
        label: Of the metric.
    """
    finite = heights[~np.isnan(heights)]
    value = f" is {format_value(float(finite[0]))}" if finite.size else " has no value"
    return style.note_key(f"no contours: {label}{value}")


def _write_levels(axes: Axes, lines: QuadContourSet, levels: NDArray[np.float64]) -> None:
    """Write values on lines where there is room, none over another."""
    texts = axes.clabel(
        lines,
        inline=False,
        fontsize=style.LINE_LABEL_SIZE,
        fmt=dict(zip(lines.levels, format_values(levels), strict=True)),
    )
    frame = axes.get_window_extent()
    center = axes.transData.transform((0.0, 0.0))
    taken = [Bbox([center - 8.0, center + 8.0])]
    times: Counter[str] = Counter()
    for text in texts:
        box = text.get_window_extent().padded(2.0)
        fits = frame.x0 < box.x0 and box.x1 < frame.x1
        fits = fits and frame.y0 < box.y0 and box.y1 < frame.y1
        fits = fits and times[text.get_text()] < _MOST_LABELS
        if fits and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            times[text.get_text()] += 1
            # Hides the line behind the text, and unlike an outline leaves the text a text.
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        else:
            text.remove()


KIND = PlaneKind(
    paint=paint,
    limit=513,  # lines through more points look the same
    bar=False,
    banded=False,
    cells=False,
    between="interpolated",
)
