"""Parameters: the roles of a model's tensors, by what their operators do with them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.core.direction import random_direction
from onnxscape.graph.model_file import read_model
from onnxscape.graph.parameters import find_parameters
from onnxscape.graph.prepared import analyse

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def roles(analysis):
    return {name: p.role.value for name, p in analysis.parameters.items()}


def test_the_operands_of_layers_have_the_roles_of_the_table(make_model, analysed, batch_norm):
    norm, statistics = batch_norm("a", "b", 4)
    model = make_model(
        [
            node("Conv", ["x", "conv.w", "conv.b"], "a"),
            norm,
            node("PRelu", ["b", "slope"], "c"),
            node("InstanceNormalization", ["c", "in.w", "in.b"], "d"),
            node("ConvTranspose", ["d", "deconv.w", "deconv.b"], "e"),
            node("Flatten", ["e"], "f"),
            node("LayerNormalization", ["f", "ln.w", "ln.b"], "g"),
            node("Gemm", ["g", "fc.w", "fc.b"], "y"),
        ],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 10]},
        {
            "conv.w": tensor(4, 3, 1, 1),
            "conv.b": tensor(4),
            **statistics,
            "slope": tensor(4, 1, 1),
            "in.w": tensor(4),
            "in.b": tensor(4),
            "deconv.w": tensor(4, 2, 1, 1),
            "deconv.b": tensor(2),
            "ln.w": tensor(32),
            "ln.b": tensor(32),
            "fc.w": tensor(32, 10),
            "fc.b": tensor(10),
        },
    )
    found = analysed(model)
    assert roles(found) == {
        "conv.w": "weight",
        "conv.b": "bias",
        "bn.gamma": "normalization",
        "bn.beta": "normalization",
        "bn.mean": "statistic",
        "bn.var": "statistic",
        "slope": "normalization",
        "in.w": "normalization",
        "in.b": "normalization",
        "deconv.w": "weight",
        "deconv.b": "bias",
        "ln.w": "normalization",
        "ln.b": "normalization",
        "fc.w": "weight",
        "fc.b": "bias",
    }
    assert list(found.parameters) == [t.name for t in model.graph.initializer]
    assert found.parameters["bn.gamma"].op == "BatchNormalization"
    assert found.parameters["fc.b"].nodes == ("y.node",)
    assert found.warnings == ()


@pytest.mark.parametrize("shape", [(4,), (4, 1, 1), (1, 4, 1, 1)])
@pytest.mark.parametrize(
    ("op", "role"),
    [("Add", "bias"), ("Sub", "bias"), ("Mul", "normalization"), ("Div", "normalization")],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_arithmetic_behind_a_weight_is_trained_whatever_its_rank(
    op, role, shape, swapped, make_model, analysed
):
    operands = ["h", "c"][:: -1 if swapped else 1]
    model = make_model(
        [
            node("Conv", ["x", "w"], "h"),
            node(op, operands, "y"),
        ],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 4, 4, 4]},
        {"w": tensor(4, 3, 1, 1), "c": tensor(*shape)},
    )
    assert roles(analysed(model)) == {"w": "weight", "c": role}


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_before_any_weight_is_preprocessing(op, make_model, analysed):
    model = make_model(
        [node(op, ["x", "mean"], "h"), node("Conv", ["h", "w"], "y")],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 4, 4, 4]},
        {"w": tensor(4, 3, 1, 1), "mean": tensor(1, 3, 1, 1)},
    )
    assert roles(analysed(model)) == {"mean": "constant", "w": "weight"}


def test_a_single_number_behind_a_weight_is_a_constant_of_a_formula(make_model, analysed):
    model = make_model(
        [node("Gemm", ["x", "w"], "h"), node("Mul", ["h", "half"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": tensor(3, 4), "half": np.float32(0.5)},
    )
    assert roles(analysed(model))["half"] == "constant"


def test_a_branch_beside_the_weights_is_not_behind_them(make_model, analysed):
    model = make_model(
        [
            node("Add", ["x", "offset"], "skip"),
            node("MatMul", ["x", "w"], "h"),
            node("Add", ["h", "bias"], "g"),
            node("Add", ["g", "skip"], "y"),
        ],
        {"x": ["n", 4]},
        {"y": ["n", 4]},
        {"offset": tensor(4), "w": tensor(4, 4), "bias": tensor(4)},
    )
    assert roles(analysed(model)) == {"offset": "constant", "w": "weight", "bias": "bias"}


def test_a_product_of_two_constants_is_no_layer(make_model, analysed):
    model = make_model(
        [
            node("MatMul", ["a", "b"], "ab"),
            node("Gemm", ["x", "ab"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"a": tensor(3, 2), "b": tensor(2, 4)},
    )
    found = analysed(model)
    assert roles(found) == {"ab": "weight"}
    assert not found.warnings


def test_a_product_of_two_computed_tensors_has_no_weight(make_model, analysed):
    model = make_model([node("MatMul", ["x", "x"], "y")], {"x": [3, 3]}, {"y": [3, 3]}, {})
    assert analysed(model).parameters == {}


def test_a_weight_that_is_computed_is_found_at_its_operator(make_model, analysed):
    model = make_model(
        [
            node("Slice", ["big", "zero", "four"], "w"),
            node("Gemm", ["x", "w"], "y"),
        ],
        {"x": ["n", 4]},
        {"y": ["n", 5]},
        {"big": tensor(8, 5), "zero": np.array([0]), "four": np.array([4])},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight"}
    assert not found.warnings


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16])
def test_half_precision_weights_are_found(kind, make_model, analysed):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    w = tensor(3, 4).astype(dtype)
    model = make_model(
        [node("MatMul", ["x", "w"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": w},
        types={"x": kind, "y": kind},
    )
    found = find_parameters(ir.from_proto(model))[0]
    assert (found[0].name, found[0].role, found[0].values.dtype) == ("w", "weight", dtype)
    direction = random_direction(found, seed=0, axis=0).tensors["w"]
    assert direction.dtype == np.float32
    np.testing.assert_allclose(
        np.linalg.norm(direction, axis=0),
        np.linalg.norm(w.astype(np.float64), axis=0),
        rtol=1e-6,
    )


def test_half_precision_weights_are_moved_in_float32(make_model, analysed):
    half = onnx.TensorProto.FLOAT16
    model = make_model(
        [node("MatMul", ["x", "w"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": tensor(3, 4).astype(np.float16)},
        types={"x": half, "y": half},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight"}
    assert found.parameters["w"].values.dtype == np.float32
    assert not found.warnings


def test_half_precision_weights_can_be_kept(make_model):
    w = tensor(3, 4).astype(np.float16)
    types = {"x": onnx.TensorProto.FLOAT16, "y": onnx.TensorProto.FLOAT16}
    layer = node("MatMul", ["x", "w"], "y")
    model = make_model([layer], {"x": ["n", 3]}, {"y": ["n", 4]}, {"w": w}, types=types)
    (weight,), _ = analyse(read_model(model), precision="native")
    assert weight.values.dtype == np.float16
    assert (weight.values == w).all()


def test_a_weight_of_integers_is_warned_about(make_model, analysed):
    model = make_model(
        [node("MatMul", ["x", "w"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": np.ones((3, 4), np.int32)},
        types={"x": onnx.TensorProto.INT32, "y": onnx.TensorProto.INT32},
    )
    found = analysed(model)
    assert found.parameters == {}
    assert found.warnings == ("weight 'w' is int32 and is not moved",)


def test_weights_that_are_not_finite_are_warned_about(make_model, analysed):
    w = tensor(3, 4)
    w[1, 2], w[0, 0] = np.nan, np.inf
    model = make_model(
        [node("MatMul", ["x", "w"], "y")], {"x": [2, 3]}, {"y": [2, 4]}, {"w": w}
    )
    warning = "weight 'w' holds 2 values that are NaN or infinite"
    assert analysed(model).warnings == (warning,)


def test_float64_weights_are_found(make_model, analysed):
    model = make_model(
        [node("MatMul", ["x", "w"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": RNG.standard_normal((3, 4))},
        types={"x": onnx.TensorProto.DOUBLE, "y": onnx.TensorProto.DOUBLE},
    )
    assert analysed(model).parameters["w"].values.dtype == np.float64


def test_shapes_indices_and_unused_tensors_are_no_parameters(make_model, analysed):
    model = make_model(
        [node("Reshape", ["x", "shape"], "h"), node("Gemm", ["h", "w"], "y")],
        {"x": ["n", 3, 1]},
        {"y": ["n", 4]},
        {"shape": np.array([-1, 3]), "w": tensor(3, 4), "unused": tensor(7, 7)},
    )
    assert roles(analysed(model)) == {"w": "weight"}


def test_a_scale_merged_with_a_variance_is_a_statistic(make_model, analysed, batch_norm):
    norm, tensors = batch_norm("h", "y", 4)
    del tensors["bn.var"]
    norm.input[4] = "bn.gamma"
    model = make_model(
        [node("Conv", ["x", "w"], "h"), norm],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 4, 4, 4]},
        {"w": tensor(4, 3, 1, 1), **tensors},
    )
    found = analysed(model)
    assert roles(found)["bn.gamma"] == "statistic"
    assert roles(found)["bn.beta"] == "normalization"
    (warning,) = found.warnings
    assert warning.startswith("bn.gamma: the exporter merged equal tensors")
    assert "not even with --ignore none" in warning


def test_an_untrained_checkpoint_with_merged_tensors_is_understood(analysed, reference):
    untrained = analysed(reference / "checkpoints" / "epoch_00.onnx")
    assert {n for n, role in roles(untrained).items() if role == "statistic"} == {
        "b1.weight",
        "b1.bias",
        "b2.weight",
        "b2.bias",
    }
    assert roles(untrained)["f1.bias"] == "bias"


# --- tensors behind views -----------------------------------------------------------------

VIEWED = {
    "identity": [node("Identity", ["b"], "bias")],
    "unsqueeze": [
        helper.make_node("Constant", [], ["axes"], value_ints=[0, 2, 3]),
        node("Unsqueeze", ["b", "axes"], "bias"),
    ],
    "reshape": [
        helper.make_node("Constant", [], ["shape"], value_ints=[1, -1, 1, 1]),
        node("Reshape", ["b", "shape"], "bias"),
    ],
}


@pytest.mark.parametrize("view", VIEWED)
def test_a_bias_behind_a_view_is_a_bias_of_the_operator_that_adds_it(
    view, make_model, analysed
):
    views = VIEWED[view]
    adds = "Conv" if view == "identity" else "Add"
    model = make_model(
        [
            *views,
            node("Conv", ["x", "w", "bias"] if view == "identity" else ["x", "w"], "h"),
            node("Identity", ["h"], "y")
            if view == "identity"
            else node("Add", ["h", "bias"], "y"),
        ],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 4, 4, 4]},
        {"w": tensor(4, 3, 1, 1), "b": tensor(4)},
    )
    onnx.checker.check_model(model)
    bias = analysed(model).parameters["b"]
    assert (bias.role, bias.op, bias.shape) == ("bias", adds, (4,))
    assert bias.nodes == ("h.node" if view == "identity" else "y.node",)


def test_weights_in_constant_nodes_are_found_under_the_name_of_their_value(
    make_model, analysed
):
    w, b = tensor(3, 4), tensor(4)
    model = make_model(
        [
            helper.make_node(
                "Constant", [], ["w"], value=onnx.numpy_helper.from_array(w, "?")
            ),
            helper.make_node("Constant", [], ["b"], value_floats=b.tolist()),
            node("MatMul", ["x", "w"], "h"),
            node("Add", ["h", "b"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight", "b": "bias"}
    assert (found.parameters["w"].values == w).all()
    assert (found.parameters["b"].values == b).all()


@pytest.mark.parametrize(("shape", "role"), [((1,), "bias"), ((), "constant")])
def test_one_number_added_to_a_layer_of_one_output_is_its_bias(
    make_model, analysed, shape, role
):
    nodes = [node("MatMul", ["x", "w"], "h"), node("Add", ["h", "b"], "y")]
    tensors = {"w": tensor(4, 1), "b": tensor(*shape)}
    found = analysed(make_model(nodes, {"x": ["n", 4]}, {"y": ["n", 1]}, tensors))
    assert roles(found)["b"] == role


def test_a_mask_added_behind_an_activation_is_no_bias(make_model, analysed):
    nodes = [
        node("MatMul", ["x", "w"], "h"),
        node("Relu", ["h"], "r"),
        node("Add", ["r", "mask"], "y"),
    ]
    tensors = {"w": tensor(4, 3), "mask": tensor(3)}
    found = analysed(make_model(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, tensors))
    assert roles(found)["mask"] == "constant"
