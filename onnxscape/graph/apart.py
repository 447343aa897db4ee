"""Heads apart from the model: for providers that would compute float64 in less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper

from onnxscape.graph.heads.builder import LABELS, PREFIX

if TYPE_CHECKING:
    from onnxscape.graph.prepared import PreparedModel


def heads_apart(prepared: PreparedModel) -> tuple[PreparedModel, bytes]:
    """Cut a prepared graph between the model and its heads.

    Args:
        prepared: The model.

    Returns:
        The model without heads: what they read are its outputs, and it takes no labels. And
        the bytes of the heads: their inputs are named like those outputs, and `LABELS`.
    """
    body = onnx.ModelProto()
    body.CopyFrom(prepared.proto)
    graph = body.graph
    heads = [node for node in graph.node if node.name.startswith(PREFIX)]
    made = {name for node in heads for name in node.output}
    read = {name for node in heads for name in node.input}
    inputs = [value for value in graph.input if value.name == LABELS]
    wanted = [value for value in graph.output if value.name in read - made]
    inputs += [_any_shape(value) for value in wanted]
    outputs = [value for value in graph.output if value.name in made]
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    head = helper.make_model(
        helper.make_graph(heads, "heads", inputs, outputs, constants),
        opset_imports=list(body.opset_import),
        ir_version=body.ir_version,
    )
    content: bytes = head.SerializeToString()
    _keep(graph.node, [node for node in graph.node if not node.name.startswith(PREFIX)])
    _keep(graph.input, [value for value in graph.input if value.name != LABELS])
    _keep(graph.output, [value for value in graph.output if value.name not in made])
    return replace(prepared, proto=body), content


def _any_shape(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    kind = value.type.tensor_type.elem_type or TensorProto.FLOAT
    return helper.make_tensor_value_info(value.name, kind, None)


def _keep(field: Any, left: list[Any]) -> None:
    """Leave only some of the messages in a repeated field."""
    kept = [type(item).FromString(item.SerializeToString()) for item in left]
    del field[:]
    field.extend(kept)
