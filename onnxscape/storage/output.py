"""Refusing early an output that could not be written in the end."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from onnxscape.errors import OutputError
from onnxscape.files.atomic import create_in, is_special
from onnxscape.files.location import real_path
from onnxscape.files.reason import reason

_LONGEST_SUFFIX = ".0123456789ab.points.sqlite-journal"
"""Longest ending that is put to an output's name for a file beside it."""


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
    elif is_special(target):
        why = "it is a device or pipe, not a file; choose another name"
    elif target.exists() and not os.access(target, os.W_OK):
        why = "the file there is read-only; choose another name or change its mode"
    elif len(os.fsencode(target.name)) > (most := _longest_name(folder)):
        why = f"the name is too long; use at most {most} bytes"
    else:
        # Only trying tells: the superuser, quotas and mounts escape the mode bits.
        temporary, descriptor = create_in(folder)
        os.close(descriptor)
        temporary.unlink()
    return why


def _longest_name(folder: Path) -> int:
    most = 255
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            most = os.pathconf(folder, "PC_NAME_MAX")
    return most - len(_LONGEST_SUFFIX)
