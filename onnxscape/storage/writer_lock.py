"""One writer per output."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from onnxscape.errors import OutputBusyError, OutputError
from onnxscape.files.kernel_lock import KernelLock
from onnxscape.files.location import real_path
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_PATIENCE = 1.0
"""Seconds to wait for a holder that has the lock but has not yet written its number."""


class WriterLock:
    """Makes this process the only writer of an output while in its `with` block.

    The lock stands on a file beside the output. It is removed at the end; one left by a
    killed process does not block.

    Args:
        output: The file to be written; it need not exist.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        target = real_path(output)
        self._lock = KernelLock(target.with_name(target.name + ".lock"))

    @property
    def path(self) -> Path:
        """The lock file."""
        return self._lock.path

    def __enter__(self) -> Self:
        """Take the lock.

        Returns:
            This lock.

        Raises:
            OutputBusyError: If another process, or another lock of this one, holds it.
            OutputError: If the folder or its file system does not allow locks.
        """
        give_up = time.monotonic() + _PATIENCE
        while not self._acquire():
            holder = self._lock.holder()
            if holder.certain or time.monotonic() > give_up:
                raise OutputBusyError(
                    f"{self._output} is being written by {holder.name}; "
                    "wait for it or stop it, or choose another --out"
                )
            time.sleep(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the lock file and let go of the lock."""
        self._lock.release()

    def _acquire(self) -> bool:
        try:
            return self._lock.acquire()
        except OSError as error:
            raise OutputError(
                f"cannot lock {self._output} by {self.path}: {reason(error)}; "
                "choose an --out in a writable folder with free space, "
                "on a file system with locks"
            ) from error
