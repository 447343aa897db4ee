"""How much memory a file may ask for: checked before anything is read into it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

MAX_BYTES = 32 << 30
"""Most bytes of values that one data set may hold."""

MAX_RATIO = 200
"""Most bytes of values per byte of a compressed file; images and text stay below 50."""

ALWAYS_FINE = 64 << 20
"""Up to this many bytes the ratio does not matter: zeros compress well."""


def array_bytes(shape: Sequence[int], dtype: np.dtype[np.generic], what: str) -> int:
    """Return the size of an array that a file claims to hold, if it may be that large.

    Args:
        shape: The claimed shape.
        dtype: The claimed type.
        what: Array and file, for messages.

    Returns:
        Number of bytes.

    Raises:
        DataError: If the type holds no numbers, the shape is none, or the size is above the
            limit.
    """
    if dtype.kind not in "biuf" or dtype.itemsize == 0:
        raise DataError(f"{what} holds {dtype} values; expected numbers")
    if any(size < 0 for size in shape) or len(shape) > 32:
        raise DataError(f"{what} claims the impossible shape {list(shape)}")
    size = math.prod(shape) * dtype.itemsize
    check_size(size, what)
    return size


def check_size(size: int, what: str, *, stored: int | None = None) -> None:
    """Refuse a claimed size above the limit, or beyond what the stored bytes can make.

    Args:
        size: Claimed number of bytes.
        what: Array and file, for messages.
        stored: Number of bytes in the file, where they are compressed.

    Raises:
        DataError: If it is refused.
    """
    if size > MAX_BYTES:
        raise DataError(
            f"{what} claims {human_bytes(size)}; expected at most {human_bytes(MAX_BYTES)}"
        )
    if stored is not None and size > ALWAYS_FINE and size > MAX_RATIO * stored:
        raise DataError(
            f"{what} claims {human_bytes(size)} from {human_bytes(stored)} of file, as a "
            f"decompression bomb does; expected at most {MAX_RATIO} times as much: store it "
            "uncompressed if it is real"
        )


def human_bytes(size: float) -> str:
    """Write a number of bytes for people.

    Args:
        size: Number of bytes.

    Returns:
        For instance `162.6 MiB`.
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
