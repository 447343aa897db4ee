"""Graphs of the prototypes: fixed batches, moved weights, perturbations, narrow types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxscape.graph.heads.builder import LABELS, PREFIX

if TYPE_CHECKING:
    from measuring import Case

ALPHA, BETA = "alpha", "beta"
NARROW = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def bare(case: Case, batch: int) -> onnx.ModelProto:
    """Return the user's own model for one batch size: nothing moves."""
    proto = onnx.load_from_string(case.file.content)
    return fixed(proto, case.input, batch)


def overridable(case: Case, batch: int, *, data: int | None = None) -> onnx.ModelProto:
    """Return the graph whose moved weights are inputs.

    Args:
        case: The model.
        batch: Samples per run.
        data: If given, all that many samples are one input, and a batch is chosen from it by
            the input `rows` int64 [batch].
    """
    proto = onnx.load_from_string(case.prepared.with_overridable_weights())
    moved = {weight.tensor for weight in case.weights}
    kept = [t for t in proto.graph.initializer if t.name not in moved]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    fixed(proto, case.input, batch)
    if data is not None:
        _choose_rows(proto, case, batch, data)
    return proto


def perturbation(case: Case) -> onnx.ModelProto:
    """Return the graph that computes the weights of a point, as the product does.

    theta + alpha * delta + beta * eta in float64, rounded once; all tensors at once as one
    vector, then cut into pieces.
    """
    outputs = [
        helper.make_tensor_value_info(w.tensor, TensorProto.FLOAT, w.theta.shape)
        for w in case.weights
    ]
    nodes, tensors = _perturbation(case)
    graph = helper.make_graph(nodes, "perturbation", _steps(), outputs, tensors)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def in_graph(case: Case, batch: int) -> onnx.ModelProto:
    """Return the graph that computes its weights itself, from two scalars."""
    proto = overridable(case, batch)
    moved = {weight.tensor for weight in case.weights}
    inputs = [value for value in proto.graph.input if value.name not in moved]
    nodes, tensors = _perturbation(case)
    nodes += list(proto.graph.node)
    del proto.graph.input[:], proto.graph.node[:]
    proto.graph.input.extend([*inputs, *_steps()])
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(tensors)
    return proto


def accumulating(case: Case, batch: int, data: int) -> onnx.ModelProto:
    """Return the graph that adds a batch's loss and hits to sums that stay on the device."""
    proto = overridable(case, batch, data=data)
    double = TensorProto.DOUBLE
    proto.graph.node.extend(
        [
            helper.make_node("Concat", [case.loss, case.hit], ["both"], axis=1),
            helper.make_node("ReduceSum", ["both", "rows_axis"], ["batch_sums"], keepdims=0),
            helper.make_node("Add", ["sums", "batch_sums"], ["new_sums"]),
        ]
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0]), "rows_axis"))
    proto.graph.input.append(helper.make_tensor_value_info("sums", double, [2]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("new_sums", double, [2]))
    return proto


def narrowed(proto: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """Return a graph whose body computes in a narrow type, its loss still in float64."""
    graph = proto.graph
    if kind == "bfloat16":  # convolutions take it from there on; nothing else here changes
        for opset in proto.opset_import:
            if opset.domain == "":
                opset.version = max(opset.version, 22)
    wide = {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    wide |= {v.name for v in graph.input if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    casts: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.name.startswith(PREFIX):
            continue
        for i, name in enumerate(node.input):
            if name in wide:
                narrow = f"{name}::{kind}"
                casts[name] = helper.make_node("Cast", [name], [narrow], to=NARROW[kind])
                node.input[i] = narrow
    nodes = [*casts.values(), *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = NARROW[kind]
    return proto


def fixed(proto: onnx.ModelProto, name: str, batch: int) -> onnx.ModelProto:
    """Return a graph for one batch size: nothing is computed from shapes any more."""
    for value in proto.graph.input:
        if value.name == name:
            value.type.tensor_type.shape.dim[0].dim_value = batch
        elif value.name == LABELS:
            del value.type.tensor_type.shape.dim[:]
            value.type.tensor_type.shape.dim.add(dim_value=batch)
    for value in proto.graph.output:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    del proto.graph.value_info[:]
    return proto


def _choose_rows(proto: onnx.ModelProto, case: Case, batch: int, data: int) -> None:
    graph = proto.graph
    nodes = []
    for value in graph.input:
        if value.name in {case.input, LABELS}:
            old = value.name
            value.name = f"all::{old}"
            value.type.tensor_type.shape.dim[0].dim_value = data
            nodes.append(helper.make_node("Gather", [value.name, "rows"], [old], axis=0))
    nodes += list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("rows", TensorProto.INT64, [batch]))


def _steps() -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [1]) for n in (ALPHA, BETA)]


def _perturbation(case: Case) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    flat = {
        kind: np.concatenate([getattr(w, kind).ravel() for w in case.weights])
        for kind in ("theta", "delta", "eta")
    }
    tensors = [
        numpy_helper.from_array(values.astype(np.float64), f"all::{kind}")
        for kind, values in flat.items()
    ]
    sizes = np.array([w.theta.size for w in case.weights])
    tensors.append(numpy_helper.from_array(sizes, "all::sizes"))
    pieces = [f"{w.tensor}::flat" for w in case.weights]
    nodes = [
        helper.make_node("Mul", [ALPHA, "all::delta"], ["all::along_delta"]),
        helper.make_node("Mul", [BETA, "all::eta"], ["all::along_eta"]),
        helper.make_node("Add", ["all::theta", "all::along_delta"], ["all::partly"]),
        helper.make_node("Add", ["all::partly", "all::along_eta"], ["all::moved64"]),
        helper.make_node("Cast", ["all::moved64"], ["all::moved"], to=TensorProto.FLOAT),
        helper.make_node("Split", ["all::moved", "all::sizes"], pieces, axis=0),
    ]
    for weight, piece in zip(case.weights, pieces, strict=True):
        shape = f"{weight.tensor}::shape"
        tensors.append(numpy_helper.from_array(np.array(weight.theta.shape), shape))
        nodes.append(helper.make_node("Reshape", [piece, shape], [weight.tensor]))
    return nodes, tensors
