"""States of loops that never change are seen as the constants they begin with."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.graph.canonical import canonical
from onnxscape.graph.parameters import find_parameters

RNG = np.random.default_rng(0)
FLOAT, INT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=outputs[0], **attributes)


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def loop(passed_on):
    """Return a Loop whose state `w` goes on as some nodes make it."""
    nodes, last = passed_on
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["still"]),
            node("MatMul", ["h", "w_in"], ["h_next"]),
            *nodes,
        ],
        "body",
        [
            info("i", INT, []),
            info("go", BOOL, []),
            info("h", FLOAT, None),
            info("w_in", FLOAT, None),
        ],
        [info("still", BOOL, []), info("h_next", FLOAT, None), info(last, FLOAT, None)],
    )
    return node("Loop", ["two", "true", "x", "w"], ["y", "w_last"], body=body)


def scan(passed_on):
    """Return the same as a Scan over the rows of `steps`."""
    nodes, last = passed_on
    body = helper.make_graph(
        [
            node("MatMul", ["h", "w_in"], ["product"]),
            node("Add", ["product", "row"], ["h_next"]),
            *nodes,
        ],
        "body",
        [info("h", FLOAT, [2, 3]), info("w_in", FLOAT, [3, 3]), info("row", FLOAT, [3])],
        [info("h_next", FLOAT, [2, 3]), info(last, FLOAT, [3, 3])],
    )
    return node("Scan", ["x", "w", "steps"], ["y", "w_last"], body=body, num_scan_inputs=1)


AS_IT_IS = ([], "w_in")
THROUGH_IDENTITY = (
    [node("Identity", ["w_in"], ["w_mid"]), node("Identity", ["w_mid"], ["w_out"])],
    "w_out",
)
CHANGED = ([node("Tanh", ["w_in"], ["w_out"])], "w_out")


@pytest.fixture
def looped(make_model):
    """Returns the model of a Loop or Scan."""

    def make(kind, passed_on):
        tensors = {
            "w": np.float32(RNG.standard_normal((3, 3))),
            "steps": np.float32(RNG.standard_normal((4, 3))),
            "two": np.array(2),
            "true": np.array(True),
        }
        return make_model([kind(passed_on)], {"x": [2, 3]}, {"y": None}, tensors)

    return make


@pytest.mark.parametrize("kind", [loop, scan])
@pytest.mark.parametrize("passed_on", [AS_IT_IS, THROUGH_IDENTITY])
def test_a_weight_that_is_passed_on_as_it_is_is_a_weight(kind, passed_on, looped, run_model):
    model = looped(kind, passed_on)
    form = canonical(model).model
    parameters = {p.name: p for p in find_parameters(form)[0]}
    assert parameters["w"].role == "weight"
    assert (parameters["w"].op, parameters["w"].filter_axis) == ("MatMul", 1)
    h = x = np.float32(RNG.standard_normal((2, 3)))
    w, steps = parameters["w"].values, parameters["steps"].values if kind is scan else [0, 0]
    for row in steps:
        h = h @ w + row
    # (Of a Scan's body that ends in its own input ONNX Runtime itself makes garbage.)
    (y,) = run_model(ir.to_proto(form), {"x": x})
    np.testing.assert_allclose(y, h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [loop, scan])
def test_a_state_that_changes_is_no_weight(kind, looped):
    form = canonical(looped(kind, CHANGED)).model
    parameters = {p.name: p for p in find_parameters(form)[0]}
    assert parameters["w"].role == "constant"
