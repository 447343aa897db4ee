"""What a limited child process does with arrays of strangers: it reads them.

The server process does not import this module: it names `answer` to a child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscape.data.arrays import npz_names
from onnxscape.data.dataset import LABELS
from onnxscape.errors import OnnxscapeError
from onnxscape.jobs.child_answers import answered
from onnxscape.jobs.order import DataRef
from onnxscape.jobs.order_data import dataset_of
from onnxscape.jobs.worker_messages import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.jobs.worker_place import WorkerPlace


def answer(request: bytes) -> bytes:
    """Answer a question about arrays.

    Args:
        request: As for `answered`, with fields of `DataRef` as `data`.

    Returns:
        As of `answered`.
    """
    return answered(request, {"data": _look_at_data})


def _look_at_data(values: Mapping[str, Any], place: WorkerPlace) -> dict[str, Any]:
    """Read arrays, and tell what they are.

    Returns:
        Name, type and shape of each.

    Raises:
        OnnxscapeError: If they are no data set; without paths of the server.
    """
    ref = DataRef(**values["data"] | {"arrays": tuple(values["data"]["arrays"])})
    path = place.blob_path(ref.blob or "")
    try:
        data = dataset_of(ref, "train", place.blob_path, data_dir=None, offline=True)
        arrays = dict(data.fields) | ({} if data.labels is None else {LABELS: data.labels})
        names = npz_names(path)
    except OnnxscapeError as error:
        error.args = (shortened(str(error).replace(str(path), ref.name)),)
        raise
    found = [[name, str(arrays[name].dtype), list(arrays[name].shape)] for name in names]
    return {"arrays": found}
