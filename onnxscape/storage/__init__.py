"""Files: the live point store, surfaces, directions."""

from __future__ import annotations

from onnxscape.files.atomic import write_atomically
from onnxscape.storage.direction_file import (
    DirectionFile,
    StoredTensor,
    load_directions,
    save_directions,
)
from onnxscape.storage.output import check_writable
from onnxscape.storage.point_store import PointStore
from onnxscape.storage.surface_file import (
    is_ours,
    load_landscape,
    save_landscape,
    save_without_loss,
    surface_image,
)
from onnxscape.storage.writer_lock import WriterLock

__all__ = [
    "DirectionFile",
    "PointStore",
    "StoredTensor",
    "WriterLock",
    "check_writable",
    "is_ours",
    "load_directions",
    "load_landscape",
    "save_directions",
    "save_landscape",
    "save_without_loss",
    "surface_image",
    "write_atomically",
]
