"""Small files in which what is computed grows with every node: it must not be followed far."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxscape.files.limited_child import run_in_child
from onnxscape.graph.canonical import canonical
from onnxscape.graph.passes import rewriting

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs.split(), **attributes)


# --- the proof that frees the batch -------------------------------------------------------


@pytest.fixture
def told(dense, monkeypatch):
    """Returns what is said of the batch of a model: x is [4, 3], and `w` @ x what it adds."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import limited_proof

    def run(nodes, added, tensors):
        model = dense(tensors={"w": W} | tensors)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
        model.graph.node.extend([*nodes, node("Add", ["y", added], "sum")])
        model.graph.output[0].name = "sum"
        content = model.SerializeToString()
        return run_in_child(
            limited_proof.told, content, seconds=60, memory=4 << 30, most=10000
        ).decode()

    return run


NUMBERS = [
    node("Shape", ["x"], "shape"),
    node("Gather", ["shape", "one"], "size"),
    node("Cast", ["c60"], "added", to=TensorProto.FLOAT),
]


@pytest.mark.parametrize("op", ["Mul", "Add"])
def test_numbers_of_shapes_that_square_or_double(op, told):
    steps = [node(op, [f"c{i}", f"c{i}"], f"c{i + 1}") for i in range(60)]
    nodes = [*NUMBERS[:2], node("Identity", ["size"], "c0"), *steps, NUMBERS[2]]
    assert "made dynamic" in told(nodes, "added", {"one": np.array(1)})


def test_numbers_that_follow_the_batch_and_outgrow_every_shape(told):
    steps = [node("Mul", [f"c{i}", "size"], f"c{i + 1}") for i in range(60)]
    nodes = [*NUMBERS[:2], node("Gather", ["shape", "zero"], "c0"), *steps, NUMBERS[2]]
    tensors = {"one": np.array(1), "zero": np.array(0)}
    assert "in a way that cannot be followed" in told(nodes, "added", tensors)


def test_a_product_of_many_numbers(told):
    steps = [node("Concat", [f"c{i}"] * 200, f"c{i + 1}", axis=0) for i in range(60)]
    nodes = [
        *NUMBERS[:2],
        node("Reshape", ["size", "flat"], "c0"),
        *steps,
        node("ReduceProd", ["c60"], "p", axes=[0], keepdims=0),
        node("Cast", ["p"], "added", to=TensorProto.FLOAT),
    ]
    assert "exported for batches of 4" in told(
        nodes, "added", {"one": np.array(1), "flat": np.array([-1])}
    )


def test_numbers_that_are_broadcast_against_one_another(told):
    steps = [
        made
        for i in range(60)
        for made in (
            node("Reshape", [f"c{i}", "row"], f"r{i}"),
            node("Reshape", [f"c{i}", "column"], f"k{i}"),
            node("Add", [f"r{i}", f"k{i}"], f"c{i + 1}"),
        )
    ]
    nodes = [
        *NUMBERS[:2],
        node("Concat", ["shape"] * 8, "c0", axis=0),
        *steps,
        node("Cast", ["c60"], "f", to=TensorProto.FLOAT),
        node("ReduceMax", ["f"], "added", keepdims=0),
    ]
    tensors = {"one": np.array(1), "row": np.array([1, -1]), "column": np.array([-1, 1])}
    assert "which is not followed" in told(nodes, "added", tensors)


def test_ranks_that_double(told):
    # Sin is not folded: what it makes is a constant of which only the shape is known.
    steps = [node("Gather", [f"c{i}", f"c{i}"], f"c{i + 1}") for i in range(60)]
    nodes = [node("Sin", ["b"], "c0"), *steps]
    assert "has a constant of unknown shape" in told(
        nodes, "c60", {"b": np.ones((2, 2), np.float32)}
    )


