"""The frame of pictures of planes seen from above: sizes, axes, color bar, legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from matplotlib.lines import Line2D

from onnxscape.plots.drawing import style
from onnxscape.plots.numbers.captions import count
from onnxscape.plots.numbers.scale import format_values, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from numpy.typing import NDArray

    from onnxscape.plots.drawing.style import Picture
    from onnxscape.plots.numbers.captions import Heading
    from onnxscape.plots.numbers.plane import PlaneNumbers
    from onnxscape.plots.numbers.scale import Scale

_SIDE = 4.2
"""Longer side of a single panel, in inches."""

_SIDE_OF_MANY = 3.3
"""Longer side of each of several panels."""

_MOST_STRETCHED = 3.0
"""Steps along both axes are drawn equally long unless one axis is longer than this."""

_LEFT, _RIGHT, _BOTTOM, _BETWEEN, _BAR = 0.75, 0.15, 0.5, 0.7, 1.0
"""Room around panels for ticks, labels and the color bar, in inches."""

_MOST_DOTS = 4000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanePanel:
    """What one panel of a picture shows.

    Attributes:
        numbers: The plane.
        heading: Text above.
        x_label: Text below.
        y_label: Text on the left.
    """

    numbers: PlaneNumbers
    heading: Heading
    x_label: str
    y_label: str


class Paint(Protocol):
    """Draws one kind of picture into axes."""

    def __call__(
        self,
        axes: Axes,
        numbers: PlaneNumbers,
        *,
        scale: Scale,
        levels: NDArray[np.float64],
        label: str,
    ) -> tuple[ScalarMappable | None, list[Artist]]:
        """Draw values; return what a color bar explains, if any, and keys for the legend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneKind:
    """One kind of picture of a plane seen from above.

    Attributes:
        paint: Draws the values of a panel.
        limit: Most points along each axis that it can show.
        bar: Whether a color bar explains the colors.
        banded: Whether the bar's colors change at the contour levels.
        cells: Whether the axes reach to the borders of cells, not just to the points.
        between: What it shows between the points of an unfinished plane.
    """

    paint: Paint
    limit: int
    bar: bool
    banded: bool
    cells: bool
    between: str


def panel_width(many: bool) -> float:
    """Return how wide a heading above one panel may be, in inches.

    Args:
        many: Whether there are several panels.
    """
    return _SIDE_OF_MANY + 0.4 if many else _SIDE + 0.6


def compose(
    panels: Sequence[PlanePanel],
    kind: PlaneKind,
    *,
    scale: Scale,
    levels: NDArray[np.float64],
    label: str,
) -> Picture:
    """Draw panels in a row, all on one scale.

    Args:
        panels: At least one.
        kind: How their values are drawn.
        scale: Of the values of all panels.
        levels: Of contours, shared too.
        label: Of the metric.

    Returns:
        The picture.
    """
    side = _SIDE if len(panels) == 1 else _SIDE_OF_MANY
    sizes = [_size(panel.numbers.ends(cells=kind.cells), side) for panel in panels]
    height = max(h for _, h in sizes)
    top = max(style.heading_height(panel.heading) for panel in panels)
    bottom = _BOTTOM + 0.45  # the legend, at most two rows
    total_width = _LEFT + sum(w for w, _ in sizes) + _BETWEEN * (len(panels) - 1) + _RIGHT
    bar = kind.bar and not (scale.flat and (kind.banded or _is_empty(panels)))
    total_width += _BAR if bar else 0.0
    total_height = bottom + height + top
    picture = style.new_picture(total_width, total_height)
    left = _LEFT
    mappable = None
    before = ""
    for panel, (w, h) in zip(panels, sizes, strict=True):
        lift = bottom + (height - h) / 2
        axes = picture.add_axes(
            (left / total_width, lift / total_height, w / total_width, h / total_height)
        )
        painted = _panel(axes, panel, kind, scale=scale, levels=levels, label=label)
        # The label of one panel serves those to its right that have the same.
        y_label = "" if panel.y_label == before else panel.y_label
        axes.set_ylabel(y_label, size=style.LABEL_SIZE, color=style.INK, labelpad=1.0)
        before = panel.y_label
        mappable = mappable or painted
        left += w + _BETWEEN
    if bar and mappable is not None:
        left += 0.15 - _BETWEEN
        box = (left / total_width, bottom / total_height, 0.16 / total_width)
        bar_axes = picture.add_axes((*box, height / total_height))
        borders = levels if kind.banded else levels[:0]
        _color_bar(picture, mappable, bar_axes, scale=scale, borders=borders, label=label)
    return picture


