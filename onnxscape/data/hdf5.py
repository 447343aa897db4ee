"""Data sets from HDF5 files, which need not be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscape.data.limits import LIMITS
from onnxscape.errors import DataError
from onnxscape.files.guarded_hdf5 import open_untrusted

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_ARRAYS = 1000


def hdf5_names(path: Path) -> list[str]:
    """List the arrays at the root of an HDF5 file; none is read.

    Args:
        path: The file.

    Returns:
        Their names.

    Raises:
        DataError: If the file is unreadable.
    """
    with open_untrusted(path, DataError, limits=LIMITS, foreign=True) as source:
        names = source.members()
        if len(names) > _MAX_ARRAYS:
            source.refuse(f"it holds {len(names)} arrays; expected x and y")
        return names


def read_hdf5(path: Path, *, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the arrays at the root of an HDF5 file.

    Args:
        path: The file.
        only: Names of the arrays to read; None for all.

    Returns:
        Arrays by name, in this machine's byte order.

    Raises:
        DataError: If the file is unreadable, refers to anything else, or asks for too much
            memory.
    """
    names = hdf5_names(path) if only is None else list(only)
    with open_untrusted(path, DataError, limits=LIMITS, foreign=True) as source:
        return {name: source.array(name, kinds="biuf") for name in names}
