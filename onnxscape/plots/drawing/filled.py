"""Filled contours with a color bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.plots.drawing import style
from onnxscape.plots.drawing.contour import flat_key, inside, paint_holes
from onnxscape.plots.drawing.planar import PlaneKind

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from numpy.typing import NDArray

    from onnxscape.plots.numbers.plane import PlaneNumbers
    from onnxscape.plots.numbers.scale import Scale


def paint(
    axes: Axes,
    numbers: PlaneNumbers,
    *,
    scale: Scale,
    levels: NDArray[np.float64],
    label: str,
) -> tuple[ScalarMappable | None, list[Artist]]:
    """Fill the bands between contour levels.

    Args:
        axes: Where.
        numbers: The plane.
        scale: How values become colors.
        levels: Borders of the bands, increasing.
        label: Of the metric; the color bar says it.

    Returns:
        What the color bar explains, if there is more than one value, and the legend's
        entries.
    """
    known = numbers.heights(log=scale.log)
    heights = np.clip(known, scale.low, scale.high)
    keys = paint_holes(axes, numbers, heights)
    bands = axes.contourf(
        numbers.alphas,
        numbers.betas,
        heights,
        levels=[scale.low, *levels, scale.high],
        norm=style.color_norm(scale),
        cmap=style.colormap(),
        extend=style.extension(scale),
        corner_mask=False,
    )
    # Viewers of vector files show hairlines between polygons that merely touch.
    bands.set(edgecolor="face", linewidth=0.3)
    drawn = inside(levels, heights)
    if drawn.size:
        axes.contour(
            numbers.alphas,
            numbers.betas,
            heights,
            levels=drawn,
            colors="white",
            linewidths=0.35,
            alpha=0.6,
            corner_mask=False,
        )
    if scale.flat:
        keys.insert(0, flat_key(known, label))
        return None, keys
    return bands, keys


KIND = PlaneKind(
    paint=paint, limit=513, bar=True, banded=True, cells=False, between="interpolated"
)
