"""How much memory a process has in use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def resident_memory(process: int) -> int | None:
    """Return the resident memory of a process in bytes.

    Args:
        process: Its ID.

    Returns:
        The number; None where nobody can tell.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None
