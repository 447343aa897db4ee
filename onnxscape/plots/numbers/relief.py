"""The numbers of a surface in space: facets, and how light falls on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.plots.numbers.plane import any_corner
from onnxscape.plots.numbers.scale import Scale, format_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.plots.numbers.plane import PlaneNumbers

DEPTH = 0.7
"""Height of the box around the surface, in units of its width."""

_LIGHT = np.array([-0.45, -0.55, 0.7])
"""Where the light comes from: the left of the viewer, above."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relief:
    """A surface made of four-cornered facets.

    Attributes:
        corners: [facets, 4, 3]: alpha, beta, height of each corner, in order around it.
        tones: Mean height of each facet from 0, the lower end, to 1, the upper [facets].
        brightness: How much light falls on each facet, from 0.7 to 1 [facets].
    """

    corners: NDArray[np.float64]
    tones: NDArray[np.float64]
    brightness: NDArray[np.float64]


def height_scale(scale: Scale) -> Scale:
    """Return the linear scale of heights: of logarithms to base 10 on a logarithmic scale.

    Args:
        scale: Of the values.
    """
    if not scale.log:
        return scale
    return Scale(
        log=False,
        low=math.log10(scale.low),
        high=math.log10(scale.high),
        flat=scale.flat,
        below=scale.below,
        above=scale.above,
    )


def height_label(label: str, scale: Scale) -> str:
    """Return the text beside the axis of heights.

    Args:
        label: Of the metric.
        scale: Of the values; where it cuts some off, the text says so.
    """
    text = rf"$\log_{{10}}$ {label}" if scale.log else label
    if scale.above:
        text += f", clipped at {format_value(scale.high)}"
    if scale.below:
        text += f", clipped below {format_value(scale.low)}"
    return text


def relief(numbers: PlaneNumbers, scale: Scale) -> Relief:
    """Build the facets of a surface.

    Args:
        numbers: The plane.
        scale: Of the values; heights end where it ends.

    Returns:
        One facet per four neighbours that all have a value.
    """
    values = np.clip(numbers.heights(log=scale.log), scale.low, scale.high)
    heights = np.log10(values) if scale.log else values
    ends = height_scale(scale)
    x, y = np.meshgrid(numbers.alphas, numbers.betas)
    points = np.stack([x, y, heights], axis=-1)
    around = (points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1])
    corners = np.stack(around, axis=2)[~any_corner(np.isnan(heights))]
    tones = (corners[:, :, 2].mean(axis=1) - ends.low) / (ends.high - ends.low)
    box = np.array(
        [
            numbers.alphas[-1] - numbers.alphas[0],
            numbers.betas[-1] - numbers.betas[0],
            (ends.high - ends.low) / DEPTH,
        ]
    )
    return Relief(corners=corners, tones=tones, brightness=_brightness(corners / box))


def center_height(numbers: PlaneNumbers, scale: Scale) -> float:
    """Return the height at alpha = beta = 0.

    Args:
        numbers: The plane.
        scale: Of the values.

    Returns:
        The height on the axis, interpolated where the center is no point of the grid; NaN
        if it is outside or has no value.
    """
    if not numbers.shows_center:
        return math.nan
    values = np.clip(numbers.heights(log=scale.log), scale.low, scale.high)
    heights = np.log10(values) if scale.log else values
    column = _fraction(numbers.alphas)
    row = _fraction(numbers.betas)
    total = 0.0
    for i, weight_i in row:
        for j, weight_j in column:
            total += weight_i * weight_j * float(heights[i, j])
    return total


def _fraction(coordinates: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return the positions around 0 and their weights; one position if 0 is a coordinate."""
    above = int(np.searchsorted(coordinates, 0.0))
    if coordinates[above] == 0.0:
        return [(above, 1.0)]
    gap = float(coordinates[above] - coordinates[above - 1])
    weight = float(-coordinates[above - 1]) / gap
    return [(above - 1, 1.0 - weight), (above, weight)]


def _brightness(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Lambert's law on a dim ground [facets]."""
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    light = _LIGHT / np.linalg.norm(_LIGHT)
    cosines = (normals / np.where(lengths > 0, lengths, 1.0)) @ light
    brightness: NDArray[np.float64] = 0.7 + 0.3 * np.clip(cosines, 0.0, 1.0)
    return brightness
