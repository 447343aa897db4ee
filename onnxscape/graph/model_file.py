"""Reading a model file: bytes to protobuf, external data, digest, signature."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from onnxscape.core.samples import TensorSignature
from onnxscape.errors import ModelFileError, UnsupportedModelError, UsageError
from onnxscape.graph.passes.outputs import keep_tensor_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

MAX_BYTES = 2**31 - 1
"""Largest model, external data included: what one protobuf message can hold."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ModelFile:
    """A model as the user gave it.

    Attributes:
        name: For people: the file's name without suffix.
        path: Where it was read from; None if it came as bytes.
        content: The file's bytes.
        proto: The parsed model, external data loaded.
        external: Whether weights stand in files beside it.
        altered: Whether the parsed model is more than the bytes: external data or given
            weights were put in, or outputs that are no tensors taken out.
        digest: sha256 (hex) of the bytes, of all external data and all given weights.
    """

    name: str
    path: Path | None
    content: bytes
    proto: onnx.ModelProto
    external: bool
    altered: bool
    digest: str

    @property
    def inputs(self) -> tuple[TensorSignature, ...]:
        """What must be fed: the graph's inputs that have no initializer."""
        return tuple(_signature(value) for value in _valueless_inputs(self.proto.graph))

    @property
    def outputs(self) -> tuple[TensorSignature, ...]:
        """What the model computes; an output that has no type is taken for float32."""
        return tuple(
            _signature(value)
            if value.type.tensor_type.elem_type
            else TensorSignature(value.name, None, np.dtype(np.float32))
            for value in self.proto.graph.output
        )

    @property
    def label(self) -> str:
        """What messages call it: its path, or its name if it came without one."""
        return self.name if self.path is None else str(self.path)

    def runnable(self) -> bytes:
        """Return the bytes of the model as it is meant, with all its weights."""
        return self.proto.SerializeToString() if self.altered else self.content


def read_model(
    source: str | Path | bytes | onnx.ModelProto,
    name: str = "model",
    *,
    weights: Mapping[str, NDArray[Any]] | None = None,
) -> ModelFile:
    """Read a model from a file, its bytes, or a parsed message.

    Args:
        source: Path of an .onnx file (its external data beside it), its bytes, or the model.
        name: Name for people, when it comes without a path.
        weights: Values of inputs that are weights, by name, in any order.

    Returns:
        The model with all its weights in memory.

    Raises:
        ModelFileError: If there is no such file, or it is no readable ONNX model.
        UnsupportedModelError: If it is too large, or has no output that is a tensor.
        UsageError: If given weights do not fit.
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
    given = _given_weights(proto.graph, weights or {})
    _check_size(len(content), [*external, *given])
    for tensor in external:
        _load_external(tensor, path)
        sha.update(tensor.raw_data)
    for tensor in given:
        sha.update(tensor.SerializeToString(deterministic=True))
    proto.graph.initializer.extend(given)
    altered = keep_tensor_outputs(proto) or bool(external or given)
    return ModelFile(name, path, content, proto, bool(external), altered, sha.hexdigest())


def _valueless_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that have no initializer."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _given_weights(
    graph: onnx.GraphProto, weights: Mapping[str, NDArray[Any]]
) -> list[onnx.TensorProto]:
    """Return the initializers of inputs that are weights, in the order of the inputs.

    Whatever order they are given in, they are the same model.

    Raises:
        UsageError: If one does not fit.
    """
    places = {value.name: place for place, value in enumerate(graph.input)}
    ordered = sorted(weights, key=lambda name: (places.get(name, -1), name))
    return [_given_weight(graph, name, weights[name]) for name in ordered]


def _given_weight(graph: onnx.GraphProto, name: str, array: NDArray[Any]) -> onnx.TensorProto:
    """Return the initializer of an input that is a weight.

    Raises:
        UsageError: If there is no such input, or the array has another shape or type.
    """
    inputs = {value.name: _signature(value) for value in _valueless_inputs(graph)}
    if name not in inputs:
        raise UsageError(
            f"--weights has {name!r}, which is no input of the model without a value; those "
            f"are {', '.join(inputs)}"
        )
    wanted = inputs[name]
    fits = wanted.shape is None or (
        len(wanted.shape) == array.ndim
        and all(n in {None, m} for n, m in zip(wanted.shape, array.shape, strict=True))
    )
    if not fits or array.dtype != wanted.dtype:
        raise UsageError(
            f"--weights has {name!r} as {list(array.shape)} {array.dtype}; expected {wanted}"
        )
    return onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)


def _check_size(size: int, tensors: list[onnx.TensorProto]) -> None:
    """Refuse a model that does not fit into one message, before its weights are read.

    Raises:
        UnsupportedModelError: If it is too large.
    """
    size += sum(_bytes_of(tensor) for tensor in tensors)
    if size > MAX_BYTES:
        raise UnsupportedModelError(
            f"the model has {size / 1e9:.1f} GB with its external data; models of up to 2 GB "
            "can be evaluated"
        )


def _bytes_of(tensor: onnx.TensorProto) -> int:
    """Return how many bytes the values of a tensor take.

    Raises:
        ModelFileError: If it has no size or type that there is.
    """
    from onnx_ir import DataType  # noqa: PLC0415 - clients, which read models, need no more

    try:
        bits = DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"the tensor {tensor.name!r} has element type {tensor.data_type}, which does not "
            "exist or cannot be kept in external data; export the model again"
        ) from error
    if any(n < 0 for n in tensor.dims):
        raise ModelFileError(
            f"the tensor {tensor.name!r} claims the impossible shape {list(tensor.dims)}; "
            "export the model again"
        )
    return -(-math.prod(tensor.dims) * bits // 8)


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
    where = next((e.value for e in tensor.external_data if e.key == "location"), "")
    # Not what happens to be in the file behind it, which may be any amount.
    if not any(entry.key == "length" for entry in tensor.external_data):
        tensor.external_data.add(key="length", value=str(_bytes_of(tensor)))
    try:
        # onnx checks here that the location stays inside the folder and is no link out of it.
        load_external_data_for_tensor(tensor, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        if where and "/" not in where and not (path.parent / where).exists():
            raise ModelFileError(
                f"the weight {tensor.name!r} of {path} stands in external data, and there is "
                f"no file {where} beside the model: put it into the same folder"
            ) from error
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
