"""Pictures of one landscape or several: check what is asked, take the numbers, draw, save.

matplotlib is imported when the first picture is drawn: most commands draw none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.errors import UsageError
from onnxscape.plots.numbers.captions import is_percent
from onnxscape.plots.numbers.plane import center_value, display_values
from onnxscape.plots.numbers.scale import LARGEST, choose_levels, choose_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from onnxscape.core.grid import Axis
    from onnxscape.core.landscape import Landscape
    from onnxscape.plots.drawing.style import Picture

KINDS_LINE = ("line",)
"""Pictures of a line."""

KINDS_PLANE = ("contour", "filled", "heatmap", "surface")
"""Pictures of a plane."""

SUFFIXES = (".png", ".pdf", ".svg")
"""Files that pictures are saved as."""

_MOST_PANELS = 8


def kinds_for(landscape: Landscape) -> tuple[str, ...]:
    """Return the kinds of pictures that fit a landscape, the default first.

    Args:
        landscape: On a line or a plane.
    """
    return KINDS_LINE if len(landscape.grid.shape) == 1 else KINDS_PLANE


def draw(
    landscape: Landscape,
    kind: str | None = None,
    *,
    path: str | Path | None = None,
    metric: str = "loss",
    scale: str = "auto",
    levels: int | Sequence[float] | None = None,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw a landscape.

    A value that is not finite is shown as such (hatched), never replaced. Of an unfinished
    landscape what is known is drawn, and the heading says how much that is.

    Args:
        landscape: On a line or a plane; may be incomplete.
        kind: `line` for a line; `contour`, `filled`, `heatmap` or `surface` for a plane. By
            default `line` or `contour`.
        path: Where to save the picture (.png, .pdf or .svg), if anywhere.
        metric: Which surface; beside the loss on a line the accuracy is drawn too.
        scale: `linear`, `log`, or `auto`: logarithmic where values span decades.
        levels: About how many contour levels, or the levels themselves.
        title: Instead of the model's name; an empty one leaves out the whole heading.
        vmin: Lower end of the scale, by default the smallest value.
        vmax: Upper end of the scale, by default the largest value.

    Returns:
        The matplotlib figure; notebooks show it.

    Raises:
        UsageError: If the kind does not fit the grid, the metric is not there, the suffix
            is not known, or scale, levels or ends make no sense.
        OutputError: If the file cannot be written.
        StorageError: If the disk is full or fails.
    """
    return _draw(
        [landscape],
        kind,
        path=path,
        metric=metric,
        scale=scale,
        levels=levels,
        titles=None if title is None else [title],
        vmin=vmin,
        vmax=vmax,
    )


