from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxscape.core.direction import Ignore, random_direction
from onnxscape.core.selection import Overrides
from onnxscape.graph.folding import scaled


@dataclass(frozen=True)
class Layer:
    """An operator with 6 output channels that a normalization follows."""

    op: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    bias: tuple[int, ...] | None = None
    attributes: dict[str, int] = field(default_factory=dict)


LAYERS = {
    "conv": Layer("Conv", (5, 3, 6, 6), (6, 3, 3, 3)),
    "conv with bias": Layer("Conv", (5, 3, 6, 6), (6, 3, 3, 3), (6,)),
    "conv of one dimension": Layer("Conv", (5, 3, 6), (6, 3, 3), (6,)),
    "strided conv": Layer("Conv", (5, 3, 7, 7), (6, 3, 3, 3), None, {"strides": [2, 2]}),
    "grouped conv": Layer("Conv", (5, 4, 6, 6), (6, 2, 3, 3), (6,), {"group": 2}),
    "depthwise conv": Layer("Conv", (5, 6, 6, 6), (6, 1, 3, 3), None, {"group": 6}),
    "conv transpose": Layer("ConvTranspose", (5, 3, 4, 4), (3, 6, 2, 2)),
    "grouped conv transpose": Layer(
        "ConvTranspose", (5, 4, 4, 4), (4, 3, 2, 2), (6,), {"group": 2}
    ),
    "gemm": Layer("Gemm", (5, 3), (3, 6)),
    "gemm transB with bias": Layer("Gemm", (5, 3), (6, 3), (6,), {"transB": 1}),
    "gemm with a row as bias": Layer("Gemm", (5, 3), (3, 6), (1, 6)),
    "gemm with a number as bias": Layer("Gemm", (5, 3), (3, 6), ()),
    "gemm with one number as bias": Layer("Gemm", (5, 3), (3, 6), (1,)),
}
GAMMA = [1.5, -0.5, 0.0, -2.0, 0.7, 1.0]


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


@pytest.fixture
def make_layer(make_model, batch_norm):
    """Returns the model of a layer, its normalization, and nodes to put around them."""

    def make(layer, behind=(), *, last="y", gamma=GAMMA, **options):
        rng = np.random.default_rng(0)
        norm, tensors = batch_norm("h", last, 6, gamma)
        tensors = {"w": rng.standard_normal(layer.weight), **tensors}
        operands = ["x", "w"]
        if layer.bias is not None:
            tensors["b"] = rng.standard_normal(layer.bias)
            operands.append("b")
        return make_model(
            [node(layer.op, operands, "h", **layer.attributes), norm, *behind],
            {"x": ["n", *layer.x[1:]]},
            {"y": ["n", 6, *[None] * (len(layer.x) - 2)]},
            {name: np.float32(array) for name, array in tensors.items()},
            **options,
        )

    return make


def samples(layer, seed=1):
    rng = np.random.default_rng(seed)
    return {"x": np.float32(rng.standard_normal(layer.x))}


@pytest.fixture
def check_equal(analysed, run_model, run_prepared, edited):
    """Returns a check that a prepared model computes what the user's does, near and far."""

    def check(model, layer, *, folded, moved=None, loss="mse", fold=True, overrides=None):
        found = analysed(model, overrides)
        prepared = found.prepared(moved, loss, fold=fold)
        assert prepared.folded == folded
        assert sum(n.op_type == "BatchNormalization" for n in prepared.proto.graph.node) == (
            1 - folded
        )
        step = random_direction(
            tuple(found.parameters.values()),
            seed=0,
            axis=0,
            ignore=Ignore.NONE if moved else Ignore.BIASBN,
        ).tensors
        feeds = samples(layer)
        for alpha in (0.0, 0.5, -3.0):
            moved_weights = {
                slot.parameter.name: slot.parameter.values + alpha * step[slot.parameter.name]
                for slot in prepared.slots
            }
            (truth,) = run_model(edited(model, moved_weights), feeds)
            targets = np.zeros_like(truth)
            ours, losses = run_prepared(prepared, feeds, targets, step, alpha)
            scale = np.abs(truth).max()
            np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-5 * scale)
            expected = np.square(truth.astype(float)).reshape(len(truth), -1).mean(axis=1)
            np.testing.assert_allclose(losses[:, 0], expected, rtol=1e-4)

    return check


