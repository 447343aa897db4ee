"""Failpoints: places where tests let a server die, or its disk be full."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "ONNXSCAPE_FAILPOINTS"
"""`NAME=kill`, `NAME=kill:3` (when reached for the third time), `NAME=full`; with commas."""


def _parsed(text: str) -> dict[str, tuple[str, int]]:
    found = {}
    for part in filter(None, text.split(",")):
        name, _, what = part.partition("=")
        action, _, count = what.partition(":")
        found[name] = (action, int(count or 1))
    return found


_ARMED: Mapping[str, tuple[str, int]] = _parsed(os.environ.get(VARIABLE, ""))
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
    if action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
