"""The grid of a surface file, rebuilt from its coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.grid import Axis, Grid
from onnxscape.errors import GridError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.files.guarded_hdf5 import UntrustedHdf5

COORDINATES = ("xcoordinates", "ycoordinates")
"""Names of the arrays that hold alphas and betas."""

_OWN_TOLERANCE = 1e-12
_FOREIGN_TOLERANCE = 1e-6
"""How far, in parts of the largest coordinate, a coordinate may be off its place. Those of
other programs may be rounded to float32."""


def read_grid(source: UntrustedHdf5, expected: Grid | None) -> Grid:
    """Rebuild the grid from the coordinates of a surface file.

    Args:
        source: The file.
        expected: The grid of the stored spec, if there is one.

    Returns:
        `expected` if given; else evenly spaced axes through the coordinates.

    Raises:
        SurfaceFileError: If coordinates are missing, contradict `expected`, or are not evenly
            spaced and increasing.
    """
    alphas, betas = (source.array(name) if source.has(name) else None for name in COORDINATES)
    with np.errstate(all="ignore"):  # of numbers made to overflow
        if expected is None:
            try:
                return Grid(_axis(source, "x", alphas), _axis(source, "y", betas))
            except GridError as error:
                source.refuse(f"its coordinates make no grid: {error}")
        for name, found, wanted in zip(
            COORDINATES, (alphas, betas), (expected.alphas, expected.betas), strict=True
        ):
            if found is None or wanted is None:
                agrees = found is wanted
            else:
                agrees = _agrees(found, wanted, _OWN_TOLERANCE)
            if not agrees:
                source.refuse(
                    f"{name!r} are not those of the stored spec; the file was altered: "
                    "restore it or compute it anew"
                )
    return expected


def _axis(
    source: UntrustedHdf5, letter: str, coordinates: NDArray[np.float64] | None
) -> Axis | None:
    if coordinates is None:
        return None
    if coordinates.ndim != 1 or not coordinates.size:
        source.refuse(
            f"'{letter}coordinates' must be a list of numbers, not {list(coordinates.shape)}"
        )
    axis = Axis(float(coordinates[0]), float(coordinates[-1]), coordinates.size)
    if not _agrees(coordinates, axis.coordinates(), _FOREIGN_TOLERANCE):
        source.refuse(
            f"'{letter}coordinates' are not evenly spaced, which a surface's must be"
        )
    return axis


def _agrees(found: NDArray[np.float64], wanted: NDArray[np.float64], tolerance: float) -> bool:
    if found.shape != wanted.shape:
        return False
    largest = float(np.max(np.abs(wanted)))
    return bool(np.all(np.abs(found - wanted) <= tolerance * largest))