@pytest.mark.parametrize("name", LAYERS)
def test_a_folded_layer_computes_the_same_at_the_center_and_off_it(
    name, make_layer, check_equal
):
    check_equal(make_layer(LAYERS[name]), LAYERS[name], folded=1)


@pytest.mark.parametrize("name", LAYERS)
def test_an_unfolded_layer_computes_the_same_at_the_center_and_off_it(
    name, make_layer, check_equal
):
    check_equal(make_layer(LAYERS[name]), LAYERS[name], folded=0, fold=False)


@pytest.mark.parametrize("name", ["conv with bias", "gemm"])
def test_a_layer_in_the_middle_of_a_network_is_folded(name, make_layer, check_equal):
    layer = LAYERS[name]
    model = make_layer(layer, [node("Relu", ["last"], "y")], last="last")
    check_equal(model, layer, folded=1)


def test_an_old_operator_set_is_folded(make_layer, check_equal):
    check_equal(make_layer(LAYERS["conv with bias"], opset=11), LAYERS["conv"], folded=1)


def test_a_bias_behind_a_view_is_folded_as_the_operator_sees_it(make_model, check_equal):
    rng = np.random.default_rng(0)
    layer = LAYERS["conv with bias"]
    tensors = {
        "w": rng.standard_normal(layer.weight),
        "b": rng.standard_normal((2, 3)),
        "gamma": rng.standard_normal((2, 3)),
        "zero": np.zeros(6),
        "one": np.ones(6),
    }
    tensors = {name: np.float32(array) for name, array in tensors.items()}
    nodes = [
        node("Transpose", ["b"], "bt"),
        node("Reshape", ["bt", "six"], "bias"),
        node("Transpose", ["gamma"], "gt"),
        node("Reshape", ["gt", "six"], "scale"),
        node("Conv", ["x", "w", "bias"], "h"),
        node("BatchNormalization", ["h", "scale", "zero", "zero", "one"], "y"),
    ]
    model = make_model(
        nodes,
        {"x": ["n", *layer.x[1:]]},
        {"y": ["n", 6, None, None]},
        tensors | {"six": np.array([6])},
    )
    check_equal(model, layer, folded=1)


def test_every_normalization_of_the_reference_network_is_folded(analysed, reference):
    prepared = analysed(reference / "model.onnx").prepared()
    assert prepared.folded == 3
    kinds = {n.op_type for n in prepared.proto.graph.node}
    assert "BatchNormalization" not in kinds


def test_folding_leaves_no_unused_tensor(analysed, make_layer):
    proto = analysed(make_layer(LAYERS["conv with bias"])).prepared(loss="mse").proto
    used = {name for n in proto.graph.node for name in n.input}
    assert {t.name for t in proto.graph.initializer} <= used


def test_a_folded_weight_is_addressed_by_the_name_in_the_users_file(analysed, make_layer):
    (slot,) = analysed(make_layer(LAYERS["conv"])).prepared(loss="mse").slots
    assert slot.parameter.name == "w"
    assert slot.tensor != "w"
    assert slot.scale.shape == (6,)


def test_the_output_keeps_its_name_where_its_node_was_folded_away(analysed, make_layer):
    prepared = analysed(make_layer(LAYERS["conv"])).prepared(loss="mse")
    assert prepared.output == "y"
    assert [o.name for o in prepared.proto.graph.output] == ["y", "onnxscape::loss"]


# --- what must not be folded --------------------------------------------------------------


@pytest.mark.parametrize("also", ["b", "bn.gamma", "bn.beta"])
def test_a_layer_is_not_folded_where_more_than_the_weight_moves(also, make_layer, check_equal):
    layer = LAYERS["conv with bias"]
    check_equal(make_layer(layer), layer, folded=0, moved={"w", also})


def test_a_layer_whose_weight_does_not_move_is_not_folded(make_layer, check_equal):
    layer = LAYERS["conv with bias"]
    check_equal(make_layer(layer), layer, folded=0, moved={"b"})
    check_equal(make_layer(layer), layer, folded=0, moved=set())


def test_a_shared_weight_is_not_folded(make_layer, check_equal):
    layer = LAYERS["conv"]
    other = [node("Conv", ["x", "w"], "g"), node("Add", ["last", "g"], "y")]
    check_equal(make_layer(layer, other, last="last"), layer, folded=0)


