"""Reading a model file: bytes to protobuf, external data, digest, signature."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from onnxscape.core.samples import TensorSignature
from onnxscape.errors import ModelFileError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES = 2**31 - 1
"""Largest model, external data included: what one protobuf message can hold."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelFile:
    """A model as the user gave it.

    Attributes:
        name: For people: the file's name without suffix.
        path: Where it was read from; None if it came as bytes.
        content: The file's bytes.
        proto: The parsed model, external data loaded.
        external: Whether weights stand in files beside it.
        digest: sha256 (hex) of the bytes and of all external data.
    """

    name: str
    path: Path | None
    content: bytes
    proto: onnx.ModelProto
    external: bool
    digest: str

    @property
    def inputs(self) -> tuple[TensorSignature, ...]:
        """What must be fed: the graph's inputs that have no initializer."""
        weights = {tensor.name for tensor in self.proto.graph.initializer}
        return tuple(
            _signature(value) for value in self.proto.graph.input if value.name not in weights
        )

    @property
    def outputs(self) -> tuple[TensorSignature, ...]:
        """What the model computes."""
        return tuple(_signature(value) for value in self.proto.graph.output)


def read_model(source: str | Path | bytes | onnx.ModelProto, name: str = "model") -> ModelFile:
    """Read a model from a file, its bytes, or a parsed message.

    Args:
        source: Path of an .onnx file (its external data beside it), its bytes, or the model.
        name: Name for people, when it comes without a path.

    Returns:
        The model with all its weights in memory.

    Raises:
        ModelFileError: If there is no such file, or it is no readable ONNX model.
        UnsupportedModelError: If it is too large.
    """
    path: Path | None = None
    if isinstance(source, onnx.ModelProto):
        content = source.SerializeToString()
    elif isinstance(source, bytes):
        content = source
    else:
        path = Path(source)
        name = path.stem
        content = _read(path)
    proto = _parse(content, str(path) if path else name)
    sha = hashlib.sha256(content)
    external = [tensor for tensor in _all_tensors(proto) if uses_external_data(tensor)]
    _check_size(len(content), external)
    for tensor in external:
        _load_external(tensor, path)
        sha.update(tensor.raw_data)
    return ModelFile(name, path, content, proto, bool(external), sha.hexdigest())


def _check_size(size: int, external: list[onnx.TensorProto]) -> None:
    """Refuse a model that does not fit into one message, before its weights are read.

    Raises:
        UnsupportedModelError: If it is too large.
    """
    for tensor in external:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        size += math.prod(tensor.dims) * itemsize
    if size > MAX_BYTES:
        raise UnsupportedModelError(
            f"the model has {size / 1e9:.1f} GB with its external data; models of up to 2 GB "
            "can be evaluated"
        )


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModelFileError(f"expected an .onnx file, got the folder {path}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelFileError(
                f"{path} has {size / 1e9:.1f} GB; one ONNX file holds at most 2 GB: keep the "
                "weights in external data"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"no model file at {path}") from None
    except OSError as error:
        raise ModelFileError(f"cannot read the model {path}: {error.strerror}") from error


def _parse(content: bytes, where: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError:
        raise ModelFileError(
            f"{where} is no ONNX model: its {len(content)} bytes are damaged, cut short, or "
            "of another format; export it again"
        ) from None
    if not (proto.ir_version and proto.opset_import and proto.graph.output):
        raise ModelFileError(
            f"{where} is no ONNX model: it has no version, operator set or output; "
            "export it again"
        )
    return proto


def _all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model: none may point to a file unchecked."""
    yield from _tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Yield the tensors in attributes, and those of subgraphs."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for subgraph in attribute.graphs:
                yield from _tensors(subgraph)


def _load_external(tensor: onnx.TensorProto, path: Path | None) -> None:
    if path is None:
        raise ModelFileError(
            f"the weight {tensor.name!r} stands in external data, but the model came without "
            "a path; give the path of its file"
        )
    try:
        # onnx checks here that the location stays inside the folder and is no link out of it.
        load_external_data_for_tensor(tensor, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFileError(
            f"cannot read the external data of weight {tensor.name!r} beside {path}: {reason}"
        ) from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _signature(value: onnx.ValueInfoProto) -> TensorSignature:
    if not value.type.HasField("tensor_type"):
        raise UnsupportedModelError(
            f"{value.name!r} is no tensor but a {value.type.WhichOneof('value')}: only models "
            "whose inputs and outputs are tensors can be evaluated"
        )
    tensor = value.type.tensor_type
    shape = axes = None
    if tensor.HasField("shape"):
        axes = tuple(dim.dim_param or None for dim in tensor.shape.dim)
        shape = tuple(
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
            for dim in tensor.shape.dim
        )
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError, TypeError) as error:
        raise UnsupportedModelError(
            f"{value.name!r} has element type {tensor.elem_type}, which cannot be fed"
        ) from error
    return TensorSignature(value.name, shape, dtype, axes)
