"""Writing a file as a whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from onnxscape.errors import StorageError
from onnxscape.files.location import real_path
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""What file systems answer that cannot, or need not, sync a folder."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment the old or the new one is there, whole.

    A symbolic link is followed; the mode of an existing file is kept.

    Args:
        path: The file to write or replace.
        content: All of it.

    Raises:
        OutputError: If the path is no path.
        StorageError: If it could not be written; the file is as it was.
    """
    target = real_path(path)
    try:
        with replacing(target) as file:
            file.write(content)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {reason(error)}; the file is as it was before: "
            "free space or mend the folder, then run the same command again"
        ) from error


@contextmanager
def replacing(target: Path, *, folder: Path | None = None) -> Iterator[IO[bytes]]:
    """Write a file piece by piece; it takes its name when the `with` block ends well.

    What is written goes to a temporary file, to the disk, and then takes the name. After an
    error of any kind the temporary file is gone and the target is as it was.

    Args:
        target: The file to write or replace; where it is a link, the link is replaced.
        folder: Where the temporary file stands, on the file system of the target; None for
            the target's own folder.

    Yields:
        The temporary file, open for writing.

    Raises:
        OSError: If it could not be written. Each caller has its own error and advice.
    """
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if is_special(target):
        raise OSError(errno.EINVAL, "not a regular file")
    temporary, descriptor = create_in(target.parent if folder is None else folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
        sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def is_special(target: Path) -> bool:
    """Return whether something that is no ordinary file has a name.

    Args:
        target: It may be missing.

    Returns:
        True for folders, devices, pipes.

    Raises:
        OSError: If it cannot be told.
    """
    try:
        return not stat.S_ISREG(target.stat().st_mode)
    except FileNotFoundError:
        return False


def create_in(folder: Path) -> tuple[Path, int]:
    """Create a temporary file with a name that nothing else has.

    Args:
        folder: Where.

    Returns:
        The file and its descriptor, open for writing.

    Raises:
        OSError: If it cannot be created.
    """
    temporary = folder / f".onnxscape-{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # Unlike the tempfile module, which makes private files: the umask decides as for others.
    return temporary, os.open(temporary, flags, 0o666)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder last through a power cut.

    Args:
        folder: The folder.

    Raises:
        OSError: If its disk fails.
    """
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
