"""How much memory a data set may ask for: checked before anything is read into it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnxscape.errors import DataError
from onnxscape.files.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

LIMITS = Limits(most=32 << 30, ratio=200)
"""Images and text stay below 50 bytes of values per compressed byte."""


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
    why = LIMITS.excess(size, stored=stored)
    if why is not None:
        raise DataError(f"{what} {why}")
