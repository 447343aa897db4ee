from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.graph.canonical import canonical
from onnxscape.graph.operands import in_evaluation_order, resolve


def node(op, *inputs, **attributes):
    return helper.make_node(op, inputs, ["y"], **attributes)


VIEWS = {
    "identity": (node("Identity", "w"), [], 17),
    "transpose": (node("Transpose", "w"), [], 17),
    "permutation": (node("Transpose", "w", perm=[2, 0, 3, 1]), [], 17),
    "flatten": (node("Flatten", "w"), [], 17),
    **{
        f"flatten at {axis}": (node("Flatten", "w", axis=axis), [], 17)
        for axis in range(-4, 5)
    },
    "reshape": (node("Reshape", "w", "n"), [6, 4], 17),
    "reshape with -1": (node("Reshape", "w", "n"), [4, -1, 2], 17),
    "reshape with 0": (node("Reshape", "w", "n"), [0, 0, -1], 17),
    "reshape to a vector": (node("Reshape", "w", "n"), [-1], 17),
    "squeeze": (node("Squeeze", "w"), [], 17),
    "squeeze at 1": (node("Squeeze", "w", "n"), [1], 17),
    "squeeze at -3": (node("Squeeze", "w", "n"), [-3], 17),
    "old squeeze at -3": (node("Squeeze", "w", axes=[-3]), [], 11),
    "unsqueeze": (node("Unsqueeze", "w", "n"), [0, 3, -1], 17),
    "old unsqueeze": (node("Unsqueeze", "w", axes=[0, 3]), [], 11),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_followed_as_onnx_runtime_computes_it(name, make_model, run_model):
    view, integers, opset = VIEWS[name]
    w = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    tensors = {"w": w, "n": np.array(integers, dtype=np.int64)}
    model = make_model([view], {}, {"y": None}, tensors, opset=opset)
    (truth,) = run_model(model, {})
    operand = resolve(canonical(model).model.graph.outputs[0])
    assert operand.source.name == "w"
    assert operand.source_shape == (2, 1, 3, 4)
    assert operand.shape == truth.shape
    assert (operand.float64() == truth).all()


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Neg", ["w"], ["y"])],
        [helper.make_node("Reshape", ["w", "x"], ["y"])],
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_node("Identity", ["w"], ["y"], domain="my.own")],
    ],
)
def test_what_is_computed_or_fed_is_no_constant(nodes, make_model):
    model = make_model(
        nodes, {"x": [2]}, {"y": None}, {"w": np.ones(4, np.float32)}, types={"x": 7}
    )
    assert resolve(canonical(model).model.graph.outputs[0]) is None


def test_an_omitted_operand_is_no_constant():
    assert resolve(None) is None


def names_in_order(model):
    return [node.name for node in in_evaluation_order(canonical(model).model.graph)]


def named(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def test_nodes_come_depth_first_in_the_order_of_operands(make_model):
    nodes = [
        named("Relu", ["x"], "shared"),
        named("Neg", ["shared"], "second"),
        named("Exp", ["shared"], "first"),
        named("Abs", ["x"], "unused"),
        named("Sub", ["first", "second"], "y"),
    ]
    model = make_model(nodes, {"x": [2]}, {"y": [2]}, {})
    assert names_in_order(model) == ["shared", "first", "second", "y"]


def test_a_deep_model_does_not_exhaust_the_stack(make_model):
    nodes = [named("Relu", [f"v{i}"], f"v{i + 1}") for i in range(3000)]
    model = make_model(nodes, {"v0": [1]}, {"v3000": [1]}, {})
    order = in_evaluation_order(ir.from_proto(model).graph)
    assert [node.name for node in order] == [f"v{i}" for i in range(1, 3001)]


def test_bodies_come_behind_what_they_capture_and_before_the_node_that_holds_them(make_model):
    def body(name):
        graph_nodes = [named("Neg", ["captured"], name)]
        output = helper.make_tensor_value_info(name, 1, [2])
        return helper.make_graph(graph_nodes, name, [], [output])

    nodes = [
        named("Exp", ["x"], "captured"),
        named("If", ["flag"], "y", then_branch=body("a"), else_branch=body("b")),
    ]
    flag = {"flag": np.array(True)}
    order = names_in_order(make_model(nodes, {"x": [2]}, {"y": [2]}, flag))
    assert order == ["captured", "b", "a", "y"]
