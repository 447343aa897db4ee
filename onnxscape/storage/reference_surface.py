"""Surface files of the reference implementation (github tomgoldstein/loss-landscape)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.landscape import Landscape
from onnxscape.storage.stored_grid import COORDINATES, read_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.grid import Grid
    from onnxscape.files.guarded_hdf5 import UntrustedHdf5

_SPLITS = ("train", "test")


def read_reference_surface(source: UntrustedHdf5) -> Landscape:
    """Read a surface that the reference implementation wrote.

    It marks points not yet computed by -1 and takes every loss of 0 or less as such. On planes
    that are not square it shapes its arrays [n_alpha, n_beta] but fills them in the order of
    [n_beta, n_alpha]; that is put right here.

    Args:
        source: The file.

    Returns:
        The landscape of its first split; without spec and plan.

    Raises:
        SurfaceFileError: If it has no coordinates, no loss, or arrays of other shapes.
    """
    names = source.arrays()
    split = next((split for split in _SPLITS if f"{split}_loss" in names), None)
    if split is None or not set(COORDINATES) & set(names):
        source.refuse(
            "expected a surface of onnxscape or of the reference implementation (xcoordinates "
            "and train_loss or test_loss), found neither; give another file"
        )
    grid = read_grid(source, None)
    loss = _surface(source, f"{split}_loss", grid)
    # NaN and infinite losses are computed ones: only what is 0 or less is not.
    evaluated = ~(loss <= 0)
    surfaces = {"loss": np.where(evaluated, loss, np.nan)}
    if f"{split}_acc" in names:
        percent = _surface(source, f"{split}_acc", grid)
        known = evaluated & ~(percent < 0)
        surfaces["accuracy"] = np.where(known, percent / 100.0, np.nan)

    center: dict[str, float] = {}
    point = grid.center()
    if point.row >= 0 and evaluated[grid.index(point)]:
        place = grid.index(point)
        center = {name: float(values[place]) for name, values in surfaces.items()}
    return Landscape(
        grid=grid,
        surfaces=surfaces,
        evaluated=evaluated,
        center=center,
        provenance={"split": split, "source": "reference implementation"},
    )


def _surface(source: UntrustedHdf5, name: str, grid: Grid) -> NDArray[np.float64]:
    claimed, _ = source.shape_and_type(name)
    if claimed not in {grid.shape, grid.shape[::-1]}:
        found = "nothing" if claimed is None else list(claimed)
        source.refuse(
            f"array {name!r} should have the grid's shape {list(grid.shape)}, has {found}"
        )
    values = source.array(name).astype(np.float64, copy=False)
    return values.reshape(grid.shape)
