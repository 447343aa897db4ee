"""Pictures of landscapes: the numbers of a figure, and its drawing."""

from onnxscape.plots.pictures import (
    KINDS_LINE,
    KINDS_PLANE,
    SUFFIXES,
    draw,
    draw_side_by_side,
    kinds_for,
    save_all,
)

__all__ = [
    "KINDS_LINE",
    "KINDS_PLANE",
    "SUFFIXES",
    "draw",
    "draw_side_by_side",
    "kinds_for",
    "save_all",
]
