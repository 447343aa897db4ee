"""A blob while it is being written: pieces in order, by one stream or several at once."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from onnxscape.errors import DiskFullError, StorageError, UsageError
from onnxscape.files.closing import Closing
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from onnxscape.storage.blob_folder import BlobFolder

_PIECE = 1 << 20

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


class Part:
    """The file of an unfinished blob, and the streams of one user that write to it.

    Attributes:
        path: The file.
        target: Where the blob will be.
        sha256: Its digest.
        size: Its size.
        written: Bytes that are in the file, from the start.
        streams: Uploads that are open.
        finished: Whether it has become a blob.
        dropped: Whether its bytes had another digest.
    """

    def __init__(self, path: Path, target: Path, sha256: str, size: int) -> None:
        self.path = path
        self.target = target
        self.sha256 = sha256
        self.size = size
        self.streams = 0
        self.finished = False
        self.dropped = False
        self.lock = threading.Lock()
        self.file: IO[bytes] = os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "rb+", 0
        )
        self.written = min(self.file.seek(0, os.SEEK_END), size)
        self._hasher = hashlib.sha256()
        self._hashed = 0

    def append(self, data: bytes) -> None:
        """Write behind what is there: all of it, or nothing that counts.

        Args:
            data: The bytes.
        """
        self.file.seek(self.written)
        left = memoryview(data)
        while left:
            left = left[self.file.write(left) :]
        self._catch_up()
        self._hasher.update(data)
        self.written += len(data)
        self._hashed = self.written

    def digest(self) -> str:
        """Return the sha256 of what is written."""
        self._catch_up()
        return self._hasher.hexdigest()

    def drop(self) -> None:
        """Throw away what is written."""
        self.dropped = True
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; it stays for another stream if there is anything in it."""
        self.file.close()
        if not (self.written or self.finished or self.dropped):
            self.path.unlink(missing_ok=True)

    def _catch_up(self) -> None:
        # Hash what an earlier stream wrote: its state went with it.
        if self._hashed == self.written:
            return
        self.file.seek(self._hashed)
        while self._hashed < self.written:
            piece = self.file.read(min(_PIECE, self.written - self._hashed))
            if not piece:
                raise OSError(errno.EIO, "the file has become shorter")
            self._hasher.update(piece)
            self._hashed += len(piece)


class Upload(Closing):
    """One stream that writes a blob; made by `BlobFolder.open_upload`.

    Several streams of a user may write the same blob: what one has written, the others skip.
    """

    def __init__(self, folder: BlobFolder, part: Part) -> None:
        self._folder = folder
        self._part = part
        self._next: int | None = None
        self._closed = False

    @property
    def offset(self) -> int:
        """Bytes that are written, from the start, by this stream or another."""
        return self._part.written

    def write(self, offset: int, data: bytes) -> None:
        """Write a piece.

        Args:
            offset: Where it goes: behind the piece before. The first one may stand anywhere up
                to what is written.
            data: The bytes.

        Raises:
            UsageError: If it leaves a gap or exceeds the size, or if another stream's bytes
                were wrong.
            DiskFullError: If there is no room; what was written before stays.
            StorageError: If the disk fails.
        """
        part = self._part
        with part.lock, disk_errors(f"write the blob {part.sha256}"):
            self._check(offset, len(data))
            fresh = data[max(part.written - offset, 0) :]
            if fresh and not part.finished:
                self._folder.check_disk(len(fresh))
                part.append(fresh)
            self._next = offset + len(data)

    def finish(self, then: Callable[[], None] = lambda: None) -> None:
        """Make it a blob, once all bytes are there.

        Args:
            then: Called when the blob is there and durable, before anything can delete it.

        Raises:
            UsageError: If bytes are missing, or have another digest: then all are dropped.
            StorageError: If the disk fails; what was written stays.
        """
        part = self._part
        with part.lock, disk_errors(f"write the blob {part.sha256}"):
            if part.finished:
                then()
                return
            self._check_not_dropped()
            if part.written < part.size:
                raise UsageError(
                    f"expected {part.size} bytes of the blob {part.sha256}, got "
                    f"{part.written}; send the rest; QueryWriteStatus tells from where"
                )
            found = part.digest()
            if found != part.sha256:
                part.drop()
                self._folder.forget(part)
                raise UsageError(
                    f"expected bytes with the sha256 {part.sha256}, got {found}; all of them "
                    "are dropped: send them again"
                )
            part.file.truncate(part.size)
            os.fsync(part.file.fileno())
            self._folder.keep(part, then)

    def close(self) -> None:
        """End the stream; what it has written stays, for another one to go on with."""
        with self._part.lock:  # a piece may be on its way to the disk still
            if not self._closed:
                self._closed = True
                self._folder.leave(self._part)

    def _check(self, offset: int, count: int) -> None:
        part = self._part
        self._check_not_dropped()
        if self._next is not None and offset != self._next:
            raise UsageError(f"expected the bytes from offset {self._next}, got {offset}")
        if not 0 <= offset <= part.written:
            raise UsageError(
                f"expected the bytes from offset {part.written}, got {offset}; "
                "QueryWriteStatus tells how many are there"
            )
        if offset + count > part.size:
            raise UsageError(
                f"expected {part.size} bytes of the blob {part.sha256}, got at least "
                f"{offset + count}"
            )

    def _check_not_dropped(self) -> None:
        if self._part.dropped:
            raise UsageError(
                f"the bytes of the blob {self._part.sha256} had another digest, and are "
                "dropped: send them again"
            )


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn errors of the disk into ours.

    Args:
        doing: What cannot be done, for messages.

    Yields:
        Nothing.

    Raises:
        DiskFullError: If there is no room.
        StorageError: If the disk fails in another way.
    """
    try:
        yield
    except StorageError:
        raise  # says it already
    except OSError as error:
        kind = DiskFullError if error.errno in _FULL else StorageError
        raise kind(
            f"cannot {doing}: {reason(error)}; what was stored before is kept: "
            "try again when the disk has room and works"
        ) from error


def part_name(sha256: str, size: int) -> str:
    """Return the name of the file of an unfinished blob.

    Args:
        sha256: Its digest.
        size: Its size.

    Returns:
        A name that tells both.
    """
    return f"{sha256}-{size}"