def _is_empty(panels: Sequence[PlanePanel]) -> bool:
    """Return whether no panel has a finite value."""
    return not any(np.isfinite(panel.numbers.values).any() for panel in panels)


def _size(ends: tuple[float, float, float, float], side: float) -> tuple[float, float]:
    """Return width and height of a panel, in inches."""
    left, right, bottom, top = ends
    ratio = (top - bottom) / (right - left)
    if not 1 / _MOST_STRETCHED <= ratio <= _MOST_STRETCHED:
        ratio = 1.0
    return (side, side * ratio) if ratio <= 1 else (side / ratio, side)


def _panel(
    axes: Axes,
    panel: PlanePanel,
    kind: PlaneKind,
    *,
    scale: Scale,
    levels: NDArray[np.float64],
    label: str,
) -> ScalarMappable | None:
    numbers = panel.numbers
    style.dress(axes)
    axes.set_xlabel(panel.x_label, size=style.LABEL_SIZE, color=style.INK)
    style.write_heading(axes, panel.heading)
    left, right, low, high = numbers.ends(cells=kind.cells)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    # Before painting: where labels of contours fit depends on what is drawn so far.
    keys: list[Artist] = []
    if numbers.shows_center:
        keys.append(axes.add_line(style.center_key()))
    mappable, more = kind.paint(axes, numbers, scale=scale, levels=levels, label=label)
    keys += more
    if numbers.missing:
        keys += _dots(axes, numbers, kind.between)
    if numbers.non_finite:
        keys.append(style.hole_key(count(numbers.non_finite, "point")))
    width = axes.get_position().width * style.picture_size(axes)[0]
    style.write_legend(axes, keys, below=_BOTTOM, columns=max(1, int(width / 1.2)))
    return mappable


def _dots(axes: Axes, numbers: PlaneNumbers, between: str) -> list[Artist]:
    rows, columns = np.nonzero(numbers.evaluated)
    if not 0 < rows.size <= _MOST_DOTS:
        return [style.note_key(f"between points: {between}")]
    dots = Line2D(
        numbers.alphas[columns],
        numbers.betas[rows],
        linestyle="none",
        marker="o",
        markersize=2.2,
        markerfacecolor="black",
        markeredgecolor="white",
        markeredgewidth=0.4,
        label=f"evaluated (between: {between})",
        zorder=3,
        clip_on=False,
    )
    return [axes.add_line(dots)]


def _color_bar(
    picture: Picture,
    mappable: ScalarMappable,
    axes: Axes,
    *,
    scale: Scale,
    borders: NDArray[np.float64],
    label: str,
) -> None:
    bar = picture.colorbar(
        mappable,
        cax=axes,
        extend=style.extension(scale),
        extendfrac=0.03,
    )
    positions, texts = ticks(scale, 8)
    # The borders of bands are named; some are left out where they crowd.
    if borders.size:
        positions = borders[:: -(-borders.size // 16)]
        texts = format_values(positions)
    bar.set_ticks(positions.tolist(), labels=texts)
    bar.ax.minorticks_off()
    style.dress(bar.ax)
    bar.outline.set(linewidth=0.6, edgecolor=style.GREY)
    bar.set_label(label, size=style.LABEL_SIZE, color=style.INK)
