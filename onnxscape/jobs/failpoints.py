"""Failpoints: places where tests let a process die, or its disk be full."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "ONNXSCAPE_FAILPOINTS"
"""Environment variable that arms failpoints: `NAME=ACTION` or `NAME=ACTION:N`, with commas."""

NAMES = frozenset({
    "upload.before_rename",
    "job.after_commit",
    "lease.after",
    "point.before_commit",
    "point.after_commit",
    "surface.before_rename",
    "surface.after_rename",
    "worker.before_point",
    "worker.after_point",
})  # fmt: skip
"""All places, by what is about to happen there or just has."""

ACTIONS = frozenset({"kill", "error"})
"""`kill` ends the process as kill -9 does, `error` says that the disk is full."""


def armed(text: str) -> dict[str, tuple[str, int]]:
    """Return what the environment variable asks for.

    Args:
        text: Its value, such as `point.before_commit=kill:3,lease.after=error`.

    Returns:
        Name to action, and at which time of reaching it.

    Raises:
        ValueError: If it makes no sense; a test with a slip in it must not pass.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, _, what = part.partition("=")
        action, _, count = what.partition(":")
        if name not in NAMES or action not in ACTIONS or not (count or "1").isdecimal():
            raise ValueError(
                f"expected NAME=ACTION or NAME=ACTION:N in {VARIABLE} with a name of "
                f"{sorted(NAMES)} and an action of {sorted(ACTIONS)}, got {part!r}"
            )
        found[name] = (action, int(count or 1))
    return found


_ARMED: Mapping[str, tuple[str, int]] = armed(os.environ.get(VARIABLE, ""))
_reached: dict[str, int] = {}


def reach(name: str) -> None:
    """Do what the environment asks for at this place: nothing, unless it is a test.

    Args:
        name: Of the place.

    Raises:
        OSError: As if the disk were full, if that is asked for.
    """
    if name not in _ARMED:
        return
    action, count = _ARMED[name]
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] != count:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
