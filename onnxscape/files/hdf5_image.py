"""HDF5 files built in memory, so that a disk never sees half of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

if TYPE_CHECKING:
    from collections.abc import Callable


def hdf5_image(fill: Callable[[h5py.File], None]) -> bytes:
    """Build an HDF5 file in memory.

    Args:
        fill: Puts datasets and attributes into the empty file.

    Returns:
        The file's bytes.
    """
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image
