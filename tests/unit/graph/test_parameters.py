from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.core.direction import random_direction
from onnxscape.core.selection import Overrides
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


# --- control flow -------------------------------------------------------------------------


def body(name, weight, tensors=()):
    """Return a body of If that applies a weight of its own or of the outer graph."""
    initializers = [onnx.numpy_helper.from_array(array, key) for key, array in tensors]
    output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4])
    nodes = [node("Gemm", ["x", weight], name)]
    return helper.make_graph(nodes, name, [], [output], initializers)


def test_weights_that_bodies_capture_are_weights(make_model, analysed):
    choice = node(
        "If",
        ["flag"],
        "y",
        then_branch=body("a", "captured"),
        else_branch=body("b", "other"),
    )
    model = make_model(
        [choice],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"captured": tensor(3, 4), "other": tensor(3, 4), "flag": np.array(True)},
    )
    onnx.checker.check_model(model)
    found = analysed(model)
    assert roles(found) == {"captured": "weight", "other": "weight"}
    assert found.parameters["captured"].nodes == ("a.node",)
    assert {name: p.noise_key for name, p in found.parameters.items()} == {
        "other": 0,
        "captured": 1,
    }
    assert found.warnings == ()


def test_weights_that_bodies_hold_are_warned_about_by_name(make_model):
    choice = node(
        "If",
        ["flag"],
        "y",
        then_branch=body("a", "captured"),
        else_branch=body("b", "own", [("own", tensor(3, 4))]),
    )
    model = make_model(
        [choice],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"captured": tensor(3, 4), "flag": np.array(True)},
    )
    parameters, warnings = find_parameters(ir.from_proto(model))
    assert [p.name for p in parameters] == ["captured"]
    assert warnings == ("weights inside If, Loop or Scan bodies are not moved: own",)