def test_sizes_that_multiply(told):
    steps = [node("Tile", [f"c{i}", "many"], f"c{i + 1}") for i in range(2000)]
    nodes = [node("Sin", ["b"], "c0"), *steps]
    tensors = {"b": np.ones((2, 2), np.float32), "many": np.array([2**62, 2**62])}
    assert "has a constant of unknown shape" in told(nodes, "c2000", tensors)


# --- passes -------------------------------------------------------------------------------


def quantized(count, size, opset=17):
    """Return x @ w and as many products of quantized x and one shared weight, summed up."""
    nodes = [node("QuantizeLinear", ["x", "one", "zero"], "q")]
    tensors = {"one": np.float32(1), "zero": np.int8(0), "w": np.ones((3, size), np.int8)}
    for i in range(count):
        inputs = ["q", "one", "zero", "w", f"s{i}", "zero", "one", "zero"]
        nodes += [
            node("QLinearMatMul", inputs, f"p{i}"),
            node("DequantizeLinear", [f"p{i}", "one", "zero"], f"d{i}"),
        ]
        tensors[f"s{i}"] = np.float32(i + 1)
    nodes += [node("Sum", [f"d{i}" for i in range(count)], "sum")]
    return [*nodes, node("ReduceMax", ["sum"], "m", keepdims=0)], tensors


def model_of(dense, nodes, tensors):
    model = dense(tensors=tensors | {"v": W}, weight="v")
    model.graph.node.extend([*nodes, node("Add", ["y", "m"], "z")])
    model.graph.output[0].name = "z"
    return model


def test_a_weight_that_many_operators_dequantize_anew(dense, refused):
    model = model_of(dense, *quantized(100, 1 << 18))
    assert "operators share" in refused(model)


def test_names_are_counted_once_however_many_weights_are_rewritten(dense, monkeypatch):
    counted = []

    class Counted(rewriting.Names):
        def __init__(self, model):
            counted.append(model)
            super().__init__(model)

    monkeypatch.setattr(rewriting, "Names", Counted)
    canonical(model_of(dense, *quantized(20, 4)))
    assert len(counted) == 1


def functions(dense, bodies, calls):
    model = dense(calls, weight="v")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    for name, body in bodies.items():
        model.functions.append(helper.make_function("f", name, ["a"], ["c"], body, opsets))
    model.opset_import.append(helper.make_opsetid("f", 1))
    return model


def test_a_function_that_is_called_very_often(dense, refused):
    calls = [node("F", [f"w{i}" if i else "w"], f"w{i + 1}", domain="f") for i in range(20000)]
    calls.append(node("Identity", ["w20000"], "v"))
    model = functions(dense, {"F": [node("Sin", ["a"], "c")]}, calls)
    assert "with its functions inlined" in refused(model)


def test_functions_that_double_and_are_not_called(dense, evaluate):
    bodies = {"F0": [node("Identity", ["a"], "c")]}
    for depth in range(1, 41):
        inner = f"F{depth - 1}"
        bodies[f"F{depth}"] = [
            node(inner, ["a"], "b", domain="f"),
            node(inner, ["b"], "c", domain="f"),
        ]
    model = functions(dense, bodies, [node("F0", ["w"], "v", domain="f")])
    outcome = evaluate(model)
    assert outcome.status in {0, 4}, outcome


def loop(inner=None):
    """Return a Loop of 10^5 trips, around another one or around nothing."""
    last = node("Neg", ["v"], "o") if inner is None else inner
    body = helper.make_graph(
        [node("Identity", ["c"], "d"), last],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("o", TensorProto.FLOAT, None),
        ],
    )
    return node("Loop", ["trips", "", "v"], "o", body=body)


def test_loops_in_loops(dense, refused):
    outer = loop(loop(loop()))
    outer.input[2], outer.output[0] = "w", "u"
    model = dense([outer], {"w": W, "trips": np.array(10**5)}, weight="u")
    assert "100000 times, 100000 times over" in refused(model)
