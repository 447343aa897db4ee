"""Loss and accuracy along a line, on twin axes as in the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullFormatter

from onnxscape.plots.drawing import style
from onnxscape.plots.numbers.captions import count
from onnxscape.plots.numbers.line import axis_ends
from onnxscape.plots.numbers.scale import Scale, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from onnxscape.plots.drawing.style import Picture
    from onnxscape.plots.numbers.captions import Heading
    from onnxscape.plots.numbers.line import Curve, LineNumbers

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _LEGEND = 4.6, 3.1, 0.75, 0.7, 0.5, 0.4

_CENTER_LINE: dict[str, Any] = {"color": "0.6", "linewidth": 0.7, "linestyle": ":"}

_WIDTH_OF_MANY, _HEIGHT_OF_MANY = 3.4, 2.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinePanel:
    """What one panel of a picture shows.

    Attributes:
        lines: Lines drawn over one another: of one model, on different data.
        heading: Text above.
        x_label: Text below.
    """

    lines: tuple[LineNumbers, ...]
    heading: Heading
    x_label: str


def panel_width(many: bool) -> float:
    """Return how wide a heading above one panel may be, in inches.

    Args:
        many: Whether there are several panels.
    """
    return (_WIDTH_OF_MANY if many else _WIDTH) + 0.9


def compose(panels: Sequence[LinePanel], *, scale: Scale, label: str) -> Picture:
    """Draw panels in a row, all with the same axes.

    Args:
        panels: At least one.
        scale: Of the values of the main curves of all panels.
        label: Of the main metric.

    Returns:
        The picture.
    """
    many = len(panels) > 1
    w, h = (_WIDTH_OF_MANY, _HEIGHT_OF_MANY) if many else (_WIDTH, _HEIGHT)
    top = max(style.heading_height(panel.heading) for panel in panels)
    bottom = _BOTTOM + _LEGEND
    pitch = _LEFT + w + _RIGHT
    total_width, total_height = pitch * len(panels), bottom + h + top
    picture = style.new_picture(total_width, total_height)
    ends = axis_ends(scale, [line.main for panel in panels for line in panel.lines])
    for k, panel in enumerate(panels):
        box = ((k * pitch + _LEFT) / total_width, bottom / total_height, w / total_width)
        axes = picture.add_axes((*box, h / total_height))
        _panel(axes, panel, scale=scale, ends=ends, label=label)
    return picture


def _panel(
    axes: Axes, panel: LinePanel, *, scale: Scale, ends: tuple[float, float], label: str
) -> None:
    first = panel.lines[0]
    start = min(line.start for line in panel.lines)
    stop = max(line.stop for line in panel.lines)
    style.dress(axes)
    axes.set_xlim(start, stop)
    axes.set_xlabel(panel.x_label, size=style.LABEL_SIZE, color=style.INK)
    style.write_heading(axes, panel.heading)
    twin = any(line.second is not None for line in panel.lines)
    color = style.BLUE if not first.main.percent else style.RED
    _value_axis(axes, scale, ends, label=label, color=color if twin else style.INK)
    keys: list[Artist] = []
    for line in panel.lines:
        keys += _curve(axes, line.main, color=color, lowest=ends[0])
    if twin:
        right = axes.twinx()
        style.dress(right)
        percent = Scale(log=False, low=0.0, high=100.0)
        _value_axis(right, percent, (0.0, 102.0), label="accuracy (%)", color=style.RED)
        for line in panel.lines:
            if line.second is not None:
                keys += _curve(right, line.second, color=style.RED, lowest=0.0)
    for line in panel.lines:
        for low, high in line.holes:
            axes.axvspan(low, high, zorder=0.5, **style.HOLE)
    if start <= 0 <= stop:
        axes.axvline(0.0, zorder=0.8, label="center", **_CENTER_LINE)
        shown = any(math.isfinite(line.main.center) for line in panel.lines)
        star = _star(style.INK) if shown else {}
        keys.append(Line2D([], [], label="center", **_CENTER_LINE, **star))
    non_finite = sum(line.non_finite for line in panel.lines)
    if non_finite:
        keys.append(style.hole_key(count(non_finite, "point")))
    style.write_legend(axes, keys, below=_BOTTOM, columns=3, handle=2.4)


def _value_axis(
    axes: Axes, scale: Scale, ends: tuple[float, float], *, label: str, color: str
) -> None:
    if scale.log:
        axes.set_yscale("log")
    axes.set_ylim(*ends)
    positions, texts = ticks(scale, 6)
    axes.yaxis.set_major_locator(FixedLocator(positions.tolist()))
    axes.yaxis.set_major_formatter(FixedFormatter(texts))
    if scale.log and math.log10(scale.high / scale.low) < 10:
        axes.yaxis.set_minor_locator(LogLocator(subs=np.arange(2.0, 10.0).tolist()))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", labelcolor=color, which="major")
    axes.set_ylabel(label, size=style.LABEL_SIZE, color=color)


def _curve(axes: Axes, curve: Curve, *, color: str, lowest: float) -> list[Artist]:
    keys: list[Artist] = []
    line = Line2D(
        curve.steps,
        curve.values,
        color=color,
        linewidth=1.4,
        linestyle="--" if curve.dashed else "-",
        marker="o" if curve.marked else None,
        markersize=2.6,
        label=style.plain(curve.label),
    )
    keys.append(axes.add_line(line))
    if curve.error is not None:
        lower, upper = curve.band(lowest)
        band = axes.fill_between(
            curve.steps, lower, upper, color=color, alpha=0.2, linewidth=0.0
        )
        band.set_label("± standard error")
        keys.append(band)
    if math.isfinite(curve.center):
        axes.plot(
            [0.0],
            [curve.center],
            linestyle="none",
            zorder=5,
            **_star(color),
        )
    return keys


def _star(color: str) -> dict[str, Any]:
    return {
        "marker": "*",
        "markersize": 8,
        "markerfacecolor": "white",
        "markeredgecolor": color,
        "markeredgewidth": 0.9,
    }
