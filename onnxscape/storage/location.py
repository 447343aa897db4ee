"""Where files stand, and what kind of file system holds them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from onnxscape.errors import OutputError

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


def real_path(output: str | Path) -> Path:
    """Return the absolute path of an output, symbolic links followed.

    Whatever belongs to an output (lock, points, temporary file) stands beside the real file,
    so that two names of one file cannot be written at once.

    Args:
        output: Path as the user gave it; it need not exist.

    Returns:
        The real path.

    Raises:
        OutputError: If the path is no path, or its links lead in a circle.
    """
    try:
        return Path(output).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"cannot use {str(output)!r} as a path ({reason(error)}); choose another"
        ) from error


def reason(error: BaseException) -> str:
    """Return why an operation failed, on one line and without error numbers or paths.

    Args:
        error: What was raised.

    Returns:
        For instance `No space left on device`.
    """
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # its text is a repr
    return " ".join(text.split()) or type(error).__name__


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
