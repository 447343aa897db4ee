"""Each kind of warning: where it is due, where it is not, and that it says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxscape as ox
from onnxscape.graph.audit import Kind

ROOT = Path(__file__).parents[4]
EXPORTS = ROOT / "tests" / "exporters" / "models"
RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def kinds(audit):
    return {concern.kind for concern in audit.warnings}


def text_of(audit, kind):
    (text,) = [concern.text for concern in audit.warnings if concern.kind is kind]
    return text


def of_export(name):
    return ox.inspect(EXPORTS / f"{name}.onnx")


@pytest.mark.parametrize("model", ["digits_cnn", "resnet20_noshort_cifar10"])
def test_a_plain_export_gives_no_warning(model):
    assert ox.inspect(ROOT / "models" / f"{model}.onnx").warnings == ()


# --- what the exporter made of the network ---------------------------------------------------


def exports(networks):
    return [
        f"{network}_{road}" for network, roads in networks.items() for road in roads.split()
    ]


FOLDED = exports(
    {
        "cnn": "folded_converter_anonymous folded_paddle_constants keras_export ort_basic "
        "tf2onnx_function tf2onnx_tflite torch_dynamo_optimized torch_legacy_folding_eval "
        "torch_legacy_inputs",
        "deconv": "torch_dynamo_optimized",
        "densebn": "tf2onnx_tflite",
        "residual": "keras_export tf2onnx_tflite torch_dynamo_optimized torch_legacy_folding",
        "sequence": "tf2onnx_tflite torch_dynamo_optimized torch_legacy_folding",
        "upsample": "tf2onnx_tflite torch_dynamo_optimized",
    }
)
"""Exports whose surface under `ignore none` is not torch's, since BatchNorm is folded."""

UNFOLDED = exports(
    {
        "autoencoder": "torch_dynamo_plain",
        "block": "jax2onnx keras_export torch_legacy_folding",
        "cnn": "converter_anonymous jax2onnx old_ir3 paddle_views torch_dynamo_plain "
        "torch_legacy_folding_preserve",
        "convhead": "torch_legacy_nofolding",
        "deconv": "torch_dynamo_plain",
        "densebn": "jax2onnx keras_export torch_dynamo_plain",
        "mlp": "torch_dynamo_optimized tf2onnx_tflite",
        "residual": "jax2onnx torch_dynamo_plain",
        "sequence": "jax2onnx keras_export",
        "upsample": "keras_export torch_legacy_nofolding",
    }
)
"""Exports whose surface under `ignore none` is torch's, and networks without BatchNorm."""


@pytest.mark.parametrize("name", FOLDED)
def test_a_folded_normalization_leaves_traces_that_are_found(name):
    text = text_of(of_export(name), Kind.FOLDED)
    assert "--ignore none" in text
    assert "BatchNormalization" in text


@pytest.mark.parametrize("name", UNFOLDED)
def test_exports_with_their_normalization_are_not_suspected(name):
    assert Kind.FOLDED not in kinds(of_export(name))


def test_layers_with_a_folded_normalization_are_named_not_those_without():
    text = text_of(of_export("residual_torch_dynamo_optimized"), Kind.FOLDED)
    assert "into 3 layers: depthwise.weight, conv.weight, shortcut.weight." in text
    assert "stem.weight" not in text


def test_one_tensor_in_two_layers_moves_once():
    text = text_of(of_export("tied_torch_legacy_nofolding"), Kind.SHARED)
    assert text.startswith("shared.weight (2 operators): each moves once")
    assert Kind.MERGED not in kinds(of_export("tied_torch_legacy_nofolding"))


def test_a_weight_used_as_it_is_and_transposed_is_one_tensor():
    assert "encode.weight (2 operators)" in text_of(
        of_export("autoencoder_torch_dynamo_plain"), Kind.SHARED
    )


def test_a_tied_weight_that_became_two_tensors_is_found_though_transposed():
    text = text_of(of_export("autoencoder_torch_dynamo_optimized"), Kind.TENSORS)
    assert "encode.weight and t hold the same values" in text


