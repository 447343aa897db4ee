"""How a model is written down does not change what it computes, nor what the user gave."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscape.core.loss import Loss
from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.canonical import canonical, canonical_of
from onnxscape.graph.model_file import read_model
from onnxscape.graph.passes import structure
from onnxscape.graph.passes.structure import Names, rename
from onnxscape.graph.prepared import prepare

RNG = np.random.default_rng(0)
W = np.float32(RNG.standard_normal((3, 3)))
X = {"x": np.float32(RNG.standard_normal((2, 3)))}


@pytest.fixture
def recurrent(make_model, node):
    """A Scan over rows, h = tanh(x @ w + h @ r), its weights inside: a Constant, a tensor."""
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W, ""))
    body = helper.make_graph(
        [
            constant,
            node("MatMul", ["row", "w"], "a"),
            node("MatMul", ["h", "r"], "b"),
            node("Add", ["a", "b"], "c"),
            node("Tanh", ["c"], "next"),
            node("Identity", ["next"], "out"),
        ],
        "body",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
            for name in ("h", "row")
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
            for name in ("next", "out")
        ],
        [numpy_helper.from_array(W.T.copy(), "r")],
    )
    nodes = [
        node("Unsqueeze", ["x", "one"], "rows"),
        node("Scan", ["start", "rows"], ["last", "all"], body=body, num_scan_inputs=1),
        node("Squeeze", ["all", "one"], "y"),
    ]
    tensors = {"one": np.array([1]), "start": np.zeros((1, 3), np.float32)}
    return make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, tensors)


def test_weights_inside_a_body_become_tensors_of_the_main_graph(recurrent, unchanged):
    form = unchanged(recurrent, X)
    assert form.model.graph.initializers.keys() == {"one", "start", "w", "r"}


def test_preparing_keeps_the_users_bodies_as_they_are(recurrent):
    file = read_model(recurrent)
    before = file.proto.SerializeToString(deterministic=True)
    ir.to_proto(canonical_of(file).model)
    (output,) = file.outputs
    loss = Loss(name="none", output=output.name)
    prepare(file, (), moved=set(), loss=loss).with_overridable_weights()
    assert file.proto.SerializeToString(deterministic=True) == before


def test_a_canonical_form_is_made_once_for_each_precision(recurrent):
    file = read_model(recurrent)
    assert canonical_of(file) is canonical_of(file)
    assert canonical_of(file, "native") is canonical_of(file, "native")
    assert canonical_of(file) is not canonical_of(file, "native")
    assert canonical_of(read_model(recurrent)) is not canonical_of(file)


def test_a_constant_that_is_a_bodys_output_stays_there(make_model, node, unchanged):
    def body(value):
        output = helper.make_tensor_value_info("o", TensorProto.FLOAT, [3])
        constant = helper.make_node(
            "Constant", [], ["o"], value=numpy_helper.from_array(np.float32(value), "")
        )
        return helper.make_graph([constant], "body", [], [output])

    choice = node(
        "If", ["flag"], "c", then_branch=body([1, 2, 3]), else_branch=body([4, 5, 6])
    )
    model = make_model(
        [choice, node("Add", ["x", "c"], "y")],
        {"x": ["n", 3], "flag": []},
        {"y": ["n", 3]},
        {},
        types={"flag": TensorProto.BOOL},
    )
    for flag in (True, False):
        unchanged(model, X | {"flag": np.array(flag)})


def test_renaming_a_tensor_leaves_the_users_alone():
    proto = numpy_helper.from_array(W, "w")
    value = ir.val("w", const_value=ir.from_proto(proto))
    rename(value, "v")
    assert (value.name, value.const_value.name, proto.name) == ("v", "v", "w")
    assert (value.const_value.numpy() == W).all()


def test_a_free_name_is_none_that_is_used(make_model, node):
    nodes = [node("Relu", ["x"], "a"), node("Relu", ["a"], "a_1"), node("Relu", ["a_1"], "y")]
    model = ir.from_proto(make_model(nodes, {"x": [3]}, {"y": [3]}, {}))
    names = Names(model)
    assert names.another("a") == "a_2"
    assert names.another("a") == "a_3"


def test_functions_that_stand_for_too_many_nodes_are_refused(make_model, node, monkeypatch):
    def function(name, nodes):
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
        return helper.make_function("my.own", name, ["a"], ["c"], nodes, opsets)

    def twice(name):
        return [
            helper.make_node(name, ["a"], ["b"], domain="my.own"),
            helper.make_node(name, ["b"], ["c"], domain="my.own"),
        ]

    functions = [
        function("One", [node("Neg", ["a"], "c")]),
        function("Two", twice("One")),
        function("Four", twice("Two")),
    ]
    model = make_model(
        [helper.make_node("Four", ["x"], ["y"], domain="my.own")],
        {"x": [3]},
        {"y": [3]},
        {},
        functions=functions,
    )
    onnx.checker.check_model(model)
    monkeypatch.setattr(structure, "MAX_NODES", 4)
    assert len(canonical(model).model.graph) == 4
    monkeypatch.setattr(structure, "MAX_NODES", 3)
    with pytest.raises(UnsupportedModelError, match="stand for 4 nodes, more than 3"):
        canonical(model)


@pytest.mark.parametrize("op", ["RandomNormalLike", "Bernoulli", "RandomUniformLike"])
def test_a_graph_that_draws_random_numbers_is_refused(op, make_model, node):
    nodes = [node("MatMul", ["x", "w"], "h"), node(op, ["h"], "y")]
    model = make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, {"w": W})
    with pytest.raises(UnsupportedModelError, match=rf"{op} 'y\.node' draws random numbers"):
        canonical(model)
