"""Immutable files found by the sha256 of their bytes, and uploads that become such files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from onnxscape.errors import DiskFullError, StorageError, UsageError
from onnxscape.files.atomic import replacing, sync_folder
from onnxscape.storage.upload import Part, Upload, disk_errors, part_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_PIECE = 1 << 20

MOST_UPLOADS = 1000
"""Unfinished uploads of one user: a file costs more than its bytes."""


class NoRoomError(Exception):
    """A user whose unfinished uploads have no room for one more.

    Attributes:
        left: Bytes that there is room for.
        uploads: Other uploads that are unfinished; at most `MOST_UPLOADS` may be.
    """

    def __init__(self, left: int, uploads: int) -> None:
        super().__init__(f"room for {left} bytes, {uploads} uploads are unfinished")
        self.left = left
        self.uploads = uploads


class BlobFolder:
    """A folder of blobs: `ab/abcdef...`, each written once and never changed.

    Whose blobs they are is not known here. What users have begun to write is kept apart by
    user, so that nobody can go on, or finish, with the bytes of somebody else. The methods may
    be called from several threads.
    """

    def __init__(
        self,
        root: Path,
        *,
        uploads: Path | None = None,
        free_kept: int = 0,
        before_rename: Callable[[], None] = lambda: None,
    ) -> None:
        """Name the folder; nothing is made or read yet.

        Args:
            root: The folder of the blobs.
            uploads: The folder of what is unfinished, on the same file system; by default
                `uploads` beside `root`.
            free_kept: Bytes of the disk that uploads leave free.
            before_rename: Called before an upload becomes a blob; for tests of crashes.
        """
        self._root = root
        self._uploads = root.with_name("uploads") if uploads is None else uploads
        self._free_kept = free_kept
        self._before_rename = before_rename
        self._lock = threading.RLock()
        self._open: dict[Path, Part] = {}

    @property
    def root(self) -> Path:
        """The folder of the blobs."""
        return self._root

    def create(self) -> None:
        """Make the folders, unless they are there.

        Raises:
            StorageError: If they cannot be made.
        """
        with disk_errors(f"make the folder {self._root}"):
            self._root.mkdir(parents=True, exist_ok=True)
            self._uploads.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where a blob is, whether it is there or not.

        Args:
            sha256: Its digest, 64 lower-case hexadecimal digits.

        Returns:
            The file.

        Raises:
            UsageError: If it is no digest.
        """
        checked_digest(sha256)
        return self._root / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """Return the size of a blob.

        Args:
            sha256: Its digest.

        Returns:
            Bytes; None if it is not there.
        """
        path = self.path(sha256)
        with disk_errors(f"look for the blob {sha256}"):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return None

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Return whether a blob is there.

        Args:
            sha256: Its digest.
            size: Its size; None for any.

        Returns:
            Whether it is.
        """
        found = self.size(sha256)
        return found is not None and size in {None, found}

    def open_upload(
        self,
        user: str,
        sha256: str,
        size: int,
        *,
        room: Callable[[], int] | None = None,
    ) -> Upload:
        """Begin to write a blob, or go on with it.

        Args:
            user: Who writes; what others have written of the same blob does not count.
            sha256: Its digest.
            size: Its size.
            room: Returns the bytes that all unfinished uploads of the user may have together;
                None for no limit. It is asked while no upload can become a blob.

        Returns:
            The upload; close it in any case.

        Raises:
            UsageError: If it is no digest or no size.
            NoRoomError: If the room does not suffice.
            DiskFullError: If the disk does not.
            StorageError: If the disk fails.
        """
        target = self.path(sha256)
        if size < 0:
            raise UsageError(f"expected the size of a blob, got {size}")
        path = self._part(user, sha256, size)
        with self._lock, disk_errors(f"begin to write the blob {sha256}"):
            part = self._open.get(path)
            if part is None:
                self._check_room(path, size, room)
                path.parent.mkdir(exist_ok=True)
                part = self._open[path] = Part(path, target, sha256, size)
            part.streams += 1
        return Upload(self, part)

    def written(self, user: str, sha256: str, size: int) -> int:
        """Return how much of a blob a user has written, of what is unfinished.

        Args:
            user: Who.
            sha256: Its digest.
            size: Its size.

        Returns:
            Bytes from the start that need not be sent again.
        """
        checked_digest(sha256)
        path = self._part(user, sha256, size)
        with self._lock:
            part = self._open.get(path)
            if part is not None:
                return part.written
        with disk_errors(f"look for the blob {sha256}"):
            try:
                return min(path.stat().st_size, size)
            except FileNotFoundError:
                return 0

    def add(self, path: Path) -> tuple[str, int]:
        """Copy a file of the server's own into the folder.

        Args:
            path: The file.

        Returns:
            sha256 (hex) and size.

        Raises:
            StorageError: If it cannot be read or written.
        """
        with disk_errors(f"copy {path} to the blobs"):
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
                target = self.path(sha256)
                if self.has(sha256, size):
                    return sha256, size
                file.seek(0)
                target.parent.mkdir(exist_ok=True)
                hasher = hashlib.sha256()
                with replacing(target) as copy:
                    while piece := file.read(_PIECE):
                        hasher.update(piece)
                        copy.write(piece)
                    if hasher.hexdigest() != sha256:
                        raise StorageError(
                            f"cannot copy {path}: it was changed meanwhile; try again"
                        )
            sync_folder(self._root)
            return sha256, size

    def touch(self, sha256: str) -> None:
        """Begin anew to count how long a blob has not been needed.

        Args:
            sha256: Its digest; nothing happens if it is not there.
        """
        with suppress(FileNotFoundError), disk_errors(f"touch the blob {sha256}"):
            os.utime(self.path(sha256))

    def collect(
        self,
        needed: Callable[[], Collection[str]],
        *,
        before: float,
        uploads_before: float | None = None,
    ) -> int:
        """Delete blobs that nothing refers to, and uploads that nobody goes on with.

        Args:
            needed: Returns the digests of all blobs that something refers to. It is asked
                while no upload can become a blob.
            before: Unix time; what was written or touched later is kept.
            uploads_before: Likewise, of uploads; None for the same.

        Returns:
            Bytes that have become free.

        Raises:
            StorageError: If the disk fails.
        """
        freed, stale = 0, before if uploads_before is None else uploads_before
        with disk_errors("delete blobs that are not needed"):
            unused = set(self._older(before)) - set(needed())
            with self._lock:
                unused -= set(needed()) if unused else set()
                freed += sum(_delete(self.path(sha256), before) for sha256 in unused)
                for path in self._uploads.glob("*/*"):
                    if path not in self._open:
                        freed += _delete(path, stale)
                for folder in self._uploads.iterdir():
                    with suppress(OSError):  # not empty
                        folder.rmdir()
            for path in self._root.glob("??/.onnxscape-*"):  # of killed processes
                freed += _delete(path, before)
        return freed

    def check_disk(self, more: int) -> None:
        """Refuse to write what would fill the disk.

        Args:
            more: Bytes to be written.

        Raises:
            DiskFullError: If less would stay free than is to be kept.
        """
        free = shutil.disk_usage(self._uploads).free
        if free - more < self._free_kept:
            raise DiskFullError(
                f"the server's disk has no room for {more} bytes more; "
                "try again when space was freed"
            )

    def keep(self, part: Part, then: Callable[[], None]) -> None:
        """Make a blob of what was written, for good.

        Args:
            part: What was written: whole, checked and synced.
            then: Called when the blob is there, before anything can delete it.
        """
        with self._lock:
            self._before_rename()
            part.target.parent.mkdir(exist_ok=True)
            part.path.replace(part.target)
            part.finished = True
            self.forget(part)
            sync_folder(part.target.parent)
            sync_folder(self._root)
            then()

    def forget(self, part: Part) -> None:
        """Let the next stream begin with a file of its own.

        Args:
            part: What became a blob, or was dropped.
        """
        with self._lock:
            if self._open.get(part.path) is part:
                del self._open[part.path]

    def leave(self, part: Part) -> None:
        """Note that a stream has ended.

        Args:
            part: What it wrote to.
        """
        with self._lock:
            part.streams -= 1
            if part.streams == 0:
                part.close()
                self.forget(part)

    def _part(self, user: str, sha256: str, size: int) -> Path:
        mark = hashlib.sha256(user.encode()).hexdigest()[:32]
        return self._uploads / mark / part_name(sha256, size)

    def _pending(self, folder: Path) -> dict[Path, int]:
        """Return what each unfinished upload in a user's folder takes."""
        if not folder.is_dir():
            return {}
        return {
            path: self._open[path].size if path in self._open else path.stat().st_size
            for path in folder.iterdir()
        }

    def _check_room(self, path: Path, size: int, room: Callable[[], int] | None) -> None:
        if room is not None:
            others = self._pending(path.parent)
            others.pop(path, None)
            left = room() - sum(others.values())
            if len(others) >= MOST_UPLOADS or left < size:
                raise NoRoomError(max(left, 0), len(others))
        self.check_disk(size - (path.stat().st_size if path.exists() else 0))

    def _older(self, before: float) -> list[str]:
        return [
            path.name
            for path in self._root.glob("??/*")
            if is_digest(path.name) and path.stat().st_mtime < before
        ]


def _delete(path: Path, before: float) -> int:
    # Deletes a file that was last written before a time; returns the bytes that it had.
    try:
        found = path.stat()
        if found.st_mtime >= before:
            return 0
        path.unlink()
    except FileNotFoundError:
        return 0
    return found.st_size


def is_digest(text: str) -> bool:
    """Return whether a text is a sha256 as it is written here.

    Args:
        text: The text.

    Returns:
        True for 64 lower-case hexadecimal digits.
    """
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def checked_digest(text: str) -> str:
    """Return a digest, or refuse it.

    Args:
        text: What came.

    Returns:
        The same.

    Raises:
        UsageError: If it is no sha256.
    """
    if not is_digest(text):
        raise UsageError(
            f"expected a sha256 of 64 lower-case hexadecimal digits, got {text[:80]!r}"
        )
    return text
