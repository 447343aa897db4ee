"""Heads apart from the model: for providers that would compute float64 in less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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
    inputs += [
        _any_shape(value)
        for value in graph.output
        if value.name in read and value.name not in made
    ]
    outputs = [value for value in graph.output if value.name in made]
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    head = helper.make_model(
        helper.make_graph(heads, "heads", inputs, outputs, constants),
        opset_imports=list(body.opset_import),
        ir_version=body.ir_version,
    )
    content: bytes = head.SerializeToString()
    for field, left in (
        (graph.node, [n for n in graph.node if not n.name.startswith(PREFIX)]),
        (graph.input, [v for v in graph.input if v.name != LABELS]),
        (graph.output, [v for v in graph.output if v.name not in made]),
    ):
        kept = [type(item).FromString(item.SerializeToString()) for item in left]
        del field[:]
        field.extend(kept)
    return replace(prepared, proto=body), content


def _any_shape(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    kind = value.type.tensor_type.elem_type or TensorProto.FLOAT
    return helper.make_tensor_value_info(value.name, kind, None)
