"""Fonts, colors and marks that all pictures share."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.offsetbox import DrawingArea, HPacker, TextArea
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from onnxscape.plots.numbers.captions import Heading
    from onnxscape.plots.numbers.scale import Scale

NAME_SIZE = 10.5
DETAIL_SIZE = 8.5
LABEL_SIZE = 9.5
TICK_SIZE = 8.0
LINE_LABEL_SIZE = 6.5
LINE_HEIGHT = 1.35
"""Distance of lines of text, in units of their size."""

INK = "0.15"
GREY = "0.35"
HOLE: dict[str, Any] = {
    "facecolor": "0.86",
    "edgecolor": "0.55",
    "hatch": "////",
    "linewidth": 0.0,
}
BLANK: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "none", "linewidth": 0.0}
_NOTE = "note"
"""Marks the entries of a legend that have no symbol."""

BLUE = "#1f5fa8"
RED = "#c0392b"


class Picture(Figure):
    """A figure that notebooks show although it was made without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
        return buffer.getvalue()


def new_picture(width: float, height: float) -> Picture:
    """Return an empty picture.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The picture, with a canvas that can measure text.
    """
    picture = Picture(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(picture)
    return picture


def colormap(*, for_lines: bool = False) -> Colormap:
    """Return the perceptually uniform colors of all pictures.

    Args:
        for_lines: Leave out the brightest, which do not show on white.
    """
    colors = mpl.colormaps["viridis"]
    return ListedColormap(colors(np.linspace(0.0, 0.88, 256))) if for_lines else colors


def color_norm(scale: Scale) -> Normalize:
    """Return how values become colors.

    Args:
        scale: Of the values.
    """
    kind = LogNorm if scale.log else Normalize
    return kind(vmin=scale.low, vmax=scale.high, clip=False)


def extension(scale: Scale) -> Literal["neither", "both", "min", "max"]:
    """Return at which ends of a color bar arrows say that values lie beyond.

    Args:
        scale: Of the values.
    """
    if scale.below:
        return "both" if scale.above else "min"
    return "max" if scale.above else "neither"


def drawable(text: str) -> str:
    """Replace what the font has no shape for: a name may hold anything.

    Args:
        text: Text from outside, to be drawn as it is.

    Returns:
        The text with a question mark for each unknown character.
    """
    shapes = font_manager.get_font(font_manager.findfont(FontProperties())).get_charmap()
    return "".join(c if ord(c) in shapes else "?" for c in text)


def plain(text: str) -> str:
    """Return a text from outside for labels: nothing in it is mathematics.

    Args:
        text: For instance the name of a metric.
    """
    return drawable(text).replace("$", r"\$")


def write_heading(
    axes: Axes, heading: Heading, *, gap: float = 5.0, offset: float = 0.0
) -> None:
    """Write a heading above axes, centered.

    Args:
        axes: Where.
        heading: What.
        gap: Distance from the axes, in points.
        offset: To the right, in points.
    """
    height = gap
    texts = [(line, DETAIL_SIZE, "normal", GREY) for line in heading.details]
    texts = [(line, NAME_SIZE, "bold", INK) for line in heading.name] + texts
    for line, size, weight, color in reversed(texts):
        axes.annotate(
            drawable(line),
            xy=(0.5, 1.0),
            xycoords="axes fraction",
            xytext=(offset, height),
            textcoords="offset points",
            ha="center",
            va="baseline",
            size=size,
            weight=weight,
            color=color,
            parse_math=False,
            annotation_clip=False,
        )
        height += size * LINE_HEIGHT


def heading_height(heading: Heading) -> float:
    """Return how high a heading is, in inches.

    Args:
        heading: Any.
    """
    lines = len(heading.name) * NAME_SIZE + len(heading.details) * DETAIL_SIZE
    return (lines * LINE_HEIGHT + 8.0) / 72.0


def characters(inches: float, size: float, *, bold: bool = False) -> int:
    """Return how many characters surely fit into a width.

    Args:
        inches: The width.
        size: Of the font, in points.
        bold: Whether the font is bold.
    """
    return max(12, int(inches * 72.0 / (size * (0.66 if bold else 0.57))))


def dress(axes: Axes) -> None:
    """Give axes thin spines and small ticks.

    Args:
        axes: Which.
    """
    axes.set_facecolor("white")
    axes.grid(visible=False)
    axes.tick_params(labelsize=TICK_SIZE, width=0.6, length=3.0, color=GREY, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=GREY)


def fill_rectangles(axes: Axes, boxes: NDArray[np.float64], *, hatched: bool) -> None:
    """Draw areas without values.

    Args:
        axes: Where.
        boxes: [k, 4]: left, bottom, right, top.
        hatched: Whether the values are known not to be finite, rather than unknown.
    """
    if not len(boxes):
        return
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3, 0, 1]].reshape(-1, 2)
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(boxes))
    style = HOLE if hatched else BLANK
    axes.add_patch(PathPatch(Path(corners, codes), zorder=0.5, **style))


def hole_key(count: str) -> Patch:
    """Return the legend's entry for hatched areas.

    Args:
        count: How many points they hold.
    """
    return Patch(label=f"not finite ({count})", **HOLE)


def blank_key() -> Patch:
    """Return the legend's entry for areas not evaluated."""
    return Patch(label="not evaluated", facecolor="0.95", edgecolor="0.6", linewidth=0.5)


def center_key() -> Line2D:
    """Return the center's mark: a star that shows on dark and bright."""
    return Line2D(
        [0.0],
        [0.0],
        linestyle="none",
        marker="*",
        markersize=9,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.7,
        label="center",
        zorder=10,
    )


def write_legend(
    axes: Axes, handles: Sequence[Artist], *, below: float, columns: int, handle: float = 1.8
) -> None:
    """Write a legend below axes.

    Args:
        axes: Which.
        handles: Its entries.
        below: Distance from the axes, in inches.
        columns: Entries in a row.
        handle: Length of the lines in it, in units of the font.
    """
    if not handles:
        return
    height = axes.get_position().height * picture_size(axes)[1]
    legend = axes.legend(
        handles=list(handles),
        loc="upper center",
        bbox_to_anchor=(0.5, -below / height),
        ncols=min(columns, len(handles)),
        frameon=False,
        borderaxespad=0.0,
        borderpad=0.0,
        fontsize=TICK_SIZE,
        labelcolor=INK,
        handlelength=handle,
        columnspacing=1.4,
        handletextpad=0.5,
    )
    notes = {handle.get_label() for handle in handles if handle.get_gid() == _NOTE}
    for entry in legend.findobj(HPacker):
        symbol, *texts = entry.get_children()
        said = {text.get_text() for text in texts if isinstance(text, TextArea)}
        if isinstance(symbol, DrawingArea) and said & notes:
            symbol.width = entry.sep = 0.0


def note_key(text: str) -> Line2D:
    """Return a legend's entry that is text alone.

    Args:
        text: The note.
    """
    return Line2D([], [], linestyle="none", label=text, gid=_NOTE)


def picture_size(axes: Axes) -> tuple[float, float]:
    """Return width and height of the whole picture that axes stand in, in inches.

    Args:
        axes: Which.
    """
    figure = axes.figure
    return float(figure.bbox.width / figure.dpi), float(figure.bbox.height / figure.dpi)
