"""Data sets from HDF5 files, which need not be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscape.data.limits import LIMITS
from onnxscape.errors import DataError
from onnxscape.files.guarded_hdf5 import open_untrusted

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_ARRAYS = 1000


def read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays at the root of an HDF5 file.

    Args:
        path: The file.

    Returns:
        Arrays by name, in this machine's byte order.

    Raises:
        DataError: If the file is unreadable, refers to anything else, or asks for too much
            memory.
    """
    with open_untrusted(path, DataError, limits=LIMITS, foreign=True) as source:
        names = source.members()
        if len(names) > _MAX_ARRAYS:
            source.refuse(f"it holds {len(names)} arrays; expected x and y")
        for name in names:
            if source.shape_and_type(name)[0] == ():
                source.refuse(f"{name!r} is a single value; expected an array")
        return {name: source.array(name, kinds="biuf") for name in names}
