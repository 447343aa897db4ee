"""The folder of a server: made for its user alone, and used by one server at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.errors import UsageError
from onnxscape.files.kernel_lock import KernelLock
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make the folder, unless it is there.

    Args:
        folder: The folder.

    Raises:
        UsageError: If it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(_useless(folder, error)) from error


def lock_folder(folder: Path, stack: contextlib.AsyncExitStack) -> None:
    """Take the folder for this server alone; make it if it is missing.

    Args:
        folder: The folder.
        stack: Told how to let it go.

    Raises:
        UsageError: If another server has it, or it cannot be used.
    """
    make_folder(folder)
    lock = KernelLock(folder / "server.lock")
    try:
        taken = lock.acquire()
    except OSError as error:
        raise UsageError(_useless(folder, error)) from error
    if not taken:
        raise UsageError(
            f"the folder {folder} is used by the server of {lock.holder().name}; stop it, or "
            "name another by --data-dir"
        )
    stack.callback(lock.release)


def _useless(folder: Path, error: OSError) -> str:
    return f"cannot use the folder {folder}: {reason(error)}; name another by --data-dir"
