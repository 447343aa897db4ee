"""The plane as a surface in space, lit from one side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

from onnxscape.plots.drawing import style
from onnxscape.plots.numbers.captions import count
from onnxscape.plots.numbers.relief import (
    DEPTH,
    center_height,
    height_label,
    height_scale,
    relief,
)
from onnxscape.plots.numbers.scale import Scale, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]

    from onnxscape.plots.drawing.planar import PlanePanel
    from onnxscape.plots.drawing.style import Picture
    from onnxscape.plots.numbers.plane import PlaneNumbers

LIMIT = 81
"""Most points along an axis: smaller facets are not told apart."""

_WIDTH, _HEIGHT, _BOTTOM = 5.0, 4.0, 0.55

_ELEVATION, _AZIMUTH = 38.0, -60.0


def compose(panels: Sequence[PlanePanel], *, scale: Scale, label: str) -> Picture:
    """Draw surfaces in a row, all with one axis of heights.

    Args:
        panels: At least one.
        scale: Of the values of all panels.
        label: Of the metric.

    Returns:
        The picture.
    """
    top = max(style.heading_height(panel.heading) for panel in panels)
    total_width, total_height = _WIDTH * len(panels), _BOTTOM + _HEIGHT + top
    picture = style.new_picture(total_width, total_height)
    for k, panel in enumerate(panels):
        box = (k / len(panels), _BOTTOM / total_height, 1 / len(panels))
        axes: Axes3D = picture.add_axes(
            (*box, _HEIGHT / total_height), projection="3d", computed_zorder=False
        )
        _panel(axes, panel, scale=scale, label=label)
    return picture


def _panel(axes: Axes3D, panel: PlanePanel, *, scale: Scale, label: str) -> None:
    numbers = panel.numbers
    facets = relief(numbers, scale)
    if len(facets.corners):
        colors = style.colormap()(facets.tones)
        colors[:, :3] *= facets.brightness[:, np.newaxis]
        # Edges of the facet's own color close the seams that anti-aliasing leaves.
        axes.add_collection3d(
            Poly3DCollection(
                list(facets.corners), facecolors=colors, edgecolors=colors, linewidths=0.35
            )
        )
    _frame(axes, panel, scale=scale, label=label)
    keys: list[Artist] = []
    height = center_height(numbers, scale)
    if math.isfinite(height):
        mark = style.center_key()
        axes.plot(
            [0.0],
            [0.0],
            [height],
            linestyle="none",
            marker="*",
            markersize=mark.get_markersize(),
            markerfacecolor="white",
            markeredgecolor="black",
            markeredgewidth=0.7,
            zorder=10,
        )
        keys.append(mark)
    keys += _hole_keys(numbers)
    style.write_legend(axes, keys, below=0.3, columns=3)


def _frame(axes: Axes3D, panel: PlanePanel, *, scale: Scale, label: str) -> None:
    numbers = panel.numbers
    axes.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    axes.set_box_aspect((1.0, 1.0, DEPTH), zoom=1.0)
    axes.set_facecolor("white")
    axes.set_xlim(numbers.alphas[0], numbers.alphas[-1])
    axes.set_ylim(numbers.betas[0], numbers.betas[-1])
    heights = height_scale(scale)
    axes.set_zlim(heights.low, heights.high)
    steps_x = Scale(log=False, low=float(numbers.alphas[0]), high=float(numbers.alphas[-1]))
    steps_y = Scale(log=False, low=float(numbers.betas[0]), high=float(numbers.betas[-1]))
    for axis, text, values in (
        (axes.xaxis, panel.x_label, steps_x),
        (axes.yaxis, panel.y_label, steps_y),
        (axes.zaxis, height_label(label, scale), heights),
    ):
        positions, texts = ticks(values, 5)
        axis.set_ticks(positions.tolist(), labels=texts)
        axis.set_label_text(text, size=style.LABEL_SIZE - 1.5, color=style.INK)
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
        axis.line.set(linewidth=0.6, color=style.GREY)
        axis.set_tick_params(labelsize=style.TICK_SIZE - 0.5, labelcolor=style.INK, pad=0.0)
        # There is no public way to thin the lines of the grid.
        axis._axinfo["grid"].update(color="0.88", linewidth=0.5)  # noqa: SLF001
    # The axes of steps meet in the nearest corner: their labels go apart from there.
    for axis, side in ((axes.xaxis, "right"), (axes.yaxis, "left")):
        for tick in axis.get_major_ticks():
            tick.label1.set(ha=side, va="center")
    axes.zaxis.set_rotate_label(False)
    axes.zaxis.label.set_rotation(90.0)
    # Powers of ten are wide: they and the label move away from the axis.
    wide = any("times" in text or len(text) > 5 for text in texts)
    axes.zaxis.set_tick_params(pad=8.0 if wide else 3.0)
    axes.zaxis.labelpad = 11.0 if wide else 4.0
    style.write_heading(axes, panel.heading, gap=0.0)


def _hole_keys(numbers: PlaneNumbers) -> list[Artist]:
    """Return the legend's entries that say why the surface has gaps."""
    keys: list[Artist] = []
    if numbers.non_finite:
        keys.append(style.note_key(f"gaps: not finite ({count(numbers.non_finite, 'point')})"))
    if numbers.missing:
        keys.append(style.note_key("between points: interpolated"))
    return keys
