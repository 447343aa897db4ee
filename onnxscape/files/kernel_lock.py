"""A lock on a file, kept by the kernel: it vanishes with the process that holds it."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

_PAUSE = 0.02
"""Seconds between two attempts."""

_CONTENTION = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)

_GUARD_BYTE = 1 << 30
"""Windows forbids reading a locked byte; this one stands far behind the text."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who seems to hold a lock.

    Attributes:
        name: For people: `process 42`, or `process 42 on HOST`.
        certain: False for a number of no living process: it was left by a killed one, and
            the present holder is just about to replace it.
    """

    name: str
    certain: bool


class KernelLock:
    """Excludes other processes, and other locks of this one, while it is held.

    The lock stands on a file of its own, which holds the holder's process number and machine.
    The file is removed at the end; one left by a killed process does not block, because the
    kernel's lock, not the file, is what counts. (The `filelock` package, depending on its
    version, truncates the holder's number, leaves its file, or falls back to plain marker
    files that do block after a kill.)

    Args:
        path: The lock's file, in a folder that exists; nothing else may have this name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def path(self) -> Path:
        """The lock's file."""
        return self._path

    def acquire(self, *, seconds: float = 0.0) -> bool:
        """Take the lock.

        Args:
            seconds: How long to wait for another holder.

        Returns:
            Whether it is held now; False if another still holds it.

        Raises:
            OSError: If the folder or its file system does not allow locks.
        """
        give_up = time.monotonic() + seconds
        while True:
            self._descriptor = self._attempt()
            if self._descriptor is not None:
                return True
            if time.monotonic() >= give_up:
                return False
            time.sleep(_PAUSE)

    def release(self) -> None:
        """Remove the file and let go of the lock; does nothing if it is not held."""
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

    def holder(self) -> Holder:
        """Return who holds the lock, as far as its file tells.

        Returns:
            The holder; `another process` if the file does not tell.
        """
        try:
            text = self._path.read_bytes()[:300].decode(errors="replace")
        except OSError:
            text = ""
        match = re.fullmatch(r"(\d{1,10}) (\S*)\n", text)
        if match is None:
            return Holder("another process", certain=False)
        number, host = int(match[1]), match[2]
        if host != socket.gethostname():
            return Holder(f"process {number} on {host}", certain=True)
        return Holder(f"process {number}", certain=_is_alive(number))

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
