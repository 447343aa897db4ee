"""Noise keys: the same network gets the same noise however its file is written."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def keys(analysis):
    found = {name: p.noise_key for name, p in analysis.parameters.items()}
    return {name: key for name, key in found.items() if key is not None}


def branches(swapped=False):
    """Two weights side by side under a third; which one is first is said by Sub's slots."""
    return [
        node("MatMul", ["x", "left"], "l"),
        node("MatMul", ["x", "right"], "r"),
        node("Sub", ["r", "l"] if swapped else ["l", "r"], "d"),
        node("MatMul", ["d", "last"], "y"),
    ]


def branched(make_model, nodes, order=("left", "right", "last"), extra=()):
    shapes = {"left": (3, 4), "right": (3, 4), "last": (4, 2), "unused": (5, 5)}
    tensors = {name: tensor(*shapes[name]) for name in (*extra, *order)}
    return make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 2]}, tensors)


def test_keys_count_weights_depth_first_in_the_order_of_operands(make_model, analysed):
    plain = analysed(branched(make_model, branches()))
    swapped = analysed(branched(make_model, branches(swapped=True)))
    assert keys(plain) == {"left": 0, "right": 1, "last": 2}
    assert keys(swapped) == {"right": 0, "left": 1, "last": 2}


@pytest.mark.parametrize("order", list(itertools.permutations(["left", "right", "last"])))
def test_keys_do_not_depend_on_the_order_of_tensors_in_the_file(order, make_model, analysed):
    found = analysed(branched(make_model, branches(), order, extra=["unused"]))
    assert keys(found) == {"left": 0, "right": 1, "last": 2}


def test_keys_do_not_depend_on_the_order_of_nodes_in_the_file(make_model, analysed):
    for order in itertools.permutations(branches()):
        found = analysed(branched(make_model, list(order)))
        assert keys(found) == {"left": 0, "right": 1, "last": 2}


def renamed(model):
    """Return the model with every node, tensor and value under another name."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    graph = other.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.name = f"renamed::{part.name}"
    for part in graph.node:
        for side in (part.input, part.output):
            side[:] = [f"renamed::{name}" if name else "" for name in side]
    del graph.value_info[:]
    onnx.checker.check_model(other)
    return other


def test_keys_of_a_renamed_export_are_the_same(analysed, reference):
    model = onnx.load(reference / "model.onnx")
    expected = keys(analysed(model))
    assert expected == {
        "c1.weight": 0,
        "c2.weight": 1,
        "dw.weight": 2,
        "f1.weight": 3,
        "f2.weight": 4,
    }
    found = keys(analysed(renamed(model)))
    assert found == {f"renamed::{name}": key for name, key in expected.items()}


def test_keys_of_an_export_with_folded_normalizations_are_the_same(analysed, reference):
    plain = analysed(reference / "model.onnx")
    folded = analysed(reference / "model_bn_folded.onnx")
    assert keys(plain) == keys(folded)
    assert folded.parameters["c1.weight_bias"].role == "bias"


def test_keys_of_an_untrained_checkpoint_are_the_same(analysed, reference):
    # Its export differs: equal tensors were merged, behind Identity nodes.
    untrained, trained = (
        analysed(reference / "checkpoints" / f"epoch_0{epoch}.onnx") for epoch in (0, 8)
    )
    assert keys(untrained) == keys(trained)


def test_keys_do_not_count_normalizations_and_biases(make_model, analysed, batch_norm):
    norm, tensors = batch_norm("a", "b", 4)
    model = make_model(
        [
            node("MatMul", ["x", "first"], "a"),
            norm,
            node("Add", ["b", "bias"], "c"),
            node("MatMul", ["c", "second"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 2]},
        {"first": tensor(3, 4), **tensors, "bias": tensor(4), "second": tensor(4, 2)},
    )
    assert keys(analysed(model)) == {"first": 0, "second": 1}
