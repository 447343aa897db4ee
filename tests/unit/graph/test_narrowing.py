"""Graphs in half floats: near what they compute in float32, and where they must not be."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscape.graph.heads.builder import LABELS, PREFIX
from onnxscape.graph.narrowing import HALF_TYPES, narrowed

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "exporters" / "models"
RNG = np.random.default_rng(0)
FLOAT16 = TensorProto.FLOAT16

NETWORKS = [
    ROOT / "models" / "digits_cnn.onnx",
    ROOT / "models" / "resnet20_cifar10.onnx",
    FIXTURES / "lstm_torch_legacy_nofolding.onnx",
    FIXTURES / "encoder_torch_legacy_nofolding.onnx",
    FIXTURES / "gpt_torch_legacy_nofolding.onnx",
    FIXTURES / "bag_torch_dynamo_plain.onnx",
    FIXTURES / "rnn_torch_legacy_looped.onnx",
    FIXTURES / "mlp_double.onnx",
]


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def labels_of(analysis):
    """Return the loss whose labels fit any output, and labels of it."""
    (output,) = analysis.file.outputs
    shape = [size if isinstance(size, int) else 6 for size in output.shape[1:]]
    return np.zeros((3, *shape), np.float32)


def feeds_of(analysis):
    feeds = {}
    for value in analysis.file.inputs:
        shape = [3, *(n if isinstance(n, int) else 6 for n in value.shape[1:])]
        values = (
            RNG.standard_normal(shape)
            if value.dtype.kind == "f"
            else RNG.integers(0, 3, shape)
        )
        feeds[value.name] = values.astype(value.dtype)
    return feeds


def types_in(model):
    """Return the types that ONNX's own inference finds, having checked them all."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True)
    values = (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {t.name: t.data_type for t in inferred.graph.initializer}


def inputs_of(model, op):
    """Return the types of the float operands of an operator's nodes."""
    types = types_in(model)
    floats = {TensorProto.FLOAT, TensorProto.DOUBLE, *HALF_TYPES.values()}
    return {
        types[name]
        for n in model.graph.node
        for name in n.input
        if n.op_type == op and not n.name.startswith(PREFIX) and types.get(name) in floats
    }


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_float16_is_near_float32(path, analysed, run_prepared):
    analysis = analysed(path)
    feeds, labels = feeds_of(analysis), labels_of(analysis)
    exact, exact_loss = run_prepared(analysis.prepared(loss="mse"), feeds, labels)
    narrow = analysis.prepared(loss="mse", precision="fp16")
    halves, loss = run_prepared(narrow, feeds, labels)
    assert halves.dtype == exact.dtype
    difference = np.abs(halves - exact).max() / np.abs(exact).max()
    assert 0 < difference < 5e-3
    assert loss.dtype == np.float64
    np.testing.assert_allclose(loss, exact_loss, rtol=2e-2)
    # The loss is that of the outputs, in float64.
    own = ((halves.astype(float) - labels) ** 2).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(loss[:, 0], own, rtol=1e-9)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_products_and_convolutions_are_in_half_and_all_types_fit(path, precision, analysed):
    narrow = analysed(path).prepared(loss="mse", precision=precision)
    half = HALF_TYPES[precision]
    for op in ("Conv", "Gemm", "MatMul"):
        assert inputs_of(narrow.proto, op) <= {half}
    assert any(inputs_of(narrow.proto, op) for op in ("Conv", "Gemm", "MatMul", "LSTM"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_inputs_outputs_and_moved_weights_keep_names_and_types(path, precision, analysed):
    before = analysed(path).prepared(loss="mse")
    after = analysed(path).prepared(loss="mse", precision=precision)
    for field in ("input", "output"):
        assert getattr(after.proto.graph, field) == getattr(before.proto.graph, field)
    weights = {t.name: t for t in after.proto.graph.initializer}
    for old, slot in zip(before.slots, after.slots, strict=True):
        assert (old.tensor, old.parameter.name) == (slot.tensor, slot.parameter.name)
        values = numpy_helper.to_array(weights[slot.tensor])
        np.testing.assert_array_equal(values, slot.transfer(slot.parameter.values))
        readers = [n for n in after.proto.graph.node if slot.tensor in n.input]
        # One Cast; or an operator that has no kernel in half, or a body.
        assert [n.op_type for n in readers] in (["Cast"], ["LSTM"], [])


def test_moved_weights_reach_a_graph_in_half(analysed, run_prepared, make_model):
    w = tensor(4, 3)
    model = make_model(
        [node("MatMul", ["x", "w"], "y")], {"x": ["n", 4]}, {"y": ["n", 3]}, {"w": w}
    )
    narrow = analysed(model).prepared(loss="mse", precision="fp16")
    x, delta = tensor(5, 4), tensor(4, 3)
    labels = np.zeros((5, 3), np.float32)
    y, _ = run_prepared(narrow, {"x": x}, labels, {"w": delta}, 0.5)
    moved = np.float16(np.float32(w.astype(float) + 0.5 * delta.astype(float)))
    exact = np.float16(x).astype(float) @ moved.astype(float)
    np.testing.assert_allclose(y, exact, atol=2e-3 * np.abs(exact).max())


def test_bfloat16_rounds_as_the_reference_evaluator_does(analysed, make_model):
    w, b = tensor(4, 3), tensor(3)
    model = make_model(
        [
            node("MatMul", ["x", "w"], "a"),
            node("Add", ["a", "b"], "c"),
            node("Relu", ["c"], "y"),
        ],
        {"x": ["n", 4]},
        {"y": ["n", 3]},
        {"w": w, "b": b},
    )
    narrow = analysed(model).prepared(loss="mse", precision="bf16")
    x = tensor(5, 4)
    evaluator = onnx.reference.ReferenceEvaluator(narrow.proto)
    (y,) = evaluator.run(["y"], {"x": x, LABELS: np.zeros((5, 3), np.float32)})
    brain = ml_dtypes.bfloat16
    product = (x.astype(brain).astype(float) @ w.astype(brain).astype(float)).astype(brain)
    expected = np.maximum((product + b.astype(brain)).astype(np.float32), 0)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, atol=2**-7 * np.abs(expected).max())
    assert np.abs(y - np.maximum(x @ w + b, 0)).max() > 1e-3


def test_positions_are_counted_in_float32(analysed, run_prepared, make_model):
    # 2049 is no float16: a network that counts positions in it would see 2048 twice.
    model = make_model(
        [
            node("Cast", ["ids"], "positions", to=TensorProto.FLOAT),
            node("Mul", ["positions", "two"], "scaled"),
            node("Cast", ["scaled"], "rows", to=TensorProto.INT64),
            node("Gather", ["table", "rows"], "g"),
            node("MatMul", ["g", "w"], "y"),
        ],
        {"ids": ["n"]},
        {"y": ["n", 2]},
        {"two": np.float32(1.0), "table": tensor(2060, 4), "w": tensor(4, 2)},
        types={"ids": TensorProto.INT64},
    )
    feeds, labels = {"ids": np.array([2047, 2049, 2051])}, np.zeros((3, 2), np.float32)
    exact, _ = run_prepared(analysed(model).prepared(loss="mse"), feeds, labels)
    halves, _ = run_prepared(
        analysed(model).prepared(loss="mse", precision="fp16"), feeds, labels
    )
    np.testing.assert_allclose(halves, exact, atol=1e-2)


@pytest.mark.parametrize("moved", [["w1", "w2"], ["w2"]])
def test_layers_behind_whole_numbers_are_in_half_whatever_moves(make_model, moved):
    model = make_model(
        [
            node("Cast", ["pixels"], "x", to=TensorProto.FLOAT),
            node("Conv", ["x", "w1"], "a"),
            node("Relu", ["a"], "b"),
            node("Conv", ["b", "w2"], "y"),
        ],
        {"pixels": ["n", 3, 8, 8]},
        {"y": ["n", 4, 4, 4]},
        {"w1": tensor(4, 3, 3, 3), "w2": tensor(4, 4, 3, 3)},
        types={"pixels": TensorProto.UINT8},
    )
    narrow = narrowed(model, "fp16", set(moved))
    assert inputs_of(narrow, "Conv") == inputs_of(narrow, "Relu") == {FLOAT16}


def test_positions_times_frequencies_stay_float32(make_model):
    model = make_model(
        [
            node("Cast", ["ids"], "positions", to=TensorProto.FLOAT),
            node("MatMul", ["positions", "frequencies"], "angles"),
            node("Sin", ["angles"], "s"),
            node("MatMul", ["s", "w"], "y"),
        ],
        {"ids": ["n", 1]},
        {"y": ["n", 2]},
        {"frequencies": tensor(1, 4), "w": tensor(4, 2)},
        types={"ids": TensorProto.INT64},
    )
    narrow = narrowed(model, "fp16", {"w"})
    assert inputs_of(narrow, "Sin") == {TensorProto.FLOAT}


def test_floats_that_only_become_whole_numbers_stay_float32(analysed, make_model):
    model = make_model(
        [
            node("Floor", ["ids"], "f"),
            node("Cast", ["f"], "rows", to=TensorProto.INT64),
            node("Gather", ["table", "rows"], "g"),
            node("MatMul", ["g", "w"], "y"),
        ],
        {"ids": ["n"]},
        {"y": ["n", 2]},
        {"table": tensor(9, 4), "w": tensor(4, 2)},
    )
    narrow = analysed(model).prepared(loss="mse", precision="fp16").proto
    assert inputs_of(narrow, "Floor") == {TensorProto.FLOAT}
    assert inputs_of(narrow, "Gather") == inputs_of(narrow, "MatMul") == {FLOAT16}


def test_a_layer_before_rounded_activations_is_in_half(analysed, make_model):
    model = make_model(
        [
            node("MatMul", ["x", "w"], "a"),
            node("Floor", ["a"], "f"),
            node("Cast", ["f"], "whole", to=TensorProto.INT32),
            node("Cast", ["whole"], "b", to=TensorProto.FLOAT),
            node("MatMul", ["b", "v"], "y"),
        ],
        {"x": ["n", 4]},
        {"y": ["n", 2]},
        {"w": tensor(4, 3), "v": tensor(3, 2)},
    )
    narrow = analysed(model).prepared(loss="mse", precision="fp16").proto
    assert inputs_of(narrow, "MatMul") == {FLOAT16}
    assert inputs_of(narrow, "Floor") == {TensorProto.FLOAT}


def test_what_an_operator_does_not_take_in_half_is_computed_as_before(analysed, make_model):
    model = make_model(
        [
            node("MatMul", ["x", "w"], "a"),
            node("Celu", ["a"], "b"),
            node("MatMul", ["b", "v"], "y"),
        ],
        {"x": ["n", 4]},
        {"y": ["n", 2]},
        {"w": tensor(4, 3), "v": tensor(3, 2)},
    )
    assert "tensor(float16)" not in onnx.defs.get_schema("Celu", 13).inputs[0].types
    narrow = analysed(model).prepared(loss="mse", precision="fp16").proto
    assert inputs_of(narrow, "Celu") == {TensorProto.FLOAT}
    assert inputs_of(narrow, "MatMul") == {FLOAT16}


def test_an_operator_without_a_bfloat16_kernel_is_computed_in_float32(analysed, make_model):
    model = make_model(
        [node("MatMul", ["x", "w"], "a"), node("LeakyRelu", ["a"], "y")],
        {"x": ["n", 4]},
        {"y": ["n", 3]},
        {"w": tensor(4, 3)},
        opset=17,
    )
    for precision, kind in (("bf16", TensorProto.FLOAT), ("fp16", FLOAT16)):
        narrow = analysed(model).prepared(loss="mse", precision=precision).proto
        assert inputs_of(narrow, "LeakyRelu") == {kind}


def test_constants_stay_finite_and_what_is_not_zero_is_not_zero(analysed, make_model):
    values = np.float32([-3.4e38, 1e-12, 0.0, np.inf])
    model = make_model(
        [node("Mul", ["x", "w"], "a"), node("Add", ["a", "c"], "y")],
        {"x": ["n", 4]},
        {"y": ["n", 4]},
        {"w": tensor(1, 4), "c": values},
    )
    for precision, largest in (("fp16", 65504), ("bf16", 3.3895e38)):
        narrow = analysed(model).prepared({"w"}, loss="mse", precision=precision).proto
        arrays = {t.name: numpy_helper.to_array(t) for t in narrow.graph.initializer}
        (constant,) = [a for n, a in arrays.items() if n.endswith("::c")]
        constant = constant.astype(np.float64)
        assert constant[0] == pytest.approx(-largest, rel=1e-3)
        assert 0 < constant[1] < 1e-7
        assert constant[2] == 0
        assert constant[3] == np.inf


@pytest.mark.parametrize(
    ("fixture", "op"), [("mlp_torch_dynamo_cond", "If"), ("rnn_torch_legacy_looped", "Loop")]
)
def test_bodies_stay_as_they_are(fixture, op, analysed):
    nodes = []
    for precision in ("fp32", "fp16"):
        prepared = analysed(FIXTURES / f"{fixture}.onnx").prepared(
            loss="mse", precision=precision
        )
        nodes += [n for n in prepared.proto.graph.node if n.op_type == op]
    before, after = nodes
    assert before == after
