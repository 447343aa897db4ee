"""One writer per output: a kernel lock that vanishes with its process."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from onnxscape.errors import OutputBusyError, OutputError
from onnxscape.storage.location import real_path, reason

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_PATIENCE = 1.0
"""Seconds to wait for a holder that has the lock but has not yet written its number."""

_CONTENTION = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)

_GUARD_BYTE = 1 << 30
"""Windows forbids reading a locked byte; this one stands far behind the text."""


class WriterLock:
    """Makes this process the only writer of an output while in its `with` block.

    The lock stands on a file beside the output, which holds the writer's process number and
    machine. It is removed at the end; one left by a killed process does not block, because
    the kernel's lock, not the file, is what counts. (The `filelock` package, depending on
    its version, truncates the holder's number, leaves its file, or falls back to plain
    marker files that do block after a kill.)

    Args:
        output: The file to be written; it need not exist.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        target = real_path(output)
        self._path = target.with_name(target.name + ".lock")
        self._descriptor: int | None = None

    @property
    def path(self) -> Path:
        """The lock file."""
        return self._path

    def __enter__(self) -> Self:
        """Take the lock.

        Returns:
            This lock.

        Raises:
            OutputBusyError: If another process, or another lock of this one, holds it.
            OutputError: If the folder or its file system does not allow locks.
        """
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                self._descriptor = self._attempt()
            except OSError as error:
                raise OutputError(
                    f"cannot lock {self._output} by {self._path}: {reason(error)}; "
                    "choose an --out in a writable folder with free space, "
                    "on a file system with locks"
                ) from error
            if self._descriptor is not None:
                return self
            holder, alive = self._holder()
            # A number of no living process was left by a killed one, and the present holder
            # is just about to replace it: look again.
            if alive or time.monotonic() > give_up:
                raise OutputBusyError(
                    f"{self._output} is being written by {holder}; "
                    "wait for it or stop it, or choose another --out"
                )
            time.sleep(0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the lock file and let go of the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if sys.platform == "win32":
            # An open file cannot be removed there, neither by us nor under another's hands.
            os.close(descriptor)
            with suppress(OSError):
                self._path.unlink()
            return
        # Removed while still held: whoever opened it before finds in `_attempt` that it has
        # lost its name, and starts over.
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                self._path.unlink()
        os.close(descriptor)

    def _attempt(self) -> int | None:
        """Return the descriptor of the locked file; None if another holds it."""
        flags = os.O_RDWR | os.O_CREAT  # never O_TRUNC: the holder's number is in it
        for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_NOINHERIT"):
            flags |= getattr(os, name, 0)
        descriptor = os.open(self._path, flags, 0o666)
        keep = False
        try:
            keep = _lock(descriptor) and self._is_named(descriptor)
            if keep:
                self._sign(descriptor)
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                os.close(descriptor)
        return descriptor if keep else None

    def _is_named(self, descriptor: int) -> bool:
        """Return whether the locked file still has its name; without, its lock is void."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _sign(self, descriptor: int) -> None:
        text = f"{os.getpid()} {socket.gethostname()}\n".encode(errors="replace")
        try:
            os.write(descriptor, text)
            os.ftruncate(descriptor, len(text))
        except OSError:
            with suppress(OSError):
                self._path.unlink()
            raise

    def _holder(self) -> tuple[str, bool]:
        """Return who holds the lock, for people, and whether that is certain."""
        try:
            text = self._path.read_bytes()[:300].decode(errors="replace")
        except OSError:
            text = ""
        match = re.fullmatch(r"(\d{1,10}) (\S*)\n", text)
        if match is None:
            return "another process", False
        number, host = int(match[1]), match[2]
        if host != socket.gethostname():
            return f"process {number} on {host}", True
        return f"process {number}", _is_alive(number)


def _lock(descriptor: int) -> bool:
    # Returns whether the kernel's lock was free, and now is ours.
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _GUARD_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _CONTENTION:
            return False
        raise
    return True


def _is_alive(number: int) -> bool:
    if sys.platform == "win32":
        return True  # signal 0 means Ctrl-C there
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
