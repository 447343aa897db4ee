"""Models and data sets as messages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from onnxscape.service.answers.names import DATA_SETS, MODELS
from onnxscape.service.answers.times import timestamp
from onnxscape.v1 import blobs_pb2, catalog_pb2

if TYPE_CHECKING:
    from onnxscape.service.answers.findings import Findings
    from onnxscape.service.catalog.records import DataSetRecord, ModelRecord

LAYOUTS = ("NCHW", "NHWC")

_CHANNELS = 4096


def model_message(record: ModelRecord) -> catalog_pb2.Model:
    """Return what a caller is told of a model.

    Args:
        record: The model.

    Returns:
        The message.
    """
    return catalog_pb2.Model(
        name=f"{MODELS}/{record.id}",
        display_name=record.display_name,
        blob=blobs_pb2.Digest(sha256=record.sha256, size=record.size),
        public=record.public,
        create_time=timestamp(record.created),
        parameter_count=record.parameters,
        moved_count=record.moved,
    )


def data_set_message(record: DataSetRecord) -> catalog_pb2.DataSet:
    """Return what a caller is told of a data set.

    Args:
        record: The data set.

    Returns:
        The message.
    """
    message = catalog_pb2.DataSet(
        name=f"{DATA_SETS}/{record.id}",
        display_name=record.display_name,
        public=record.public,
        create_time=timestamp(record.created),
        arrays=[
            catalog_pb2.ArrayInfo(name=entry.name, dtype=entry.dtype, shape=entry.shape)
            for entry in record.arrays
        ],
        format=catalog_pb2.DataFormat(layout=record.layout or "", table=record.table),
        splits=record.splits,
    )
    if record.sha256 is not None:
        message.blob.sha256 = record.sha256
        message.blob.size = record.size
    given = record.preprocessing
    if given is not None:
        message.format.preprocessing.scale = given["scale"]
        message.format.preprocessing.mean.extend(given["mean"] or ())
        message.format.preprocessing.std.extend(given["std"] or ())
    return message


def check_format(form: catalog_pb2.DataFormat, findings: Findings) -> None:
    """Check what a request says of arrays.

    Args:
        form: The message.
        findings: Told what is wrong with it.
    """
    findings.one_of("format.layout", LAYOUTS, form.layout, empty=True)
    given = form.preprocessing
    if given.HasField("scale"):
        findings.number("format.preprocessing.scale", given.scale, above=0)
    for name, numbers, above in (("mean", given.mean, -math.inf), ("std", given.std, 0.0)):
        path = f"format.preprocessing.{name}"
        findings.count(path, len(numbers), most=_CHANNELS)
        for at, number in enumerate(numbers[:_CHANNELS]):
            findings.number(f"{path}[{at}]", number, above=above)


def preprocessing_of(form: catalog_pb2.DataFormat) -> dict[str, Any] | None:
    """Return what is done to values, as `Preprocessing.as_json` gives it.

    Args:
        form: A message that `check_format` found nothing wrong with.

    Returns:
        The values; None for nothing.
    """
    if not form.HasField("preprocessing"):
        return None
    given = form.preprocessing
    return {
        "scale": given.scale if given.HasField("scale") else 1.0,
        "mean": list(given.mean) or None,
        "std": list(given.std) or None,
    }