@pytest.mark.parametrize(
    ("ignore", "effect"), [("biasbn", "do not move"), ("none", "Each moves once")]
)
def test_merged_shifts_are_named_with_their_effect(ignore, effect):
    audit = ox.inspect(ROOT / "models" / "resnet20_cifar10.onnx", ignore=ignore)
    text = text_of(audit, Kind.MERGED)
    assert text.startswith("layer2.0.bn2.bias, layer3.0.bn2.bias: one stored tensor")
    assert effect in text


@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_weights_that_are_inputs_are_asked_for(make_model, op):
    shape = [4, 3, 1, 1] if op == "Conv" else [3, 4]
    x = ["n", 3, 5, 5] if op == "Conv" else ["n", 3]
    model = make_model([node(op, ["x", "w"], "y")], {"x": x, "w": shape}, {"y": None}, {})
    text = text_of(ox.inspect(model), Kind.WEIGHTS_AS_INPUTS)
    assert text.startswith("w: the file has no values")
    assert "--weights" in text


def test_an_export_whose_weights_are_inputs_has_an_audit():
    text = text_of(of_export("mlp_torch_legacy_weightinputs"), Kind.WEIGHTS_AS_INPUTS)
    assert text.startswith("fc1.weight, ")


def test_a_product_of_two_inputs_is_no_layer(make_model):
    model = make_model(
        [node("MatMul", ["a", "b"], "h"), node("MatMul", ["h", "w"], "y")],
        {"a": ["n", 3, 3], "b": ["n", 3, 3]},
        {"y": ["n", 3, 2]},
        {"w": tensor(3, 2)},
    )
    assert ox.inspect(model).warnings == ()


# --- how it is evaluated ---------------------------------------------------------------------


@pytest.mark.parametrize(("op", "loss"), [("Softmax", "log-loss"), ("Sigmoid", "bce")])
def test_probabilities_are_not_taken_for_logits(make_model, op, loss):
    model = make_model(
        [node("Gemm", ["x", "w"], "h"), node(op, ["h"], "p")],
        {"x": ["n", 3]},
        {"p": ["n", 2]},
        {"w": tensor(3, 2)},
    )
    text = text_of(ox.inspect(model), Kind.PROBABILITIES)
    assert f"the output p comes from a {op}" in text
    assert f"--loss {loss}" in text


@pytest.mark.parametrize("ends", [["LogSoftmax"], ["Softmax", "Log"], ["Softmax", "Relu"]])
def test_other_ends_are_no_probabilities(make_model, ends):
    names = ["h0", *(f"h{i + 1}" for i in range(len(ends)))]
    nodes = [node("Gemm", ["x", "w"], "h0")]
    nodes += [node(op, [a], b) for op, a, b in zip(ends, names, names[1:], strict=False)]
    model = make_model(nodes, {"x": ["n", 3]}, {names[-1]: ["n", 2]}, {"w": tensor(3, 2)})
    assert ox.inspect(model).warnings == ()


def test_several_outputs_want_a_choice(dense_model):
    model = dense_model(np.eye(3, 2), np.zeros(2), outputs=("out", "other"))
    text = text_of(ox.inspect(model), Kind.OUTPUTS)
    assert text.startswith("the model has 2 outputs (out, other)")
    assert text.endswith("say which one by --output NAME")


def test_the_only_output_of_numbers_is_chosen():
    audit = of_export("mlp_skl2onnx_tensors")
    assert "probabilities unless you say another" in text_of(audit, Kind.OUTPUTS)
    assert audit.model.loss == "log-loss"


def test_a_batch_size_that_can_be_lifted_is_said(dense_model):
    audit = ox.inspect(dense_model(np.eye(3, 2), np.zeros(2), batch=7))
    assert (audit.model.batch, audit.model.batch_made_dynamic) == (7, True)
    assert "batches of 7; that is proven needless" in text_of(audit, Kind.FIXED_BATCH)