def test_a_captured_weight_that_moves_outside_is_not_warned_about(make_model, analysed):
    choice = node("If", ["flag"], "b1", then_branch=body("a", "w"), else_branch=body("b", "w"))
    model = make_model(
        [choice, node("Gemm", ["x", "w"], "b2"), node("Add", ["b1", "b2"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": tensor(3, 4), "flag": np.array(True)},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight"}
    assert found.warnings == ()


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


# --- tables, masks and bases ----------------------------------------------------------------


def embedded(make_model, op, table, *, between=()):
    """x @ w, perhaps something else, then a table of positions."""
    return make_model(
        [
            node("MatMul", ["x", "w"], "h"),
            *between,
            node(op, ["g" if between else "h", "table"], "y"),
        ],
        {"x": ["n", 16, 3]},
        {"y": ["n", 16, 8]},
        {"w": tensor(3, 8), "table": np.float32(table)},
    )


TABLE = RNG.standard_normal((1, 16, 8))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("between", [[], [node("Softmax", ["h"], "g")]])
def test_a_table_of_positions_is_a_bias_wherever_it_comes_behind_weights(
    op, between, make_model, analysed
):
    found = analysed(embedded(make_model, op, TABLE, between=between))
    assert roles(found) == {"w": "weight", "table": "bias"}
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("table", "fixed"),
    [
        (np.where(np.arange(8) > np.arange(16)[:, None], -np.inf, 0), "a mask"),
        (np.cos(np.arange(16)[:, None] / 2.0 ** np.arange(8)), "sines and cosines"),
    ],
)
def test_masks_and_sines_are_constants_and_nothing_is_said(table, fixed, make_model, analysed):
    found = analysed(embedded(make_model, "Add", table))
    assert found.parameters["table"].role == "constant"
    assert fixed in found.parameters["table"].fixed
    assert found.warnings == ()


def test_a_table_before_any_weight_is_preprocessing(make_model, analysed):
    model = make_model(
        [node("Sub", ["x", "mean"], "h"), node("Conv", ["h", "w"], "y")],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 4, 4, 4]},
        {"w": tensor(4, 3, 1, 1), "mean": tensor(3, 4, 4)},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight", "mean": "constant"}
    assert "tensor 'mean' [3, 4, 4] of Sub is not moved" in found.warnings[0]


def test_a_fourier_basis_is_no_weight_and_its_name_is_told(make_model, analysed):
    angles = 2 * np.pi * np.arange(33)[:, None] * np.arange(64) / 64
    basis = np.concatenate([np.cos(angles), np.sin(angles)]) * np.hanning(64)
    model = make_model(
        [
            node("Conv", ["x", "stft"], "h", strides=[32]),
            node("Relu", ["h"], "r"),
            node("Conv", ["r", "w"], "y"),
        ],
        {"x": ["n", 1, 256]},
        {"y": ["n", 4, 7]},
        {"stft": np.float32(basis[:, None]), "w": tensor(4, 66, 1)},
    )
    found = analysed(model)
    assert roles(found) == {"stft": "constant", "w": "weight"}
    assert found.parameters["w"].noise_key == 0
    (warning,) = found.warnings
    assert warning == (
        "tensor 'stft' [66, 1, 64] of Conv is not moved: its values are a Fourier basis; "
        "--include 'stft' moves it"
    )
    included, warnings = analyse(found.file, Overrides(include=("stft",)))
    assert [(p.name, p.noise_key) for p in included] == [("stft", 1), ("w", 0)]
    assert warnings == ()


def looked_up(make_model, **tables):
    """Return a model that multiplies looked-up rows of some tables."""
    names = list(tables)
    nodes = [node("Gather", [name, "i"], f"{name}.rows") for name in names]
    value = f"{names[0]}.rows"
    for name in names[1:]:
        nodes.append(node("Mul", [value, f"{name}.rows"], f"{name}.product"))
        value = f"{name}.product"
    nodes.append(node("Identity", [value], "y"))
    types = {"i": onnx.TensorProto.INT64}
    tensors = {name: np.float32(table) for name, table in tables.items()}
    return make_model(nodes, {"i": ["n"]}, {"y": None}, tensors, types=types)


ANGLES = np.arange(32)[:, None] / 100 ** (np.arange(8) / 8)


def test_a_table_of_sines_that_is_looked_up_is_no_embedding_and_its_name_is_told(
    make_model, analysed
):
    found = analysed(looked_up(make_model, cosines=np.cos(ANGLES), words=tensor(32, 8)))
    assert roles(found) == {"cosines": "constant", "words": "weight"}
    (warning,) = found.warnings
    assert warning == (
        "tensor 'cosines' [32, 8] of Gather is not moved: its values are sines and cosines of "
        "the position; --include 'cosines' moves it"
    )


def test_many_tables_that_stay_for_their_values_are_told_of_in_one_sentence(
    make_model, analysed
):
    tables = {f"t{i}": np.cos(ANGLES + i) for i in range(5)}
    model = looked_up(make_model, words=tensor(32, 8), **tables)
    (warning,) = analysed(model).warnings
    assert warning == (
        "tensors 't0' [32, 8], 't1' [32, 8], 't2' [32, 8] and 2 more of Gather are not moved: "
        "their values are sines and cosines of the position; --include 't0' moves the first"
    )
    (warning,) = analysed(model, Overrides(include=("t0",), exclude=("t1", "t2"))).warnings
    assert warning.startswith("tensors 't3' [32, 8], 't4' [32, 8] of Gather are not moved")


def test_an_embedding_of_two_values_is_a_weight(make_model, analysed, run_model):
    binary = np.where(RNG.random((32, 8)) < 0.5, -1.0, 1.0)
    model = looked_up(make_model, words=binary)
    found = analysed(model)
    assert roles(found) == {"words": "weight"}
    assert (found.parameters["words"].filter_axis, found.warnings) == (0, ())
    rows = {"i": np.array([3, 0, 31])}
    (y,) = run_model(model, rows)
    np.testing.assert_array_equal(y, binary[rows["i"]])
    direction = random_direction([found.parameters["words"]], seed=0, axis=0).tensors["words"]
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), np.sqrt(8), rtol=1e-6)