def test_a_weight_behind_a_view_is_not_folded(make_model, batch_norm, check_equal):
    layer = LAYERS["gemm"]
    norm, tensors = batch_norm("h", "y", 6, GAMMA)
    w = np.float32(np.random.default_rng(0).standard_normal((6, 3)))
    model = make_model(
        [node("Transpose", ["w"], "wt"), node("Gemm", ["x", "wt"], "h"), norm],
        {"x": ["n", 3]},
        {"y": ["n", 6]},
        {"w": w, **tensors},
    )
    check_equal(model, layer, folded=0)


def test_an_output_that_is_used_twice_is_not_normalized_away(make_layer, check_equal):
    layer = LAYERS["conv"]
    other = [node("Add", ["last", "h"], "y")]
    check_equal(make_layer(layer, other, last="last"), layer, folded=0)


def test_an_output_of_the_model_is_not_normalized_away(analysed, make_layer):
    model = make_layer(LAYERS["conv"], [node("Relu", ["last"], "z")], last="last")
    model.graph.output[0].name = "h"  # the convolution's own output; the rest is not used
    assert analysed(model).prepared(loss="mse").folded == 0


def test_a_normalization_by_tensors_that_are_fed_is_not_folded(make_layer, analysed):
    model = make_layer(LAYERS["conv"])
    kept = [t for t in model.graph.initializer if t.name != "bn.gamma"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    fed = helper.make_tensor_value_info("bn.gamma", onnx.TensorProto.FLOAT, [6])
    model.graph.input.append(fed)
    assert analysed(model).prepared(loss="mse").folded == 0


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 0.5}])
def test_a_scaled_gemm_is_not_folded(attributes, make_layer, check_equal):
    layer = Layer("Gemm", (5, 3), (3, 6), (6,), attributes)
    check_equal(make_layer(layer), layer, folded=0)


@pytest.mark.parametrize("bias", [(6, 6), (6, 1)])
def test_a_bias_per_sample_is_not_folded(bias, make_layer, check_equal):
    # With as many samples as channels a column looks like a row to a careless eye.
    layer = Layer("Gemm", (6, 3), (3, 6), bias)
    check_equal(make_layer(layer), layer, folded=0)


def test_a_bias_that_is_computed_is_not_folded(make_model, batch_norm, check_equal):
    layer = LAYERS["conv with bias"]
    rng = np.random.default_rng(0)
    norm, tensors = batch_norm("h", "y", 6, GAMMA)
    model = make_model(
        [node("Erf", ["b"], "c"), node("Conv", ["x", "w", "c"], "h"), norm],
        {"x": ["n", *layer.x[1:]]},
        {"y": ["n", 6, None, None]},
        {
            "w": np.float32(rng.standard_normal(layer.weight)),
            "b": np.float32(rng.standard_normal(6)),
            **tensors,
        },
    )
    check_equal(model, layer, folded=0)


def test_a_matmul_has_no_bias_to_fold_into(make_model, batch_norm, check_equal):
    norm, tensors = batch_norm("h", "y", 6, GAMMA)
    w = np.float32(np.random.default_rng(0).standard_normal((3, 6)))
    model = make_model(
        [node("MatMul", ["x", "w"], "h"), norm],
        {"x": ["n", 3]},
        {"y": ["n", 6]},
        {"w": w, **tensors},
    )
    check_equal(model, LAYERS["gemm"], folded=0)


def test_only_weights_have_filters_to_scale(analysed, make_layer):
    gamma = analysed(make_layer(LAYERS["conv"])).parameters["bn.gamma"]
    with pytest.raises(TypeError, match=r"bn\.gamma has no filters"):
        scaled(gamma, gamma.values, np.ones(6))


@pytest.mark.parametrize("names", [["bn.gamma"], ["bn.beta"], ["b"]])
def test_a_layer_is_not_folded_where_the_user_includes_what_it_is_made_of(
    names, make_layer, check_equal
):
    overrides = Overrides(include=tuple(names))
    layer = LAYERS["conv with bias"]
    check_equal(make_layer(layer), layer, folded=0, overrides=overrides)


def test_a_layer_is_not_folded_along_another_axis_than_its_own(make_layer, check_equal):
    square = Layer("Conv", (5, 6, 6, 6), (6, 6, 3, 3), (6,))
    turned = Overrides(filter_axis={"w": 1})
    check_equal(make_layer(square), square, folded=1)
    check_equal(make_layer(square), square, folded=0, overrides=turned)
