"""Weights that the bodies of If, Loop and Scan hold or capture."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from onnxscape.graph.parameters import find_parameters

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def roles(analysis):
    return {name: p.role.value for name, p in analysis.parameters.items()}


def body(name, weight, tensors=()):
    """Return a body of If that applies a weight of its own or of the outer graph."""
    initializers = [onnx.numpy_helper.from_array(array, key) for key, array in tensors]
    output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4])
    nodes = [node("Gemm", ["x", weight], name)]
    return helper.make_graph(nodes, name, [], [output], initializers)


def test_weights_that_bodies_capture_are_weights(make_model, analysed):
    choice = node(
        "If",
        ["flag"],
        "y",
        then_branch=body("a", "captured"),
        else_branch=body("b", "other"),
    )
    model = make_model(
        [choice],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"captured": tensor(3, 4), "other": tensor(3, 4), "flag": np.array(True)},
    )
    onnx.checker.check_model(model)
    found = analysed(model)
    assert roles(found) == {"captured": "weight", "other": "weight"}
    assert found.parameters["captured"].nodes == ("a.node",)
    assert {name: p.noise_key for name, p in found.parameters.items()} == {
        "other": 0,
        "captured": 1,
    }
    assert found.warnings == ()


def test_weights_that_bodies_hold_are_warned_about_by_name(make_model):
    choice = node(
        "If",
        ["flag"],
        "y",
        then_branch=body("a", "captured"),
        else_branch=body("b", "own", [("own", tensor(3, 4))]),
    )
    model = make_model(
        [choice],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"captured": tensor(3, 4), "flag": np.array(True)},
    )
    parameters, warnings = find_parameters(ir.from_proto(model))
    assert [p.name for p in parameters] == ["captured"]
    assert warnings == ("weights inside If, Loop or Scan bodies are not moved: own",)


def test_a_captured_weight_that_moves_outside_is_not_warned_about(make_model, analysed):
    choice = node("If", ["flag"], "b1", then_branch=body("a", "w"), else_branch=body("b", "w"))
    model = make_model(
        [choice, node("Gemm", ["x", "w"], "b2"), node("Add", ["b1", "b2"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": tensor(3, 4), "flag": np.array(True)},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight"}
    assert found.warnings == ()


def test_a_bias_behind_branches_that_end_in_a_layer_is_a_bias(make_model, analysed):
    choice = node("If", ["flag"], "h", then_branch=body("a", "w"), else_branch=body("b", "w"))
    model = make_model(
        [
            choice,
            node("Add", ["h", "bias"], "g"),
            node("Relu", ["g"], "r"),
            node("Mul", ["r", "table"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": tensor(3, 4), "bias": tensor(4), "table": tensor(2, 4), "flag": np.array(True)},
    )
    assert roles(analysed(model)) == {"w": "weight", "bias": "bias", "table": "bias"}
