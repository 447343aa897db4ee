"""Writing a file as a whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

from onnxscape.errors import OutputError, StorageError
from onnxscape.storage.location import real_path, reason

_LONGEST_SUFFIX = ".0123456789ab.points.sqlite-journal"
"""Longest ending that is put to an output's name for a file beside it."""

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""What file systems answer that cannot, or need not, sync a folder."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment the old or the new one is there, whole.

    The content goes to a temporary file in the same folder, to the disk, and then takes the
    name. A symbolic link is followed; the mode of an existing file is kept.

    Args:
        path: The file to write or replace.
        content: All of it.

    Raises:
        OutputError: If the path is no path.
        StorageError: If it could not be written; the file is as it was.
    """
    target = real_path(path)
    try:
        _replace(target, content)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {reason(error)}; the file is as it was before: "
            "free space or mend the folder, then run the same command again"
        ) from error


def check_writable(path: Path) -> None:
    """Refuse early an output that could not be written in the end.

    Args:
        path: The file to be written later. It is not touched, and nothing is left beside it.

    Raises:
        OutputError: If it is a folder or a device, if its folder is missing or read-only, or
            if the name cannot be used.
    """
    try:
        why = _why_not(Path(path))
    except OSError as error:
        why = f"{reason(error)}; choose another place"
    if why is not None:
        raise OutputError(f"cannot write {str(path)!r}: {why}")


def _why_not(path: Path) -> str | None:
    """Return why a path cannot be written; None if it can."""
    if not str(path).isprintable():
        return "the name has control characters; choose another name"
    target = real_path(path)
    folder = target.parent
    why = None
    if target.is_dir():
        why = "it is a folder; add a file name such as surface.h5"
    elif not folder.is_dir():
        why = f"there is no folder {folder}; create it or choose another place"
    elif _is_special(target):
        why = "it is a device or pipe, not a file; choose another name"
    elif target.exists() and not os.access(target, os.W_OK):
        why = "the file there is read-only; choose another name or change its mode"
    elif len(os.fsencode(target.name)) > (most := _longest_name(folder)):
        why = f"the name is too long; use at most {most} bytes"
    else:
        # Only trying tells: the superuser, quotas and mounts escape the mode bits.
        temporary, descriptor = _create_in(folder)
        os.close(descriptor)
        temporary.unlink()
    return why


def _is_special(target: Path) -> bool:
    try:
        return not stat.S_ISREG(target.stat().st_mode)
    except FileNotFoundError:
        return False


def _longest_name(folder: Path) -> int:
    most = 255
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            most = os.pathconf(folder, "PC_NAME_MAX")
    return most - len(_LONGEST_SUFFIX)


def _create_in(folder: Path) -> tuple[Path, int]:
    temporary = folder / f".onnxscape-{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # Unlike the tempfile module, which makes private files: the umask decides as for others.
    return temporary, os.open(temporary, flags, 0o666)


def _replace(target: Path, content: bytes) -> None:
    if _is_special(target):
        raise OSError(errno.EINVAL, "not a regular file")
    temporary, descriptor = _create_in(target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
        _sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    # Makes the new name last through a power cut.
    if sys.platform == "win32":
        return  # folders cannot be opened there; the rename itself is journalled
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
