"""Heat map: one cell per point, centered on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.plots.drawing import style
from onnxscape.plots.drawing.planar import PlaneKind
from onnxscape.plots.numbers.plane import rectangles

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from numpy.typing import NDArray

    from onnxscape.plots.numbers.plane import PlaneNumbers
    from onnxscape.plots.numbers.scale import Scale

_MOST_VECTOR_CELLS = 4096


def paint(
    axes: Axes,
    numbers: PlaneNumbers,
    *,
    scale: Scale,
    levels: NDArray[np.float64],
    label: str,
) -> tuple[ScalarMappable | None, list[Artist]]:
    """Draw cells.

    Args:
        axes: Where.
        numbers: The plane.
        scale: How values become colors.
        levels: Unused: a heat map shows every value.
        label: Of the metric; the color bar says it.

    Returns:
        What the color bar explains, and the legend's entries.
    """
    values, holes = numbers.cells()
    mesh = axes.pcolormesh(
        numbers.x_edges,
        numbers.y_edges,
        np.ma.masked_invalid(values),
        norm=style.color_norm(scale),
        cmap=style.colormap(),
        shading="flat",
        # Thousands of cells as vectors make files that viewers choke on.
        rasterized=values.size > _MOST_VECTOR_CELLS,
    )
    boxes = rectangles(holes, numbers.x_edges, numbers.y_edges)
    style.fill_rectangles(axes, boxes, hatched=True)
    return mesh, []


KIND = PlaneKind(
    paint=paint,
    limit=1024,  # about as many cells as a picture has pixels
    bar=True,
    banded=False,
    cells=True,
    between="nearest",
)
