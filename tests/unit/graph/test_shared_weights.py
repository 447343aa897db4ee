"""Weights that are used twice, or written twice."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def roles(analysis):
    return {name: p.role.value for name, p in analysis.parameters.items()}


def tied(make_model, **options):
    """One matrix used twice: x @ w, then @ its transpose; between them another weight."""
    return make_model(
        [
            node("MatMul", ["x", "w"], "h"),
            node("MatMul", ["h", "v"], "g"),
            node("Transpose", ["w"], "wt"),
            node("MatMul", ["g", "wt"], "f"),
            node("MatMul", ["f", "u"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 2]},
        {"u": tensor(3, 2), "w": tensor(3, 4), "v": tensor(4, 4)},
        **options,
    )


def test_a_shared_weight_is_one_parameter_with_the_axis_of_its_first_use(make_model, analysed):
    found = analysed(tied(make_model))
    assert roles(found) == {"u": "weight", "w": "weight", "v": "weight"}
    assert found.parameters["w"].nodes == ("h.node", "f.node")
    assert found.parameters["w"].filter_axis == 1


def test_a_shared_weight_has_one_noise_key(make_model, analysed):
    parameters = analysed(tied(make_model)).parameters
    assert {name: p.noise_key for name, p in parameters.items()} == {"w": 0, "v": 1, "u": 2}


def test_a_tensor_that_is_a_weight_anywhere_is_a_weight(make_model, analysed):
    model = make_model(
        [
            node("MatMul", ["x", "v"], "h"),
            node("Add", ["h", "w"], "g"),
            node("MatMul", ["g", "w"], "y"),
        ],
        {"x": [4, 3]},
        {"y": [4, 4]},
        {"v": tensor(3, 4), "w": tensor(4, 4)},
    )
    found = analysed(model)
    assert roles(found) == {"v": "weight", "w": "weight"}
    assert (found.parameters["v"].noise_key, found.parameters["w"].noise_key) == (0, 1)
    assert found.parameters["w"].op == "MatMul"
    assert found.parameters["w"].nodes == ("g.node", "y.node")


def test_a_weight_with_the_same_filters_in_each_use_is_not_warned_of(make_model, analysed):
    model = make_model(
        [
            node("Gather", ["words", "i"], "e"),
            node("MatMul", ["e", "w"], "h"),
            node("Transpose", ["words"], "turned"),
            node("MatMul", ["h", "turned"], "y"),
        ],
        {"i": ["n"]},
        {"y": ["n", 9]},
        {"words": tensor(9, 4), "w": tensor(4, 4)},
        types={"i": onnx.TensorProto.INT64},
    )
    found = analysed(model)
    assert found.parameters["words"].filter_axis == 0
    assert found.warnings == ()


def test_a_weight_with_other_filters_in_a_later_use_is_warned_of(make_model, analysed):
    (warning,) = analysed(tied(make_model)).warnings
    assert warning == (
        "weight 'w' is used again by MatMul with other filters (axis 0, not 1): it moves as "
        "one tensor, normalized by those of its first use"
    )


def test_groups_that_cut_a_weight_in_another_way_are_other_filters(make_model, analysed):
    model = make_model(
        [
            node("ConvTranspose", ["x", "w"], "h"),
            node("ConvTranspose", ["x", "w"], "g", group=2),
            node("Concat", ["h", "g"], "y", axis=1),
        ],
        {"x": ["n", 4, 3]},
        {"y": None},
        {"w": tensor(4, 2, 1)},
    )
    assert "used again by ConvTranspose" in analysed(model).warnings[0]


@pytest.mark.parametrize("turned", [False, True])
def test_copies_of_a_weight_are_warned_of(turned, make_model, analysed):
    w = tensor(4, 4)
    model = make_model(
        [node("MatMul", ["x", "a"], "h"), node("MatMul", ["h", "b"], "y")],
        {"x": ["n", 4]},
        {"y": ["n", 4]},
        {"a": w, "b": w.T.copy() if turned else w},
    )
    (warning,) = analysed(model).warnings
    assert warning.startswith("weights a and b hold the same values")


@pytest.mark.parametrize(
    "other",
    [
        np.flip(np.arange(16.0).reshape(4, 4)),
        np.arange(16.0).reshape(4, 4) + np.eye(4),
        np.arange(16.0).reshape(2, 8),
    ],
)
def test_weights_with_other_values_are_no_copies(other, make_model, analysed):
    model = make_model(
        [
            node("MatMul", ["x", "a"], "h"),
            node("MatMul", ["z", "b"], "g"),
            node("Concat", ["h", "g"], "y", axis=1),
        ],
        {"x": ["n", 4], "z": ["n", len(other)]},
        {"y": None},
        {"a": np.float32(np.arange(16).reshape(4, 4)), "b": np.float32(other)},
    )
    assert analysed(model).warnings == ()


@pytest.mark.parametrize("w", [np.ones((4, 4)), np.arange(9.0).reshape(3, 3)])
def test_constant_and_tiny_weights_are_not_compared(w, make_model, analysed):
    model = make_model(
        [node("MatMul", ["x", "a"], "h"), node("MatMul", ["h", "b"], "y")],
        {"x": ["n", len(w)]},
        {"y": ["n", len(w)]},
        {"a": np.float32(w), "b": np.float32(w)},
    )
    assert analysed(model).warnings == ()
