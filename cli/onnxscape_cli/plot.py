"""`onnxscape plot`: pictures of surfaces that were evaluated before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxscape.errors import UsageError
from onnxscape.evaluation.api import load
from onnxscape.plots import (
    KINDS_LINE,
    KINDS_PLANE,
    SUFFIXES,
    draw,
    draw_side_by_side,
    kinds_for,
)
from onnxscape_cli.exit_status import DONE


@click.command("plot")
@click.argument("surfaces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([*KINDS_LINE, *KINDS_PLANE]),
    help="Kind of picture; may be repeated.  [default: all that fit]",
)
@click.option(
    "--format",
    "suffix",
    type=click.Choice([s[1:] for s in SUFFIXES]),
    default="png",
    show_default=True,
    help="Format of STEM_KIND files beside the surface.",
)
@click.option("--out", type=click.Path(path_type=Path), help="One picture, to this file.")
@click.option("--together", is_flag=True, help="All surfaces side by side, on one scale.")
@click.option("--title", "titles", multiple=True, help="Instead of a model's name; one each.")
@click.option("--metric", default="loss", show_default=True, help="Which surface to draw.")
@click.option(
    "--scale",
    type=click.Choice(["auto", "linear", "log"]),
    default="auto",
    show_default=True,
    help="Of the values.",
)
@click.option("--levels", type=click.IntRange(2, 100), help="About how many contour levels.")
@click.option("--vmin", type=float, help="Lower end of the scale.")
@click.option("--vmax", type=float, help="Upper end of the scale.")
def command(
    surfaces: tuple[Path, ...],
    *,
    kinds: tuple[str, ...],
    suffix: str,
    out: Path | None,
    together: bool,
    titles: tuple[str, ...],
    levels: int | None,
    **style: Any,
) -> int:
    """Draw SURFACES (.h5 files, also the reference implementation's).

    Each is drawn in every kind that fits, as STEM_KIND.png beside it; or one picture to --out;
    or several surfaces --together in one picture, on the same scale.
    """
    landscapes = [load(path) for path in surfaces]
    if out is not None and out.resolve() in {path.resolve() for path in surfaces}:
        raise UsageError(f"--out {out} would overwrite a surface; choose another name")
    explicit = click.get_current_context().get_parameter_source("suffix")
    if out is not None and explicit is click.core.ParameterSource.COMMANDLINE:
        raise UsageError(
            "--format is for STEM_KIND files; --out says its format by its suffix"
        )
    if titles and len(titles) != len(surfaces):
        raise UsageError(
            f"expected one --title per surface, got {len(titles)} for {len(surfaces)}"
        )
    if together or out is not None:
        if out is None:
            raise UsageError("--together needs --out FILE for the picture")
        if len(kinds) > 1 or (len(surfaces) > 1 and not together):
            raise UsageError(
                "--out takes one picture: one --kind, and one surface or --together"
            )
        kind = kinds[0] if kinds else None
        options = style | _levels(kind or kinds_for(landscapes[0])[0], levels)
        names = [str(landscape.provenance.get("model")) for landscape in landscapes]
        if not titles and kind != "line" and len(set(names)) < len(names):
            titles = tuple(
                path.stem for path in surfaces
            )  # the names would not tell them apart
        draw_side_by_side(landscapes, kind, path=out, titles=titles or None, **options)
        click.echo(f"wrote {out}")
        return DONE
    for number, (path, landscape) in enumerate(zip(surfaces, landscapes, strict=True)):
        title = titles[number] if titles else None
        for kind in kinds or kinds_for(landscape):
            picture = path.with_name(f"{path.stem}_{kind}.{suffix}")
            options = style | _levels(kind, levels)
            draw(landscape, kind, path=picture, title=title, **options)
            click.echo(f"wrote {picture}")
    return DONE


def _levels(kind: str, levels: int | None) -> dict[str, int]:
    """Pass levels on to the kinds that have some."""
    return {} if levels is None or kind not in {"contour", "filled"} else {"levels": levels}
