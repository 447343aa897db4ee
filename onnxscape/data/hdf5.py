"""Arrays from HDF5 files, of which only plain, local data sets are read.

HDF5 can point into other files (external storage, virtual data sets, external links) and can
claim any size at no cost (1.9 KB for 4 TiB); both are refused before anything is read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from onnxscape.data.limits import ALWAYS_FINE, MAX_RATIO, array_bytes, check_size, human_bytes
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_ARRAYS = 1000
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 6: "scaleoffset", 32000: "lzf"}
"""Filters h5py itself brings: they are applied without loading anything."""


def read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    """Read the data sets at the root of an HDF5 file.

    Args:
        path: The file.

    Returns:
        Arrays by name.

    Raises:
        DataError: If the file is unreadable, refers to anything else, or asks for too much
            memory.
    """
    try:
        size = path.stat().st_size
        with h5py.File(path, "r") as file:
            return _read_all(file, path, size)
    except DataError:
        raise
    except Exception as error:
        # HDF5 fails in many ways on bytes that are damaged, or made to harm.
        reason = (str(error).splitlines() or [type(error).__name__])[0].strip("'\"")
        raise DataError(f"{path} is no readable HDF5 file: {reason}") from error


def _read_all(file: Any, path: Path, file_size: int) -> dict[str, NDArray[Any]]:
    if len(file) > _MAX_ARRAYS:
        raise DataError(f"{path} holds {len(file)} arrays; expected x and y")
    checked = {name: _checked(file, name, path, file_size) for name in file}
    check_size(sum(nbytes for _, nbytes in checked.values()), str(path))
    return {name: _read(data, path) for name, (data, _) in checked.items()}


def _checked(file: Any, name: str, path: Path, file_size: int) -> tuple[Any, int]:
    # A data set that is safe to read, and how many bytes it makes.
    what = f"{name!r} in {path}"
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{what} is a {type(link).__name__}; expected the data itself")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise DataError(f"{what} is a {type(data).__name__.lower()}; expected arrays x and y")
    if data.is_virtual or data.external is not None:
        raise DataError(f"{what} keeps its values in other files; expected the data itself")
    if data.shape is None:
        raise DataError(f"{what} is empty; expected an array")
    try:
        dtype = np.dtype(data.dtype)
    except TypeError as error:
        raise DataError(f"{what} has a type numpy lacks ({error})") from error
    filters = _filters(data)
    unknown = [number for number in filters if number not in _FILTERS]
    if unknown:
        raise DataError(
            f"{what} is packed by HDF5 filter {unknown[0]}, which is not read here; expected "
            f"{', '.join(_FILTERS.values())} or none"
        )
    nbytes = array_bytes(data.shape, dtype, what)
    stored = int(data.id.get_storage_size())
    if stored > file_size:
        raise DataError(
            f"{what} claims {stored} stored bytes in a file of {file_size}: it is damaged"
        )
    if filters:
        check_size(nbytes, what, stored=stored)
    elif data.chunks is None and stored < nbytes:
        raise DataError(
            f"{what} claims {human_bytes(nbytes)} but holds {stored} bytes: its values were "
            "never written"
        )
    elif stored < nbytes:
        check_size(nbytes, what, stored=stored)  # chunks never written hold the fill value
    _check_chunk(data, dtype, stored, what)
    return data, nbytes


def _filters(data: Any) -> list[int]:
    properties = data.id.get_create_plist()
    return [int(properties.get_filter(i)[0]) for i in range(properties.get_nfilters())]


def _check_chunk(data: Any, dtype: np.dtype[Any], stored: int, what: str) -> None:
    # A chunk is unpacked as a whole, however little of it is stored.
    if data.chunks is None:
        return
    chunk = math.prod(data.chunks) * dtype.itemsize
    if chunk > max(ALWAYS_FINE, MAX_RATIO * stored):
        raise DataError(
            f"{what} is cut into chunks of {human_bytes(chunk)}; expected at most "
            f"{human_bytes(ALWAYS_FINE)}"
        )


def _read(data: Any, path: Path) -> NDArray[Any]:
    values = np.empty(data.shape, dtype=data.dtype)
    if values.ndim == 0:
        raise DataError(f"{data.name!r} in {path} is a single value; expected an array")
    if values.size:
        data.read_direct(values)
    return values
