"""The heaps of an HDF5 file, checked before HDF5 walks through them.

Texts of variable length stand in *global heaps* (HDF5 format specification, III.E). HDF5 up to
2.0 at least walks through a heap by the sizes written in it, and does not come back from an
object of size 0. (A text that claims more than it has costs memory, 4 GiB at most, before HDF5
finds that out.)
"""

from __future__ import annotations

import mmap
from typing import IO

_HEAP = b"GCOL\x01\0\0\0"
"""How a global heap begins: signature and version."""


def are_walkable(stream: IO[bytes]) -> bool:
    """Return whether HDF5 comes to the end of every global heap of a file.

    Args:
        stream: The file, with sizes of 64 bits; it is not empty.

    Returns:
        False if an object in a heap has no size, or reaches beyond the heap or the file.
    """
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_HEAP)
        while start >= 0:
            if not _is_walkable(content, start):
                return False
            start = content.find(_HEAP, start + len(_HEAP))
    return True


def _is_walkable(content: mmap.mmap, start: int) -> bool:
    """Return whether the objects of the heap that begins there fill it one after another."""
    place = start + 16
    end = start + int.from_bytes(content[start + 8 : place], "little")
    if end > len(content):
        return False
    while place + 16 <= end:
        index = int.from_bytes(content[place : place + 2], "little")
        size = int.from_bytes(content[place + 8 : place + 16], "little")
        # Object 0 is the free space, whose size includes its header.
        step = size if index == 0 else 16 + (size + 7) // 8 * 8
        if step == 0 or place + step > end:
            return False
        place += step
    return True