@pytest.mark.parametrize("hidden", [0, -1e9])
def test_a_mask_that_is_looked_up_stays_and_its_name_is_told(hidden, make_model, analysed):
    seen = 1.0 if hidden == 0 else 0.0
    mask = np.where(np.tril(np.ones((8, 8), bool)), seen, hidden)
    found = analysed(looked_up(make_model, mask=mask, words=tensor(8, 8)))
    assert roles(found) == {"mask": "constant", "words": "weight"}
    (warning,) = found.warnings
    assert warning == (
        "tensor 'mask' [8, 8] of Gather is not moved: its values are a mask; "
        "--include 'mask' moves it"
    )


@pytest.mark.parametrize("shape", [(8,), (1, 8), (8, 1)])
def test_vectors_that_are_looked_up_are_no_embeddings(shape, make_model, analysed):
    model = make_model(
        [node("Gather", ["table", "i"], "y")],
        {"i": ["n"]},
        {"y": None},
        {"table": tensor(*shape)},
        types={"i": onnx.TensorProto.INT64},
    )
    assert roles(analysed(model)) == {"table": "constant"}


def test_a_shape_that_is_read_is_no_use_of_a_tensor(make_model):
    model = make_model(
        [
            node("Shape", ["w"], "s"),
            node("Cast", ["s"], "f", to=1),
            node("ReduceSum", ["f"], "t"),
            node("Mul", ["x", "t"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 3]},
        {"w": tensor(3, 4)},
    )
    assert find_parameters(ir.from_proto(model)) == ((), ())


# --- operators that ONNX Runtime writes -----------------------------------------------------

SLOTS = {
    "LSTM": ("LSTM", ["x", "w", "w2", "bias", "", "state", "state2", "bias2"], {}),
    "GRU": ("GRU", ["x", "w", "w2", "bias", "", "state"], {}),
    "DeformConv": ("DeformConv", ["x", "w", "offset", "bias", "mask"], {}),
    "BiasGelu": ("com.microsoft.BiasGelu", ["x", "bias"], {}),
    "FastGelu": ("com.microsoft.FastGelu", ["x", "bias"], {}),
    "SkipLayerNormalization": (
        "com.microsoft.SkipLayerNormalization",
        ["x", "x", "gamma", "beta", "bias"],
        {"gamma": "normalization", "beta": "normalization"},
    ),
    "SkipSimplifiedLayerNormalization": (
        "com.microsoft.SkipSimplifiedLayerNormalization",
        ["x", "x", "gamma", "bias"],
        {"gamma": "normalization"},
    ),
    "GroupNorm": (
        "com.microsoft.GroupNorm",
        ["x", "gamma", "beta"],
        {"gamma": "normalization", "beta": "normalization"},
    ),
    "EmbedLayerNormalization": (
        "com.microsoft.EmbedLayerNormalization",
        ["x", "", "w", "w2", "", "gamma", "beta"],
        {"gamma": "normalization", "beta": "normalization"},
    ),
    "MultiHeadAttention": (
        "com.microsoft.MultiHeadAttention",
        ["x", "x", "x", "bias", "", "mask"],
        {},
    ),
    "Attention": ("com.microsoft.Attention", ["x", "w", "bias", "", "", "mask"], {}),
    "MoE": ("com.microsoft.MoE", ["x", "x", "w", "bias", "w2", "bias2"], {}),
    "FusedGemm": ("com.microsoft.FusedGemm", ["x", "w", "bias"], {}),
}


@pytest.mark.parametrize("name", SLOTS)
def test_every_slot_has_its_role(name, make_model):
    op, operands, more = SLOTS[name]
    domain, _, kind = op.rpartition(".")
    rank = 4 if "Conv" in name else 2 if name in {"Attention", "FusedGemm"} else 3
    if name == "EmbedLayerNormalization":
        rank = 2
    sizes = dict.fromkeys(operands, (2,)) | {"w": (2,) * rank, "w2": (2,) * rank}
    tensors = {o: tensor(*sizes[o]) for o in operands if o not in {"", "x"}}
    layer = helper.make_node(kind, operands, ["y"], domain=domain)
    model = make_model([layer], {"x": None}, {"y": None}, tensors)
    parameters, _ = find_parameters(ir.from_proto(model))
    expected = {"w": "weight", "w2": "weight", "bias": "bias", "bias2": "bias"} | more
    assert {p.name: p.role.value for p in parameters} == {
        o: expected.get(o, "constant") for o in tensors
    }


def test_the_users_operator_is_reported(make_model):
    model = ir.from_proto(
        make_model(
            [node("Gemm", ["x", "w"], "y")], {"x": None}, {"y": None}, {"w": tensor(3, 4)}
        )
    )
    model.graph[0].meta["onnxscape.op"] = "MatMulInteger"
    ((weight,), _) = find_parameters(model)
    assert weight.op == "MatMulInteger"


# --- weights used or written twice ----------------------------------------------------------


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


def test_weights_that_are_attributes_are_told_of(make_model):
    layer = helper.make_node(
        "LinearRegressor", ["x"], ["y"], "linear", domain="ai.onnx.ml", coefficients=[1.0, 2.0]
    )
    model = make_model([layer], {"x": ["n", 2]}, {"y": ["n", 1]}, {})
    parameters, (warning,) = find_parameters(ir.from_proto(model))
    assert parameters == ()
    assert warning == (
        "what LinearRegressor 'linear' has learned stands in its attributes and is not "
        "moved: convert the model to tensors (Gemm or MatMul) instead"
    )


def constants_of(make_model, layer, *, inputs=None, opset=17, **tensors):
    """Return the roles of a node's operands, and the warnings."""
    model = make_model(
        [layer], {"x": None} if inputs is None else inputs, {"y": None}, tensors, opset=opset
    )
    parameters, warnings = find_parameters(ir.from_proto(model))
    assert warnings == ()
    return {p.name: p.role.value for p in parameters}


@pytest.mark.parametrize(
    ("op", "operands", "values"),
    [
        ("Resize", ["x", "roi", "scales"], {"roi": np.ones(8), "scales": np.ones(4)}),
        ("Pad", ["x", "pads", "value"], {"value": np.ones(())}),
        ("Clip", ["x", "low", "high"], {"low": -np.ones(()), "high": np.ones(())}),
        ("STFT", ["x", "step", "window"], {"window": np.hanning(64)}),
        ("DequantizeLinear", ["x", "scale"], {"scale": np.ones(4)}),
        ("QuantizeLinear", ["x", "scale"], {"scale": np.ones(4)}),
        ("Where", ["mask", "x", "hidden"], {"hidden": np.float64(-1e9)}),
        ("Pow", ["x", "exponent"], {"exponent": np.ones(())}),
        ("Dropout", ["x", "ratio"], {"ratio": np.ones(())}),
        ("Max", ["x", "zero"], {"zero": np.zeros((1, 4))}),
        ("OneHot", ["x", "depth", "values"], {"values": np.array([0.0, 1.0])}),
        ("GridSample", ["x", "grid"], {"grid": np.float64(1)}),
    ],
)
def test_what_is_no_weight_is_never_taken_for_one(op, operands, values, make_model):
    floats = {name: np.float32(array) for name, array in values.items()}
    more = {o: np.array([1]) for o in operands if o != "x" and o not in floats}
    found = constants_of(make_model, node(op, operands, "y"), **floats, **more)
    assert found == dict.fromkeys(floats, "constant")


def test_tables_that_rotate_queries_are_constants_of_their_operator(make_model):
    angles = np.arange(32)[:, None] / 100 ** (np.arange(8) / 8)
    layer = helper.make_node(
        "RotaryEmbedding", ["x", "i", "cos", "sin"], ["y"], domain="com.microsoft"
    )
    tables = {"cos": np.float32(np.cos(angles)), "sin": np.float32(np.sin(angles))}
    found = constants_of(make_model, layer, inputs={"x": None, "i": None}, **tables)
    assert found == {"cos": "constant", "sin": "constant"}


def test_a_bias_behind_branches_that_end_in_a_layer_is_a_bias(make_model, analysed):
    choice = node("If", ["flag"], "h", then_branch=body("a", "w"), else_branch=body("b", "w"))
    model = make_model(
        [
            choice,
            node("Add", ["h", "bias"], "g"),
            node("Relu", ["g"], "r"),
            node("Mul", ["r", "table"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": tensor(3, 4), "bias": tensor(4), "table": tensor(2, 4), "flag": np.array(True)},
    )
    assert roles(analysed(model)) == {"w": "weight", "bias": "bias", "table": "bias"}
