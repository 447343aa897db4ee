"""Loops: constants that they hand on, and those that would not end."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.canonical import canonical

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


X = {"x": tensor(5, 3)}


def values(**types):
    return [
        helper.make_tensor_value_info(name, kind, [] if name in "icd" else None)
        for name, kind in types.items()
    ]


# --- states that never change -------------------------------------------------------------


def recurrent(make_model, node, op, copied):
    """Return h = tanh(h @ r), three times, where r is a state of the loop."""
    handed = "r_out" if copied else "r"
    nodes = [node("MatMul", ["h", "r"], "a"), node("Tanh", ["a"], "next")]
    if copied:
        nodes += [node("Identity", ["r"], "copy"), node("Identity", ["copy"], "r_out")]
    states = {"h": TensorProto.FLOAT, "r": TensorProto.FLOAT}
    outputs = {"next": TensorProto.FLOAT, handed: TensorProto.FLOAT}
    if op == "Loop":
        nodes.append(node("Identity", ["c"], "d"))
        inputs = values(i=TensorProto.INT64, c=TensorProto.BOOL, **states)
        body = helper.make_graph(nodes, "body", inputs, values(d=TensorProto.BOOL, **outputs))
        call = node("Loop", ["trips", "", "x", "w"], ["y", "rest"], body=body)
    else:
        inputs = values(**states, step=TensorProto.FLOAT)
        body = helper.make_graph(nodes, "body", inputs, values(**outputs))
        call = node("Scan", ["x", "w", "steps"], ["y", "rest"], body=body, num_scan_inputs=1)
    tensors = {"w": tensor(3, 3), "trips": np.array(3), "steps": tensor(3)}
    return make_model([call], {"x": ["n", 3]}, {"y": ["n", 3]}, tensors)


# (ONNX Runtime gives garbage for a Scan whose body hands on its own input without a node.)
@pytest.mark.parametrize(("op", "copied"), [("Loop", True), ("Loop", False), ("Scan", True)])
def test_a_state_that_never_changes_is_read_where_it_is(
    op, copied, make_model, node, unchanged
):
    form = unchanged(recurrent(make_model, node, op, copied), X)
    (product,) = [n for n in form.model.graph.all_nodes() if n.op_type == "MatMul"]
    assert product.inputs[1] is form.model.graph.initializers["w"]


def test_a_state_that_changes_is_left_alone(make_model, node, unchanged):
    body = helper.make_graph(
        [
            node("MatMul", ["h", "r"], "next"),
            node("Neg", ["r"], "turned"),
            node("Identity", ["c"], "d"),
        ],
        "body",
        values(i=TensorProto.INT64, c=TensorProto.BOOL, h=1, r=1),
        values(d=TensorProto.BOOL, next=1, turned=1),
    )
    call = node("Loop", ["trips", "", "x", "w"], ["y", "rest"], body=body)
    tensors = {"w": tensor(3, 3), "trips": np.array(3)}
    form = unchanged(make_model([call], {"x": ["n", 3]}, {"y": ["n", 3]}, tensors), X)
    (product,) = [n for n in form.model.graph.all_nodes() if n.op_type == "MatMul"]
    assert product.inputs[1].name == "r"


# --- loops without an end -----------------------------------------------------------------


@pytest.fixture
def chain(make_model, node):
    """Returns the model x @ w, where a loop makes w of a tensor b."""

    def build(entry, tensors):
        op, inputs, output, attributes = entry
        nodes = [node(op, inputs, output, **attributes), node("MatMul", ["x", "w"], "y")]
        return make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 4]}, tensors)

    return build


def loop(node, trips, condition=("Identity", ("c",))):
    body = helper.make_graph(
        [node(condition[0], condition[1], "d"), node("Identity", ["v"], "o")],
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
    return ("Loop", [trips, "", "b"], "w", {"body": body})


@pytest.mark.parametrize("trips", ["n", ""])
def test_a_loop_that_does_not_end_is_refused(trips, chain, node):
    model = chain(loop(node, trips), {"n": np.array(2**62), "b": tensor(3, 4)})
    with pytest.raises(UnsupportedModelError, match=r"Loop 'w\.node' is to run .*times|end"):
        canonical(model)


def test_a_loop_of_a_few_trips_is_taken(chain, node, unchanged):
    unchanged(chain(loop(node, "n"), {"n": np.array(7), "b": tensor(3, 4)}), X)


def test_a_loop_that_decides_when_to_stop_is_taken(chain, node, unchanged):
    # tf2onnx writes the largest integer for the number of trips.
    stops = loop(node, "n", ("Less", ["i", "seven"]))
    tensors = {"n": np.array(2**62), "b": tensor(3, 4), "seven": np.array(7)}
    unchanged(chain(stops, tensors), X)


def test_a_limit_that_is_computed_from_constants_counts(chain, node):
    model = chain(loop(node, "n"), {"k": np.array(2**20), "b": tensor(3, 4)})
    model.graph.node.insert(0, node("Mul", ["k", "k"], "n"))
    with pytest.raises(UnsupportedModelError, match=f"is to run {2**40} times"):
        canonical(model)


def around(node, inner, trips):
    """Return a Loop around another."""
    op, inputs, _, attributes = inner
    entry = loop(node, trips)
    body = entry[3]["body"]
    body.node[1].CopyFrom(node(op, [*inputs[:2], "v"], "o", **attributes))
    return entry


@pytest.mark.parametrize(("trips", "refused"), [(99, False), (101, True)])
def test_trips_of_loops_in_loops_multiply(trips, refused, chain, node):
    entry = around(node, around(node, loop(node, "n"), "n"), "n")
    model = chain(entry, {"n": np.array(trips), "b": tensor(3, 4)})
    if not refused:
        canonical(model)
        return
    with pytest.raises(UnsupportedModelError, match=f"{trips} times, {trips**2} times over"):
        canonical(model)


def test_the_length_of_a_scan_counts_for_loops_in_it(make_model, node):
    inner = loop(node, "n")
    body = helper.make_graph(
        [node("Loop", ["n", "", "v"], "o", **inner[3]), node("Identity", ["s"], "t")],
        "body",
        values(v=1, s=1),
        values(o=1, t=1),
    )
    nodes = [
        node("Scan", ["b", "long"], ["w", "rest"], body=body, num_scan_inputs=1),
        node("MatMul", ["x", "w"], "y"),
    ]
    tensors = {"n": np.array(1000), "b": tensor(3, 4), "long": np.zeros((1001, 1), np.float32)}
    model = make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 4]}, tensors)
    with pytest.raises(UnsupportedModelError, match="1000 times, 1001 times over"):
        canonical(model)


def trips_from(node, *nodes):
    return [node("Shape", ["x"], "shape"), node("Gather", ["shape", "one"], "size"), *nodes]


@pytest.mark.parametrize("squared", [False, True])
def test_a_loop_is_told_of_that_nothing_limits(squared, chain, node):
    model = chain(
        loop(node, "n" if squared else "size"), {"one": np.array(0), "b": tensor(3, 4)}
    )
    for made in trips_from(node, node("Mul", ["size", "size"], "n"))[::-1]:
        model.graph.node.insert(0, made)
    told = [text for text in canonical(model).warnings if "may take very long" in text]
    assert bool(told) is squared
