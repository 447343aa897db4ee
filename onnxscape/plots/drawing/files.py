"""Saving pictures: whole or not at all."""

from __future__ import annotations

import errno
import io
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl

from onnxscape.errors import OutputError, StorageError
from onnxscape.files.atomic import replacing
from onnxscape.files.location import real_path
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from pathlib import Path

    from onnxscape.plots.drawing.style import Picture

_TEXT_AS_TEXT = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "onnxscape"}
"""Fonts that publishers take (no Type 3), text that can be searched, ids without chance."""

_METADATA = {
    ".png": {"Software": None},
    ".pdf": {"Creator": "onnxscape", "CreationDate": None},
    ".svg": {"Creator": "onnxscape", "Date": None},
}
"""No dates: the same landscape gives the same bytes."""

_STORAGE_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EIO}

_lock = threading.Lock()


def save(picture: Picture, path: Path, *, dpi: int = 200) -> None:
    """Write a picture, atomically.

    Args:
        picture: What to write.
        path: Where, with suffix `.png`, `.pdf` or `.svg`; a file there is replaced.
        dpi: Resolution of pixels.

    Raises:
        OutputError: If the file cannot be written; what was there is left as it was.
        StorageError: If the disk is full or fails.
    """
    suffix = path.suffix.lower()
    buffer = io.BytesIO()
    with _text_as_text():
        picture.savefig(
            buffer,
            format=suffix[1:],
            dpi=dpi,
            bbox_inches="tight",
            pad_inches=0.05,
            facecolor="white",
            metadata=_METADATA[suffix],
        )
    target = real_path(path)
    try:
        with replacing(target) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        if error.errno in _STORAGE_FAILURES:
            raise StorageError(
                f"cannot write the picture {path}: {reason(error)}; the surface is kept: "
                "make room and draw it with `onnxscape plot`"
            ) from error
        raise OutputError(
            f"cannot write the picture {path}: {reason(error)}; choose another place"
        ) from error


@contextmanager
def _text_as_text() -> Iterator[None]:
    """Set for a moment, one thread at a time, what matplotlib reads from globals alone."""
    settings = cast("MutableMapping[str, Any]", mpl.rcParams)
    with _lock:
        before = {key: settings[key] for key in _TEXT_AS_TEXT}
        settings.update(_TEXT_AS_TEXT)
        try:
            yield
        finally:
            settings.update(before)
