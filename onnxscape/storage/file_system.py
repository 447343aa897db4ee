"""What kind of file system holds a folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_LOCAL = frozenset(  # the well-known ones of Linux
    (
        "bcachefs",
        "btrfs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "overlay",
        "tmpfs",
        "xfs",
        "zfs",
    )
)
"""File systems of this machine alone, on which several processes may share memory maps."""


def is_local(folder: Path) -> bool:
    """Return whether a folder is known to be on a disk of this machine.

    Args:
        folder: An existing folder.

    Returns:
        True for the well-known local file systems of Linux; False for network and user-space
        file systems, and wherever it cannot be told.
    """
    if sys.platform != "linux":
        return False
    try:
        mounts = Path("/proc/self/mounts").read_text(
            encoding="utf-8", errors="surrogateescape"
        )
    except OSError:
        return False
    return file_system_type(folder.resolve(), mounts) in _LOCAL


def file_system_type(folder: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds a folder.

    Args:
        folder: An absolute path without symbolic links.
        mounts: A table of mounts in the form of `/proc/self/mounts`.

    Returns:
        For instance `ext4`; None if no mount holds the folder.
    """
    found: str | None = None
    depth = 0
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        # A later mount on the same point hides the earlier one.
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = fields[2], len(point.parts)
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
