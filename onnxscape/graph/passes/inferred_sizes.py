"""Sizes that a file does not state, but that follow from those it states."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from onnx import shape_inference

from onnxscape.files.limited_child import ChildError, run_in_child

if TYPE_CHECKING:
    from collections.abc import Mapping

INFERENCE_SECONDS = 20
"""How long the inference may take; ordinary ones take far less than a second."""

_MOST_BYTES = 2**28
"""Largest model, weights included, whose shapes are inferred."""

_MOST_SIZES = 64
"""Elements of initializers whose values may be sizes; of others the shape is enough."""


def inferred_shapes(model: ir.Model) -> Mapping[str, tuple[int | None, ...]]:
    """Infer the shapes of the values of the main graph.

    What infers them is native code that was not written for hostile files: it runs in a child
    process with limits.

    Args:
        model: The model; it is not changed.

    Returns:
        Shapes by name, None for axes without a size; nothing if that fails, or if the model
        is large.
    """
    tensors = [value.const_value for value in model.graph.initializers.values()]
    if sum(tensor.nbytes for tensor in tensors if tensor is not None) > _MOST_BYTES:
        return {}
    proto = ir.to_proto(model)
    fed = {value.name for value in proto.graph.input}
    small = []
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= _MOST_SIZES:
            small.append(tensor)
        elif tensor.name not in fed:
            proto.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    content = proto.SerializeToString()
    try:
        found = run_in_child(
            shapes_as_json,
            content,
            seconds=INFERENCE_SECONDS,
            memory=(1 << 30) + 8 * len(content),
            most=8 * len(content) + (1 << 20),
        )
    except ChildError:
        return {}
    return {name: tuple(shape) for name, shape in json.loads(found).items()}


def shapes_as_json(content: bytes) -> bytes:
    """Return the shapes of a serialized model; called in the child process."""
    model = onnx.ModelProto.FromString(content)
    # Strict: where the file contradicts itself, nothing is inferred.
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {}
    for value in model.graph.value_info:
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = [
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            ]
    return json.dumps(shapes).encode()
