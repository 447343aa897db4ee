"""Networks rewritten without changing their function: `filter` must not see the difference.

A convolution before a BatchNormalization may be scaled, or turned around, if the statistics
are changed alike. Filter normalization was made to be blind to that (Li et al., section 4.1).
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxscape as ox

NORMS = {"c1": "b1", "c2": "b2", "dw": "b3"}
"""Convolutions of the reference network, and the BatchNormalization behind each."""

EPSILON = 1e-5


@pytest.fixture(scope="module")
def network(reference):
    """The reference network with a bias in every convolution before a normalization."""
    proto = onnx.load(reference / "model.onnx")
    random = np.random.default_rng(0)
    for node in proto.graph.node:
        if node.op_type == "Conv":
            layer = node.input[1].removesuffix(".weight")
            node.input.append(f"{layer}.bias")
            channels = next(t.dims[0] for t in proto.graph.initializer if t.name in node.input)
            bias = random.normal(size=channels).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(bias, f"{layer}.bias"))
    return proto


@pytest.fixture(scope="module")
def surface(digits_arrays):
    """Evaluates a model on a few points and returns the loss."""

    def loss(model, normalize="filter", **options):
        return ox.evaluate(
            model,
            digits_arrays,
            samples=100,
            grid="5x5",
            seed=4,
            normalize=normalize,
            **options,
        ).loss

    return loss


def per_filter(factors, weight):
    return factors.reshape(-1, *[1] * (weight.ndim - 1)) * weight


def scaled(weights, layer, factors):
    """The layer's filters times positive factors, its normalization changed to undo it."""
    norm = NORMS[layer]
    variance = weights[f"{norm}.running_var"]
    return {
        f"{layer}.weight": per_filter(factors, weights[f"{layer}.weight"]),
        f"{layer}.bias": factors * weights[f"{layer}.bias"],
        f"{norm}.running_mean": factors * weights[f"{norm}.running_mean"],
        f"{norm}.running_var": factors**2 * (variance + EPSILON) - EPSILON,
    }


def turned(weights, layer, signs):
    """Some of the layer's filters turned around, and the scale behind them as well."""
    norm = NORMS[layer]
    return {
        f"{layer}.weight": per_filter(signs, weights[f"{layer}.weight"]),
        f"{layer}.bias": signs * weights[f"{layer}.bias"],
        f"{norm}.running_mean": signs * weights[f"{norm}.running_mean"],
        f"{norm}.weight": signs * weights[f"{norm}.weight"],
    }


def folded(model, weights):
    """The model as an exporter folds it: no normalizations, their factors in the weights."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    values, outputs = {}, {}
    for layer, norm in NORMS.items():
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        values[f"{layer}.weight"] = per_filter(scale, weights[f"{layer}.weight"])
        shifted = weights[f"{layer}.bias"] - weights[f"{norm}.running_mean"]
        values[f"{layer}.bias"] = scale * shifted + weights[f"{norm}.bias"]
    for node in [n for n in proto.graph.node if n.op_type == "BatchNormalization"]:
        outputs[node.output[0]] = node.input[0]
        proto.graph.node.remove(node)
    for node in proto.graph.node:
        node.input[:] = [outputs.get(name, name) for name in node.input]
    kept = [t for t in proto.graph.initializer if t.name.split(".")[0] not in NORMS.values()]
    del proto.graph.initializer[:]
    for tensor in kept:
        array = values.get(tensor.name, numpy_helper.to_array(tensor)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, tensor.name))
    onnx.checker.check_model(proto)
    return proto


@pytest.mark.parametrize("layer", NORMS)
def test_scaling_a_layer_before_a_normalization_changes_nothing(
    network, edited, weights_of, surface, layer
):
    weights = weights_of(network)
    factors = np.full(len(weights[f"{layer}.bias"]), 10.0)
    rewritten = edited(network, scaled(weights, layer, factors))
    np.testing.assert_allclose(surface(rewritten), surface(network), rtol=1e-4)


def test_scaling_is_seen_without_normalization(network, edited, weights_of, surface):
    factors = np.full(16, 10.0)
    rewritten = edited(network, scaled(weights_of(network), "c2", factors))
    ours, theirs = surface(rewritten, "none"), surface(network, "none")
    assert ours[2, 2] == pytest.approx(theirs[2, 2], rel=1e-4)  # the center is the same
    changes = np.abs(ours / theirs - 1)
    assert np.median(changes[changes > 0]) > 0.1


def test_every_filter_may_have_a_scale_of_its_own(network, edited, weights_of, surface):
    factors = np.geomspace(0.1, 10.0, 16)
    rewritten = edited(network, scaled(weights_of(network), "c2", factors))
    np.testing.assert_allclose(surface(rewritten), surface(network), rtol=1e-4)
    # Layer normalization knows the tensor's norm only: it does see the difference.
    by_layer = surface(rewritten, "layer") / surface(network, "layer")
    assert np.median(np.abs(by_layer - 1)) > 0.1


@pytest.fixture(scope="module")
def negative(network, edited, weights_of):
    """The network with every third scale of its normalizations negative."""
    changes, weights = {}, weights_of(network)
    for layer in NORMS:
        signs = np.ones(len(weights[f"{layer}.bias"]))
        signs[::3] = -1.0
        changes |= turned(weights, layer, signs)
    return edited(network, changes)


def test_the_scales_of_the_rewritten_network_are_negative(negative, weights_of):
    weights = weights_of(negative)
    assert all((weights[f"{norm}.weight"] < 0).any() for norm in NORMS.values())


@pytest.mark.parametrize("strategy", ["constant", "overriding"])
def test_negative_scales_change_nothing(network, negative, surface, strategy):
    np.testing.assert_allclose(
        surface(negative, strategy=strategy), surface(network), rtol=1e-4
    )


def test_negative_scales_folded_away_change_nothing(network, negative, weights_of, surface):
    expected = surface(network)
    for model in (network, negative):
        export = folded(model, weights_of(model))
        assert not any(n.op_type == "BatchNormalization" for n in export.graph.node)
        np.testing.assert_allclose(surface(export), expected, rtol=1e-4)
