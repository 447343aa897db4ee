"""Samples that see each other in a batch, and samples along another axis than the first."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fixture_edits import MODELS
from onnx import helper

import onnxscape as ox
from onnxscape.errors import UnsupportedModelError
from onnxscape.evaluation.mixing import dependence

RANDOM = np.random.default_rng(8)
X = np.float32(RANDOM.standard_normal((12, 4)))
Y = np.arange(12) % 3
WEIGHT = np.float32(RANDOM.standard_normal((4, 3)))
SERIES = np.float32(RANDOM.standard_normal((30, 12, 5)))
KINDS = np.arange(30) % 3


def f32(*shape):
    return np.float32(RANDOM.standard_normal(shape))


RECURRENT = {"w": f32(1, 24, 5), "r": f32(1, 24, 6), "last": f32(6, 3)}


@pytest.fixture
def evaluate(recorder):
    """Evaluates two points and returns the landscape and the warnings."""

    def call(model, data=(X, Y), **options):
        told = recorder()
        landscape = ox.evaluate(model, data, **({"grid": 2, "observer": told} | options))
        return landscape, told.warnings

    return call


@pytest.fixture
def minus_mean(make_model):
    """Returns a model that subtracts a mean from its scores."""

    def build(axis, batch="n", keep=1):
        node = helper.make_node
        nodes = [
            node("Gemm", ["x", "w"], ["raw"]),
            node("ReduceMean", ["raw"], ["mean"], axes=[axis], keepdims=keep),
            node("Sub", ["raw", "mean"], ["z"]),
        ]
        return make_model(nodes, {"x": [batch, 4]}, {"z": [batch, 3]}, {"w": WEIGHT})

    return build


@pytest.fixture
def recurrent(make_model):
    """Returns an LSTM as torch exports it by default: x [time, batch, 5]."""

    def build(shape, *, first=False, each_step=False, reshaped=None):
        node = helper.make_node
        named = ["steps", "h"] if each_step else ["", "h"]
        nodes = [node("LSTM", ["t", "w", "r"], named, hidden_size=6)]
        if first:
            nodes.insert(0, node("Transpose", ["x"], ["t"], perm=[1, 0, 2]))
        else:
            nodes.insert(0, node("Identity", ["x"], ["t"]))
        if each_step:
            nodes += [node("Squeeze", ["steps", "one"], ["s"])]
        else:
            nodes += [node("Squeeze", ["h", "zero"], ["s"])]
        nodes += [node("MatMul", ["s", "last"], ["z"])]
        batch = shape[0] if first else shape[1]
        out = [shape[0], batch, 3] if each_step else [batch, 3]
        constants = {"zero": np.array([0]), "one": np.array([1])}
        return make_model(nodes, {"x": shape}, {"z": out}, RECURRENT | constants)

    return build


def plain(model, feeds):
    return ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0]


def cross_entropy(scores, labels):
    scores = scores.astype(float)
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return -logs[np.arange(len(labels)), labels]


# --- another axis -------------------------------------------------------------------------


SECOND = (
    r"first axis of its inputs, but x \[{}\] has them along its second .* Transpose in front"
)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ([12, "batch", 5], "12, batch, 5"),
        (["time", "batch", 5], "time, batch, 5"),
        ([None, None, 5], r"\?, \?, 5"),
    ],
)
@pytest.mark.parametrize("steps", [12, 8, 1])
@pytest.mark.parametrize("batch", [None, 8, 12])
def test_a_model_that_takes_time_first_is_refused(
    shape, shown, steps, batch, evaluate, recurrent
):
    with pytest.raises(UnsupportedModelError, match=SECOND.format(shown)) as caught:
        evaluate(recurrent(shape), (SERIES[:, :steps], KINDS), batch_size=batch)
    assert "ONNXRuntime" not in str(caught.value)


def test_running_a_model_tells_that_it_takes_time_first(evaluate, recurrent):
    with pytest.raises(UnsupportedModelError, match=SECOND.format(r"12, \?, 5")):
        evaluate(recurrent([12, None, 5]), (SERIES, KINDS))


@pytest.mark.parametrize("steps", [8, 1])
def test_rows_that_are_no_samples_are_refused(steps, evaluate, recurrent):
    with pytest.raises(UnsupportedModelError, match="with samples along its first axis, got"):
        evaluate(recurrent([12, None, 5]), (SERIES[:, :steps], KINDS))


def test_a_model_with_an_output_at_each_time_is_refused_as_well(evaluate, recurrent):
    labels = np.zeros((30, 12), int)
    for shape in (["time", "batch", 5], [None, None, 5]):
        with pytest.raises(UnsupportedModelError, match="another one behind its output"):
            evaluate(recurrent(shape, each_step=True), (SERIES, labels))


def test_time_is_not_taken_for_samples_where_a_model_takes_one_at_once(evaluate, recurrent):
    with pytest.raises(UnsupportedModelError, match=SECOND.format("1, batch, 5")):
        evaluate(recurrent([1, "batch", 5]), (SERIES, KINDS))


def test_the_same_model_with_the_batch_first_is_evaluated(evaluate, recurrent):
    model = recurrent(["batch", 12, 5], first=True)
    landscape, warnings = evaluate(model, (SERIES, KINDS), batch_size=7)
    assert warnings == []
    time_first = recurrent([12, "batch", 5])
    scores = plain(time_first, {"x": np.ascontiguousarray(SERIES.transpose(1, 0, 2))})
    expected = cross_entropy(scores, KINDS).mean()
    assert landscape.center["loss"] == pytest.approx(expected, rel=1e-5)


# --- mixing -------------------------------------------------------------------------------


def test_a_model_that_subtracts_the_mean_of_its_batch_is_warned_of(evaluate, minus_mean):
    (warning,) = evaluate(minus_mean(0))[1]
    # A sample alone is its own mean: its scores are all 0.
    assert "'z' differs by 1 of the largest where it is alone" in warning
    assert "ReduceMean" in warning
    assert "compare surfaces of one batch size only" in warning


def test_what_the_warning_says_is_true(evaluate, minus_mean):
    for batch in (4, 12):
        landscape, _ = evaluate(minus_mean(0), batch_size=batch, samples="all")
        raw = (X.astype(float) @ WEIGHT.astype(float)).reshape(-1, batch, 3)
        scores = (raw - raw.mean(axis=1, keepdims=True)).reshape(12, 3)
        expected = cross_entropy(scores, Y).mean()
        assert landscape.center["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_fixed_batch_that_mixes_is_warned_of_by_copies_of_one_sample(evaluate, minus_mean):
    (warning,) = evaluate(minus_mean(0, batch=6), (X[:6], Y[:6]))[1]
    raw = X[:6].astype(float) @ WEIGHT.astype(float)
    scores = raw - raw.mean(0)
    # Copies of a sample are equal to their mean. The first and the last are tried.
    differs = np.abs(scores[[0, 5]]).max() / np.abs(scores).max()
    assert f"differs by {differs:.2g} of the largest where copies of it fill" in warning
    assert "results depend on which 6 samples share a batch" in warning


@pytest.mark.parametrize("batch", ["n", 1, 6])
def test_a_mean_within_each_sample_is_not_warned_of(batch, evaluate, minus_mean):
    assert evaluate(minus_mean(1, batch))[1] == []


def test_a_batch_of_one_cannot_mix(evaluate, minus_mean):
    assert evaluate(minus_mean(0, 1))[1] == []


def test_an_axis_of_samples_that_is_squeezed_away_for_one_is_no_difference(
    evaluate, make_model
):
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["raw"]),
        helper.make_node("Squeeze", ["raw"], ["z"]),
    ]
    model = make_model(nodes, {"x": ["n", 4]}, {"z": None}, {"w": WEIGHT[:, :1]})
    assert evaluate(model, (X, X[:, 0]))[1] == []


def test_a_metric_that_reads_an_output_which_mixes_is_warned_of(
    evaluate, minus_mean, make_model, tmp_path
):
    model = minus_mean(0)
    raw = helper.make_tensor_value_info("raw", onnx.TensorProto.FLOAT, ["n", 3])
    model.graph.output.append(raw)
    assert evaluate(model, output="raw")[1] == []
    nodes = [helper.make_node("ReduceMax", ["z"], ["m"], axes=[1], keepdims=0)]
    onnx.save(make_model(nodes, {"z": ["n", 3]}, {"m": ["n"]}, {}), tmp_path / "high.onnx")
    (warning,) = evaluate(model, output="raw", metrics=(str(tmp_path / "high.onnx"),))[1]
    assert "'z' differs" in warning


def test_a_model_that_takes_no_sample_alone_could_not_be_checked(evaluate, make_model):
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["raw"]),
        helper.make_node("Slice", ["x", "one", "two", "zero"], ["second"]),
        helper.make_node("ReduceSum", ["second"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["second", "four"], ["row"]),
        helper.make_node("ReduceSum", ["row"], ["same"], keepdims=0),
        helper.make_node("Sub", ["sum", "same"], ["nothing"]),
        helper.make_node("Add", ["raw", "nothing"], ["z"]),
    ]
    sizes = {"zero": [0], "one": [1], "two": [2], "four": [1, 4]}
    tensors = {"w": WEIGHT} | {name: np.array(size) for name, size in sizes.items()}
    model = make_model(nodes, {"x": ["n", 4]}, {"z": ["n", 3]}, tensors)
    (warning,) = evaluate(model)[1]
    assert re.search("could not be checked, since the model does not take one sample", warning)


# --- dynamic quantization -----------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp_quantized_dynamic", "lstm_quantized_dynamic"])
def test_dynamic_quantization_is_named_and_measured(network, evaluate):
    with np.load(MODELS.parent / "data.npz") as data:
        x, y = data["x"][:8], data["y"][:8]
    path = MODELS / f"{network}.onnx"
    (given,) = onnx.load(path).graph.input
    sizes = [d.dim_value for d in given.type.tensor_type.shape.dim][1:]
    x = x.reshape(len(x), *sizes)
    told = [text for text in evaluate(path, (x, y))[1] if "depend on the others" in text]
    options = ort.SessionOptions()  # kernels that do not saturate
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = 1  # DynamicQuantizeLSTM gives each thread a range
    session = ort.InferenceSession(path, options)
    (differs,) = re.findall(r"differs by (\S+) of the largest", told[0])
    together = session.run(None, {given.name: x})[0]
    alone = np.concatenate([session.run(None, {given.name: x[[i]]})[0] for i in range(len(x))])
    most = np.abs(together - alone).max() / np.abs(together).max()
    assert float(differs) == pytest.approx(most, rel=0.05)
    assert re.search(r"DynamicQuantizeLinear takes? the range of activations", told[0])


def test_inspect_tells_of_dynamic_quantization_without_data():
    texts = [str(w) for w in ox.inspect(MODELS / "cnn_quantized_dynamic.onnx").warnings]
    (text,) = [text for text in texts if text.startswith("dynamically quantized: ")]
    assert "DynamicQuantizeLinear takes the range" in text
    assert "--batch-size" in text
    texts = [str(w) for w in ox.inspect(MODELS / "cnn_quantized_qdq.onnx").warnings]
    assert not [text for text in texts if text.startswith("dynamically quantized: ")]


# --- one number for a batch ---------------------------------------------------------------


@pytest.fixture
def mean_of_positions(make_model):
    """Returns a loss: the mean of squares over all positions that are not zero."""

    def build():
        node = helper.make_node
        nodes = [
            node("Mul", ["x", "scale"], ["scaled"]),
            node("Mul", ["scaled", "scaled"], ["squares"]),
            node("ReduceSum", ["squares"], ["sum"], keepdims=0),
            node("Cast", ["x"], ["kept"], to=onnx.TensorProto.BOOL),
            node("Cast", ["kept"], ["ones"], to=onnx.TensorProto.FLOAT),
            node("ReduceSum", ["ones"], ["count"], keepdims=0),
            node("Div", ["sum", "count"], ["z"]),
        ]
        tensors = {"scale": np.float32([[1.5, 2, 0.5, 1]])}
        return make_model(nodes, {"x": ["n", 4]}, {"z": []}, tensors)

    return build


def test_a_mean_over_positions_that_samples_have_different_numbers_of_is_warned_of(
    evaluate, mean_of_positions
):
    options = {"loss": "none", "include": ("scale",)}
    assert evaluate(mean_of_positions(), {"x": X}, **options)[1] == []
    padded = X[:8] * (np.arange(4) < RANDOM.integers(1, 5, (8, 1)))
    landscape, (warning,) = evaluate(
        mean_of_positions(), {"x": padded}, batch_size=4, **options
    )
    squares = (padded.astype(float) * [1.5, 2, 0.5, 1]) ** 2
    kept = padded != 0
    assert f"{squares.sum() / kept.sum():.6g} for 8 samples" in warning
    assert f"the mean {(squares.sum(1) / kept.sum(1)).mean():.6g}" in warning
    batches = [squares[rows].sum() / kept[rows].sum() for rows in (slice(4), slice(4, 8))]
    assert landscape.center["loss"] == pytest.approx(np.mean(batches), rel=1e-5)


# --- the comparison -----------------------------------------------------------------------


def test_rounding_is_no_dependence():
    together = np.float32([[1, 2], [3, 4]])
    assert dependence(together, {0: together[:1] + np.float32(3e-4)}) == 0.0
    assert dependence(together, {1: together[1:] + 8e-4}) == pytest.approx(2e-4, rel=1e-3)
    assert dependence(together, {1: np.float32([[3, 4], [3, 4.4]])}) == pytest.approx(0.1)
    assert dependence(together * 1e-9, {0: together[:1] * 3e-9}) == 0.0


def test_what_is_finite_in_one_of_both_only_is_a_dependence():
    together = np.float32([[1, np.nan]])
    assert dependence(together, {0: together}) == 0.0
    assert dependence(together, {0: np.float32([[1, 2]])}) == np.inf
    assert dependence(np.float32([[np.nan]]), {0: np.float32([[np.nan]])}) == 0.0


def test_of_whole_numbers_one_may_be_another():
    together = np.arange(8)
    alone = {row: together[[row]] for row in range(8)}
    assert dependence(together, alone | {3: np.array([9])}) == 0.0
    assert dependence(together, alone | {3: np.array([9]), 4: np.array([9])}) == 0.25