def test_a_batch_size_that_samples_depend_on_is_said_with_its_reason(make_model):
    model = make_model(
        [node("Gemm", ["x", "w"], "h"), node("Softmax", ["h"], "y", axis=0)],
        {"x": [7, 3]},
        {"y": [7, 2]},
        {"w": tensor(3, 2)},
    )
    audit = ox.inspect(model)
    assert (audit.model.batch, audit.model.batch_made_dynamic) == (7, False)
    assert "runs in pieces of that size, since Softmax" in text_of(audit, Kind.FIXED_BATCH)


def test_a_free_batch_is_not_spoken_of(dense_model):
    audit = ox.inspect(dense_model(np.eye(3, 2), np.zeros(2)))
    assert audit.model.batch is None
    assert Kind.FIXED_BATCH not in kinds(audit)


def test_dequantized_weights_are_said(make_model):
    model = make_model(
        [
            node("DequantizeLinear", ["w", "scale", "zero"], "float_w"),
            node("MatMul", ["x", "float_w"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 3]},
        {
            "w": np.int8(RNG.integers(-9, 9, (3, 3))),
            "scale": np.float32(0.1),
            "zero": np.int8(0),
        },
    )
    audit = ox.inspect(model)
    assert text_of(audit, Kind.QUANTIZED).startswith("float_w: stored as integers")
    assert audit.model.weight_types == {"int8": 9}


def test_quantized_operators_are_said(make_model):
    numbers = {"xs": 0.1, "ws": 0.05, "ys": 0.2}
    zeros = {"xz": np.uint8(3), "wz": np.int8(0), "yz": np.uint8(1)}
    inputs = ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    model = make_model(
        [
            node("QuantizeLinear", ["x", "xs", "xz"], "q"),
            node("QLinearMatMul", inputs, "p"),
            node("DequantizeLinear", ["p", "ys", "yz"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 3]},
        {
            "w": np.int8(RNG.integers(-9, 9, (3, 3))),
            **{name: np.float32(value) for name, value in numbers.items()},
            **zeros,
        },
    )
    audit = ox.inspect(model)
    assert text_of(audit, Kind.QUANTIZED).startswith("w: stored as integers")
    assert Kind.REWRITTEN not in kinds(audit)
    assert audit.model.weight_types == {"int8": 9}
    assert [p.op for p in audit.parameters if p.perturbed] == ["QLinearMatMul"]


@pytest.mark.parametrize("scaled", [True, False])
def test_weights_in_units_of_integers_are_not_said_to_be_real_numbers(scaled, make_model):
    model = make_model(
        [
            node("DynamicQuantizeLinear", ["x"], "q"),
            node("MatMulInteger", ["q", "w", "xz"], "i"),
            node("Cast", ["i"], "f", to=1),
            node("Mul", ["f", "ws"], "y") if scaled else node("Relu", ["f"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 3]},
        {"w": np.int8(RNG.integers(-9, 9, (3, 3))), "ws": np.float32(0.1)},
    )
    model.graph.node[0].output.extend(["xs", "xz"])
    audit = ox.inspect(model)
    assert kinds(audit) & {Kind.QUANTIZED, Kind.REWRITTEN} == {
        Kind.QUANTIZED if scaled else Kind.REWRITTEN
    }
    if not scaled:
        assert "the weight moves in units of its integers" in text_of(audit, Kind.REWRITTEN)


def test_training_mode_is_said():
    text = "\n".join(map(str, of_export("cnn_torch_legacy_training").warnings))
    assert "rewritten: BatchNormalization" in text
    assert "training mode" in text


@pytest.mark.parametrize(("dtype", "due"), [(np.float16, True), (np.float32, False)])
def test_half_precision_is_said(make_model, dtype, due):
    code = TensorProto.FLOAT16 if due else TensorProto.FLOAT
    model = make_model(
        [node("Gemm", ["x", "w"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 2]},
        {"w": tensor(3, 2).astype(dtype)},
        types={"x": code, "y": code},
    )
    audit = ox.inspect(model)
    assert (Kind.HALF in kinds(audit)) == due
    if due:
        assert text_of(audit, Kind.HALF).startswith("1 tensor is float16")


# --- the values ------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "due"), [(4, False), (6, True)])
def test_a_model_of_which_little_moves_is_one_to_look_at(make_model, rows, due):
    model = make_model(
        [node("Add", ["x", "table"], "h"), node("Gemm", ["h", "w"], "y")],
        {"x": [rows, 2]},
        {"y": [rows, 4]},
        {"table": tensor(rows, 2), "w": tensor(2, 4)},
    )
    audit = ox.inspect(model)
    assert (Kind.LITTLE in kinds(audit)) == due
    if due:
        assert text_of(audit, Kind.LITTLE).startswith("only 8 of the 20 values")


@pytest.mark.parametrize(("trans", "dead"), [(0, "2 of 4"), (1, "1 of 3")])
def test_filters_of_zeros_are_counted_along_the_filter_axis(make_model, trans, dead):
    weight = np.abs(tensor(3, 4)) + 0.1
    weight[:, [0, 2]] = 0
    weight[1] = 0 if trans else weight[1]
    model = make_model(
        [node("Gemm", ["x", "w"], "y", transB=trans)],
        {"x": ["n", 4 if trans else 3]},
        {"y": ["n", 3 if trans else 4]},
        {"w": weight},
    )
    text = text_of(ox.inspect(model), Kind.DEAD)
    assert f"w ({dead})" in text
    assert text.startswith(f"{dead} filters are all zero")


@pytest.mark.parametrize(
    ("bias", "words"), [(np.nan, "NaN or infinite"), (-np.inf, "NaN or"), (3e7, "very large")]
)
def test_extreme_values_are_said(dense_model, bias, words):
    text = text_of(ox.inspect(dense_model(np.eye(3, 2), [0.0, bias])), Kind.EXTREME)
    assert text.startswith("bias")
    assert words in text


def test_a_negative_variance_is_said(make_model, batch_norm):
    norm, tensors = batch_norm("h", "y", 4)
    tensors["bn.var"][2] = -1.0
    model = make_model(
        [node("Conv", ["x", "w"], "h"), norm],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 4, 4, 4]},
        {"w": tensor(4, 3, 1, 1), **tensors},
    )
    assert "bn.var: running variances below zero" in text_of(ox.inspect(model), Kind.EXTREME)


def test_tensors_that_no_output_depends_on_are_counted(make_model):
    body = helper.make_graph(
        [node("Add", ["x", "captured"], "inner")],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    model = make_model(
        [
            helper.make_node("If", ["yes"], ["h"], then_branch=body, else_branch=body),
            node("Gemm", ["h", "w"], "y"),
            node("Gemm", ["h", "dangling"], "nowhere"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 2]},
        {
            "yes": np.array(True),
            "captured": tensor(3),
            "w": tensor(3, 2),
            "dangling": tensor(3, 2),
            "left over": tensor(5),
            "shape": np.int64([1]),
        },
    )
    text = text_of(ox.inspect(model), Kind.UNUSED)
    assert text.startswith(
        "no output depends on 2 of the file's tensors: dangling, left over."
    )


def test_what_is_found_while_parameters_are_sought_is_passed_on(make_model):
    model = make_model(
        [node("Add", ["x", "table"], "h"), node("Gemm", ["h", "w"], "y")],
        {"x": [4, 3]},
        {"y": [4, 2]},
        {"table": tensor(4, 3), "w": tensor(3, 2)},
    )
    assert "'table'" in text_of(ox.inspect(model), Kind.TENSORS)


def test_names_of_any_length_are_shortened_in_warnings(dense_model):
    model = dense_model(np.eye(3, 2), np.zeros(2))
    model.graph.initializer.append(numpy_helper.from_array(tensor(2), "n" * 10_000))
    assert len(text_of(ox.inspect(model), Kind.UNUSED)) < 500