def draw_side_by_side(
    landscapes: Sequence[Landscape],
    kind: str | None = None,
    *,
    path: str | Path | None = None,
    titles: Sequence[str] | None = None,
    metric: str = "loss",
    scale: str = "auto",
    levels: int | Sequence[float] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw landscapes in a row, with the same scale, colors and levels, to compare them.

    Lines of one model on its training and its test data share a panel, solid and dashed, as
    in the paper, unless titles are given.

    Args:
        landscapes: From 1 to 8, all on lines or all on planes; the grids may differ.
        kind: As for `draw`.
        path: Where to save the picture (.png, .pdf or .svg), if anywhere.
        titles: One per landscape, instead of the models' names.
        metric: As for `draw`; every landscape must have it.
        scale: As for `draw`; decided on the values of all.
        levels: As for `draw`.
        vmin: As for `draw`.
        vmax: As for `draw`.

    Returns:
        The matplotlib figure; notebooks show it.

    Raises:
        UsageError: As for `draw`; also for lines among planes, too many landscapes, or
            another number of titles.
        OutputError: If the file cannot be written.
        StorageError: If the disk is full or fails.
    """
    if not 1 <= len(landscapes) <= _MOST_PANELS:
        raise UsageError(
            f"expected from 1 to {_MOST_PANELS} landscapes side by side, got {len(landscapes)}"
        )
    if titles is not None and len(titles) != len(landscapes):
        raise UsageError(
            f"expected one title per landscape, got {len(titles)} titles "
            f"for {len(landscapes)} landscapes"
        )
    return _draw(
        landscapes,
        kind,
        path=path,
        metric=metric,
        scale=scale,
        levels=levels,
        titles=titles,
        vmin=vmin,
        vmax=vmax,
    )


def save_all(
    landscape: Landscape,
    stem: str | Path,
    *,
    report: Callable[[str], None] | None = None,
) -> list[Path]:
    """Save every kind of picture that fits a landscape as `STEM_KIND.png`.

    Args:
        landscape: On a line or a plane; may be incomplete.
        stem: Folder and beginning of the names; `runs/s` gives `runs/s_contour.png`.
        report: Told the path of each picture once it is written.

    Returns:
        The paths, in the order of the kinds.

    Raises:
        OutputError: If a file cannot be written; pictures written before are kept.
        StorageError: If the disk is full or fails.
    """
    paths = []
    for kind in kinds_for(landscape):
        path = Path(f"{stem}_{kind}.png")
        draw(landscape, kind, path=path)
        paths.append(path)
        if report is not None:
            report(str(path))
    return paths


def _draw(
    landscapes: Sequence[Landscape],
    kind: str | None,
    *,
    path: str | Path | None,
    metric: str,
    scale: str,
    levels: int | Sequence[float] | None,
    titles: Sequence[str] | None,
    vmin: float | None,
    vmax: float | None,
) -> Picture:
    kind = _check_kind(landscapes, kind)
    target = None if path is None else _check_suffix(Path(path))
    _check_metric(landscapes, metric)
    for landscape in landscapes:
        for axis in (landscape.grid.x, landscape.grid.y):
            if axis is not None:
                _check_axis(axis)
    if levels is not None and kind not in {"contour", "filled"}:
        raise UsageError(f"levels are for contour and filled; a {kind} picture has none")
    values = [display_values(landscape, metric).ravel() for landscape in landscapes]
    if kind == "line":
        values += [center_value(landscape, metric) for landscape in landscapes]
    chosen = choose_scale(
        np.concatenate(values), wanted=scale, vmin=vmin, vmax=vmax, percent=is_percent(metric)
    )
    # Imported here, not above: matplotlib takes longer to load than most commands to run.
    from onnxscape.plots.drawing import files, rows  # noqa: PLC0415

    if kind == "line":
        picture = rows.lines(landscapes, metric=metric, scale=chosen, titles=titles)
    else:
        contours = choose_levels(chosen, levels)
        picture = rows.planes(
            landscapes, kind, metric=metric, scale=chosen, levels=contours, titles=titles
        )
    if target is not None:
        files.save(picture, target)
    return picture


def _check_kind(landscapes: Sequence[Landscape], kind: str | None) -> str:
    fitting = kinds_for(landscapes[0])
    for number, landscape in enumerate(landscapes, 1):
        if kinds_for(landscape) != fitting:
            shapes = ("a line", "a plane")
            first, other = shapes if fitting == KINDS_LINE else shapes[::-1]
            raise UsageError(
                f"pictures side by side need landscapes alike, but the first is {first} "
                f"and number {number} is {other}; draw them one by one"
            )
    if kind is None:
        return fitting[0]
    if kind not in fitting:
        what = "a line" if fitting == KINDS_LINE else "a plane"
        known = kind in KINDS_LINE + KINDS_PLANE
        problem = f"a {kind} picture does not fit" if known else f"no kind {kind!r} for"
        raise UsageError(f"{problem} {what}; kinds that fit: {', '.join(fitting)}")
    return kind


def _check_suffix(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"a picture is saved as {', '.join(SUFFIXES)}, got {path.name!r}; "
            "give the file one of these suffixes"
        )
    return path


def _check_metric(landscapes: Sequence[Landscape], metric: str) -> None:
    for landscape in landscapes:
        if metric not in landscape.surfaces:
            name = landscape.provenance.get("model", "this landscape")
            raise UsageError(
                f"no metric {metric!r} in {name}; it has {', '.join(landscape.surfaces)}"
            )


def _check_axis(axis: Axis) -> None:
    """Refuse steps that the arithmetic of a picture cannot tell apart.

    Raises:
        UsageError: If there are such.
    """
    largest = max(abs(axis.start), abs(axis.stop))
    gaps = np.diff(axis.coordinates())
    if largest > LARGEST or gaps.min() <= 1e-9 * largest / axis.num or gaps.min() <= 0:
        raise UsageError(
            f"a grid with the axis {axis} cannot be drawn: steps must differ, relative to "
            f"their size, and stay below {LARGEST:g}"
        )
