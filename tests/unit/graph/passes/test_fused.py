"""Fused operators: the truth is ONNX Runtime's own kernel of them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


ACTIVATIONS = {
    "": [],
    "Relu": [],
    "Sigmoid": [],
    "Tanh": [],
    "LeakyRelu": [0.3],
    "HardSigmoid": [0.7, 0.1],
}


@pytest.fixture
def contrib(make_model, node):
    """Returns a model of one operator of com.microsoft with constant operands."""

    def build(op, x, y, *tensors, **attributes):
        names = "wbz"[: len(tensors)]
        call = node(op, ["x", *names], ["y"], domain="com.microsoft", **attributes)
        operands = dict(zip(names, tensors, strict=True))
        model = make_model([call], {"x": x}, {"y": y}, operands)
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return model

    return build


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_convolution_and_its_activation_are_two(activation, contrib, unchanged, ops):
    options = {"activation": activation, "activation_params": ACTIVATIONS[activation]}
    options = {name: value for name, value in options.items() if value}
    model = contrib(
        "FusedConv", ["n", 4, 6, 6], ["n", 6, 4, 4], tensor(6, 2, 3, 3), tensor(6),
        group=2, **options,
    )  # fmt: skip
    form = unchanged(model, {"x": tensor(2, 4, 6, 6)})
    assert ops(form) == ["Conv", activation] if activation else ["Conv"]


def test_what_a_convolution_adds_comes_before_the_activation(contrib, unchanged, ops):
    model = contrib(
        "FusedConv", [2, 4, 6, 6], [2, 6, 4, 4], tensor(6, 4, 3, 3), tensor(6),
        tensor(2, 6, 4, 4), activation="Relu",
    )  # fmt: skip
    form = unchanged(model, {"x": tensor(2, 4, 6, 6)})
    assert ops(form) == ["Conv", "Add", "Relu"]


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "HardSigmoid"])
def test_a_product_and_its_activation_are_two(activation, contrib, unchanged, ops):
    values = ACTIVATIONS[activation]
    named = {
        f"activation_{name}": v for name, v in zip(("alpha", "beta"), values, strict=False)
    }
    model = contrib(
        "FusedGemm", ["n", 3], ["n", 4], tensor(4, 3), tensor(4), transB=1, alpha=0.5,
        activation=activation, **named,
    )  # fmt: skip
    form = unchanged(model, {"x": tensor(5, 3)})
    assert ops(form) == ["Gemm", activation]


def test_an_unknown_activation_stays_as_it_is(contrib, unchanged, ops):
    model = contrib(
        "FusedConv", [2, 4, 6, 6], [2, 6, 4, 4], tensor(6, 4, 3, 3), tensor(6),
        activation="Clip", activation_params=[0.0, 0.5],
    )  # fmt: skip
    form = unchanged(model, {"x": tensor(2, 4, 6, 6)})
    assert ops(form) == ["FusedConv"]
