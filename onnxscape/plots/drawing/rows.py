"""Rows of panels: one landscape or several, each handed to the drawing of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.plots.drawing import contour, filled, heatmap, line, planar, style, surface
from onnxscape.plots.drawing.line import LinePanel
from onnxscape.plots.drawing.planar import PlanePanel
from onnxscape.plots.numbers.captions import (
    axis_label,
    heading,
    joined,
    metric_label,
    split_of,
)
from onnxscape.plots.numbers.line import line_numbers
from onnxscape.plots.numbers.plane import plane_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from onnxscape.core.landscape import Landscape
    from onnxscape.plots.drawing.style import Picture
    from onnxscape.plots.numbers.captions import Heading
    from onnxscape.plots.numbers.scale import Scale

_SEEN_FROM_ABOVE = {
    "contour": contour.KIND,
    "filled": filled.KIND,
    "heatmap": heatmap.KIND,
}


def planes(
    landscapes: Sequence[Landscape],
    kind: str,
    *,
    metric: str,
    scale: Scale,
    levels: NDArray[np.float64],
    titles: Sequence[str] | None,
) -> Picture:
    """Draw planes in a row.

    Args:
        landscapes: On planes.
        kind: One of the kinds for planes.
        metric: Which surface.
        scale: Of the values of all.
        levels: Of contours, shared too.
        titles: One per landscape, or None for the models' names.

    Returns:
        The picture.
    """
    width = planar.panel_width(many=len(landscapes) > 1)
    limit = surface.LIMIT if kind == "surface" else _SEEN_FROM_ABOVE[kind].limit
    panels = [
        PlanePanel(
            numbers=plane_numbers(landscape, metric, limit),
            heading=_heading(landscape, metric, titles, k, width),
            x_label=axis_label("x", landscape.spec),
            y_label=axis_label("y", landscape.spec),
        )
        for k, landscape in enumerate(landscapes)
    ]
    label = style.plain(metric_label(metric))
    if kind == "surface":
        return surface.compose(panels, scale=scale, label=label)
    return planar.compose(
        panels, _SEEN_FROM_ABOVE[kind], scale=scale, levels=levels, label=label
    )


def lines(
    landscapes: Sequence[Landscape],
    *,
    metric: str,
    scale: Scale,
    titles: Sequence[str] | None,
) -> Picture:
    """Draw lines in a row; training and test data of one model share a panel.

    Args:
        landscapes: On lines.
        metric: Which surface.
        scale: Of its values, of all landscapes.
        titles: One per landscape, or None for the models' names.

    Returns:
        The picture.
    """
    groups: list[list[int]] = []
    for k, landscape in enumerate(landscapes):
        if titles is None and groups and _belongs(landscape, landscapes, groups[-1]):
            groups[-1].append(k)
        else:
            groups.append([k])
    width = line.panel_width(many=len(groups) > 1)
    panels = [
        LinePanel(
            lines=tuple(line_numbers(landscapes[k], metric) for k in group),
            heading=joined([_heading(landscapes[k], metric, titles, k, width) for k in group]),
            x_label=_line_label(landscapes[group[0]]),
        )
        for group in groups
    ]
    return line.compose(panels, scale=scale, label=style.plain(metric_label(metric)))


def _belongs(
    landscape: Landscape, landscapes: Sequence[Landscape], group: Sequence[int]
) -> bool:
    """Return whether a line goes into the panel of others: same model, axis, other split."""
    others = [landscapes[k] for k in group]
    splits = {split_of(other) for other in others}
    first = others[0]
    if None in splits | {split_of(landscape)} or split_of(landscape) in splits:
        return False
    if first.spec is None or landscape.spec is None:
        return False
    fields = ("model", "seed", "normalization", "ignore", "directions")
    alike = all(getattr(first.spec, f) == getattr(landscape.spec, f) for f in fields)
    return alike and (first.alphas is None) == (landscape.alphas is None)


def _line_label(landscape: Landscape) -> str:
    return axis_label("y" if landscape.alphas is None else "x", landscape.spec)


def _heading(
    landscape: Landscape, metric: str, titles: Sequence[str] | None, k: int, width: float
) -> Heading:
    return heading(
        landscape,
        metric,
        title=None if titles is None else titles[k],
        name_width=style.characters(width, style.NAME_SIZE, bold=True),
        width=style.characters(width, style.DETAIL_SIZE),
    )
