"""From a request to what a server is sent: a spec, and blobs instead of files and arrays."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import DataError, DirectionError, UsageError
from onnxscape.evaluation.approximation import approximation
from onnxscape.evaluation.given_data import given_data
from onnxscape.evaluation.request import check_names, is_file
from onnxscape.graph.model_file import ModelFile, read_model
from onnxscape.service.client.local_blobs import LocalBlob, arrays_of, write_npz
from onnxscape.v1 import catalog_pb2, jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.core.grid import Axis
    from onnxscape.data import Dataset
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest
    from onnxscape.v1.blobs_pb2 import Digest

_MODEL_NAME = re.compile(r"models/[^/.]+")
_DATA_NAME = re.compile(r"dataSets/[^/.]+")

_HERE_ONLY = ("provider", "threads", "workers")
"""Fields of a request that say how it is run here."""


@dataclass(frozen=True, slots=True)
class Offered:
    """Data that the server offers.

    Attributes:
        name: `dataSets/ID`.
        splits: Those that it has; empty if it is one split.
    """

    name: str
    splits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A model or data that has to be uploaded.

    Attributes:
        blob: Its bytes.
        name: For people.
        format: Of data.
    """

    blob: LocalBlob
    name: str
    format: catalog_pb2.DataFormat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """An order, complete but for the names that the server gives to what is uploaded.

    Attributes:
        model: The model, or its name on the server.
        data: The data, or their name on the server.
        spec: All the rest that defines the numbers.
        execution: How to compute it.
        files: Further blobs that the spec names.
        title: For people.
    """

    model: Uploaded | str
    data: Uploaded | str
    spec: jobs_pb2.JobSpec
    execution: jobs_pb2.Execution
    files: tuple[LocalBlob, ...]
    title: str

    @property
    def blobs(self) -> tuple[LocalBlob, ...]:
        """All that the server has to have."""
        given = (self.model, self.data)
        return (*(g.blob for g in given if isinstance(g, Uploaded)), *self.files)


def pack(
    request: EvalRequest, folder: Path, offered: Mapping[str, Offered], observer: Observer
) -> Parcel:
    """Make an order of a request: everything that stands in files here is read.

    Args:
        request: What to evaluate.
        folder: Where files for the upload are made; it must stay until that is done.
        offered: Data that the server offers, by the name that users write.
        observer: Told of downloads.

    Returns:
        The order.

    Raises:
        UsageError: If the request says how to run it here.
        OnnxscapeError: If something cannot be read.
    """
    refuse_local(request)
    check_names(request)  # as a run here does, and before anything is uploaded
    approximation(request)
    files: list[LocalBlob] = []
    model, model_name = _model(request)
    data, data_name = _data(request, folder, offered, observer)
    spec = jobs_pb2.JobSpec(
        split=request.split,
        samples=_samples(request.samples),
        grid=jobs_pb2.Grid(x=_axis(request.grid.x), y=_axis(request.grid.y)),
        directions=_directions(request, files),
        loss=_loss(request, files),
        input_format=_input_format(request),
        precision=request.precision,
        weights=_weights(request, folder, files),
        savings=_savings(request),
    )
    execution = jobs_pb2.Execution(
        device=request.device,
        strategy=request.strategy or "",
        batch_size=request.batch_size or 0,
    )
    return Parcel(
        model=model,
        data=data,
        spec=spec,
        execution=execution,
        files=tuple(files),
        title=f"{model_name} on {data_name}",
    )


def refuse_local(request: EvalRequest) -> None:
    """Refuse what only has a meaning where the request is run on this machine.

    Args:
        request: The request.

    Raises:
        UsageError: If it says any such thing.
    """
    for name in _HERE_ONLY:
        if getattr(request, name) is not None:
            raise UsageError(
                f"--{name} says how to run it on this machine; leave it out with --server"
            )
    if request.device not in {"auto", "cpu", "cuda"}:
        raise UsageError(
            "expected --device auto, cpu or cuda with --server, which chooses one of its "
            f"devices of that kind, got {request.device!r}"
        )


def _model(request: EvalRequest) -> tuple[Uploaded | str, str]:
    """Return the model, or its name on the server, and its name for people."""
    source = request.model
    if isinstance(source, str | Path):
        text = str(source)
        if _MODEL_NAME.fullmatch(text) and not Path(text).exists():
            return text, text.partition("/")[2]
    file = read_model(source, request.name or "model")
    blob = LocalBlob.of_bytes(f"the model {file.name}", self_contained(file))
    return Uploaded(blob=blob, name=file.name), file.name


def self_contained(file: ModelFile) -> bytes:
    """Return the bytes of a model that refers to no other file.

    Args:
        file: The model.

    Returns:
        The file itself, unless it has external data.
    """
    return file.proto.SerializeToString(deterministic=True) if file.external else file.content


def _data(
    request: EvalRequest,
    folder: Path,
    offered: Mapping[str, Offered],
    observer: Observer,
) -> tuple[Uploaded | str, str]:
    """Return the data, or their name on the server, and their name for people."""
    if isinstance(request.data, str):
        if _DATA_NAME.fullmatch(request.data) and not Path(request.data).exists():
            return request.data, request.data.partition("/")[2]
        there = offered.get(request.data)
        if there is not None and (not there.splits or request.split in there.splits):
            return there.name, request.data
    dataset = given_data(request, observer)
    path = folder / "data.npz"
    write_npz(path, arrays_of(dataset), dataset.name)
    blob = LocalBlob.of_file(f"the data {dataset.name}", path)
    return Uploaded(blob=blob, name=dataset.name, format=_format(dataset)), dataset.name


