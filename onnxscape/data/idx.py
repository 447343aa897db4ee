"""Arrays from IDX files, the format of MNIST, plain or compressed by gzip.

Layout: two zero bytes, one byte for the type, one for the number of axes, then their sizes as
big-endian 32-bit integers, then the values in C order, big-endian.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from onnxscape.data.limits import LIMITS, check_size
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP = b"\x1f\x8b"


def read_idx(path: Path) -> NDArray[Any]:
    """Read an IDX file.

    Args:
        path: The file; whether it is compressed is seen from its first bytes.

    Returns:
        Its array, in the byte order of this machine.

    Raises:
        DataError: If the file is unreadable, no IDX file, damaged, or asks for too much.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            if not packed:
                return _read(raw, path, stored=size, packed=False)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(cast("IO[bytes]", stream), path, stored=size, packed=True)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no readable IDX file: {error}") from error


def _read(stream: IO[bytes], path: Path, *, stored: int, packed: bool) -> NDArray[Any]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or not 1 <= head[3] <= 8:
        raise DataError(
            f"{path} does not start like an IDX file (bytes {head.hex(' ')}); expected "
            "00 00, a type and a number of axes"
        )
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{path} ends within the header of an IDX file")
    shape = struct.unpack(f">{head[3]}I", sizes)
    dtype = np.dtype(_TYPES[head[2]])
    expected = math.prod(shape) * dtype.itemsize
    if packed:
        check_size(expected, str(path), stored=stored)
    elif expected != stored - 4 - len(sizes) or expected > LIMITS.most:
        raise DataError(
            f"{path} claims an array {list(shape)} of {expected} bytes, but holds "
            f"{stored - 4 - len(sizes)}"
        )
    values = stream.read(expected)
    if len(values) < expected or stream.read(1):
        raise DataError(f"{path} does not hold the {expected} bytes its header claims")
    array = np.frombuffer(values, dtype=dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def idx_md5(values: NDArray[Any]) -> str:
    """Return the checksum that an array of bytes has as a plain IDX file.

    Args:
        values: uint8, any shape.

    Returns:
        md5 (hex).
    """
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    digest = hashlib.md5(header, usedforsecurity=False)
    digest.update(np.ascontiguousarray(values, dtype=np.uint8).data)
    return digest.hexdigest()