def _format(dataset: Dataset) -> catalog_pb2.DataFormat:
    steps = dataset.preprocessing
    return catalog_pb2.DataFormat(
        layout=dataset.layout or "",
        preprocessing=None
        if steps is None
        else catalog_pb2.Preprocessing(scale=steps.scale, mean=steps.mean, std=steps.std),
        table=dataset.table,
    )


def _weights(request: EvalRequest, folder: Path, files: list[LocalBlob]) -> Digest | None:
    given = request.weights
    if given is None:
        return None
    path = folder / "weights.npz"
    if isinstance(given, Mapping):
        arrays = {str(name): np.asarray(values) for name, values in given.items()}
        write_npz(path, arrays, "the weights")
    else:
        path = Path(given)
    blob = LocalBlob.of_file("the weights", path)
    files.append(blob)
    return blob.digest


def _directions(request: EvalRequest, files: list[LocalBlob]) -> jobs_pb2.Directions:
    file = None
    if request.directions is not None:
        path = Path(request.directions)
        if not path.is_file():
            raise DirectionError(f"there is no direction file {path}")
        blob = LocalBlob.of_file(f"the directions {path.name}", path)
        files.append(blob)
        file = blob.digest
    return jobs_pb2.Directions(
        seed=request.seed,
        normalization=str(request.normalization),
        ignore=str(request.ignore),
        orthogonal=request.orthogonal,
        file=file,
        include=request.include,
        exclude=request.exclude,
        filter_axis=request.filter_axis,
    )


def _loss(request: EvalRequest, files: list[LocalBlob]) -> jobs_pb2.Loss:
    graphs: dict[str, LocalBlob] = {}
    metrics = [_graph(request, name, graphs) for name in request.metrics or ()]
    loss = "" if request.loss is None else _graph(request, request.loss, graphs)
    files += graphs.values()
    return jobs_pb2.Loss(
        name=loss,
        metrics=metrics,
        no_metrics=request.metrics is not None and not metrics,
        output=request.output or "",
        class_axis=request.class_axis,
        ignore_index=request.ignore_index,
        label_smoothing=request.label_smoothing,
        huber_delta=request.huber_delta,
        graphs={name: blob.digest for name, blob in graphs.items()},
    )


def _graph(request: EvalRequest, name: str, graphs: dict[str, LocalBlob]) -> str:
    """Return what the server is to call a loss or metric; a graph goes into `graphs`.

    Metrics come first: in a surface they are called like their files.
    """
    if not is_file(name):
        return name
    from onnxscape.graph.heads.custom import read_custom  # noqa: PLC0415 - takes a second

    content = request.graphs.get(name)
    file = read_custom(name if content is None else content, Path(name).stem)
    blob = LocalBlob.of_bytes(f"the graph {name}", self_contained(file))
    known = Path(name).name
    if known in graphs and graphs[known] != blob:
        known = f"{Path(name).stem}-{blob.sha256[:8]}.onnx"
    graphs[known] = blob
    return known


def _samples(wanted: int | str | None) -> jobs_pb2.Samples | None:
    if wanted is None:
        return None
    if isinstance(wanted, str):
        if wanted not in {"all", "auto"}:
            raise UsageError(f"expected a number of samples, 'all' or 'auto', got {wanted!r}")
        return jobs_pb2.Samples(all=True) if wanted == "all" else jobs_pb2.Samples(auto=True)
    return jobs_pb2.Samples(count=_whole(wanted, "samples"))


def _whole(number: Any, option: str) -> int:
    try:
        value = operator.index(number)
    except TypeError:
        value = None
    if value is None or not -(2**63) <= value < 2**63:
        raise UsageError(f"expected --{option} as a whole number, got {number!r}")
    return value


def _axis(axis: Axis | None) -> jobs_pb2.Axis | None:
    if axis is None:
        return None
    return jobs_pb2.Axis(start=axis.start, stop=axis.stop, num=axis.num)


def _input_format(request: EvalRequest) -> jobs_pb2.InputFormat | None:
    mean, std = _channels("mean", request.mean), _channels("std", request.std)
    scale = request.scale
    if request.layout is None and mean is None and std is None and scale is None:
        return None
    text = "" if scale is None else scale if isinstance(scale, str) else repr(float(scale))
    return jobs_pb2.InputFormat(layout=request.layout or "", mean=mean, std=std, scale=text)


def _channels(option: str, values: Sequence[float] | None) -> list[float] | None:
    if values is None:
        return None
    numbers = [float(v) for v in np.atleast_1d(np.asarray(values, np.float64))]
    if not numbers:  # would be sent as nothing said
        raise DataError(f"expected --{option} as numbers, one or one per channel, got none")
    return numbers


def _savings(request: EvalRequest) -> jobs_pb2.Savings | None:
    few = request.two_level
    given = (request.tolerance, request.stderr, few)
    if not request.adaptive and all(value is None for value in given):
        return None
    return jobs_pb2.Savings(
        adaptive=request.adaptive,
        tolerance=request.tolerance,
        stderr=request.stderr,
        two_level=None if few is None else _whole(few, "two-level"),
    )
