"""Every loss end to end: points of a landscape against numpy on plain edited files."""

from __future__ import annotations

import math

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper

import onnxscape as ox
from onnxscape.data.subset import subset_indices
from onnxscape.evaluation.observer import OnnxscapeWarning

POINTS = ((0.0, 0.0), (0.5, -0.5), (-0.5, 0.5))
SAMPLES = 23
BATCH = 5  # leaves a last batch of 3

# The model: x [n, 6] -> Gemm -> Tanh -> Gemm -> Reshape to `shape` -> an operator at the end.
HIDDEN = 7


@pytest.fixture(scope="module")
def build(make_model):
    """Returns a network whose output has the given shape for one sample."""

    def make(shape, last="Identity", **attributes):
        rng = np.random.default_rng(5)
        size = math.prod(shape)
        nodes = [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Tanh", ["h"], ["a"]),
            helper.make_node("Gemm", ["a", "w2", "b2"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["raw"]),
            helper.make_node(last, ["raw"], ["out"], **attributes),
        ]
        tensors = {
            "w1": np.float32(rng.standard_normal((6, HIDDEN))),
            "b1": np.float32(rng.standard_normal(HIDDEN)),
            "w2": np.float32(2 * rng.standard_normal((HIDDEN, size))),
            "b2": np.float32(rng.standard_normal(size)),
            "shape": np.array([0, *shape], dtype=np.int64),
        }
        return make_model(nodes, {"x": ["n", 6]}, {"out": ["n", *shape]}, tensors)

    return make


@pytest.fixture(scope="module")
def check(edited, weights_of, run_model, tmp_path_factory):
    """Evaluates, and compares three points with a function of the edited files' outputs.

    The function gets outputs in float64 and the labels, and returns sums and how many values
    each is a sum of, both [n].
    """

    def run(model, labels, expected, *, x=None, weights=None, output="out", **options):
        folder = tmp_path_factory.mktemp("run")
        if x is None:
            x = np.float32(np.random.default_rng(6).standard_normal((SAMPLES, 6)))
        data = {"x": x}
        if labels is not None:
            data["y"] = labels
        if weights is not None:
            data["sample_weight"] = weights
        landscapes = {}
        for strategy in ("constant", "overriding"):
            landscapes[strategy] = ox.evaluate(
                model,
                data,
                grid="3x3",
                radius=0.5,
                seed=1,
                samples="all",
                batch_size=BATCH,
                strategy=strategy,
                threads=1,
                out=folder / f"{strategy}.h5",
                save_directions=folder / "directions.h5",
                **options,
            )
        with h5py.File(folder / "directions.h5") as file:
            delta, eta = (
                {t.attrs["name"]: t[()].astype(float) for t in file[group].values()}
                for group in ("xdirection", "ydirection")
            )
        theta = weights_of(model)
        for alpha, beta in POINTS:
            moved = {k: theta[k] + alpha * delta[k] + beta * eta[k] for k in delta}
            (out,) = run_model(edited(model, moved), {"x": x}, [output])
            sums, counts = expected(out.astype(np.float64), labels)
            w = np.ones(len(x)) if weights is None else weights
            value = (w * sums).sum() / (w * counts).sum()
            for landscape in landscapes.values():
                row, column = landscape.betas.tolist().index(beta), round(2 * alpha) + 1
                ours = landscape.loss[row, column]
                assert ours == pytest.approx(value, rel=2e-5), (alpha, beta)
        return landscapes["constant"]

    return run


def log_softmax(logits, axis):
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def chosen(values, labels, axis, ignore_index=-100):
    """Return sums of values at the labels, and how many positions count."""
    rows = np.moveaxis(values, axis, -1).reshape(len(values), -1, values.shape[axis])
    flat = labels.reshape(len(labels), -1)
    counts = flat != ignore_index
    at = np.take_along_axis(rows, np.where(counts, flat, 0)[..., None], axis=-1)[..., 0]
    return np.where(counts, at, 0.0).sum(axis=1), counts.sum(axis=1)


def classes(axis, *, smoothing=0.0, ignore_index=-100, of=log_softmax):
    def expected(out, labels):
        log_probability = of(out, axis)
        sums, counts = chosen(log_probability, labels, axis, ignore_index)
        if smoothing:
            uniform = np.broadcast_to(
                log_probability.mean(axis=axis, keepdims=True), log_probability.shape
            )
            smooth, _ = chosen(uniform, labels, axis, ignore_index)
            sums = (1 - smoothing) * sums + smoothing * smooth
        return -sums, counts

    return expected


def values(of):
    def expected(out, labels):
        per_value = of(out.reshape(len(out), -1), labels.reshape(len(out), -1).astype(float))
        return per_value.mean(axis=1), np.ones(len(out))

    return expected


def labels_of(*positions, classes=4, ignored=0.0, ignore_index=-100):
    rng = np.random.default_rng(7)
    labels = rng.integers(0, classes, (SAMPLES, *positions))
    labels[rng.random(labels.shape) < ignored] = ignore_index
    return labels


WEIGHTS = np.random.default_rng(8).integers(0, 4, SAMPLES) / 2

CLASS_CASES = {
    "logits": ((4,), (), 1, {}),
    "logits with weights": ((4,), (), 1, {"weights": WEIGHTS}),
    "smoothing": ((4,), (), 1, {"label_smoothing": 0.2}),
    "segmentation": ((4, 2, 3), (2, 3), 1, {}),
    "sequence": ((5, 4), (5,), 2, {}),
    "sequence with holes": ((5, 4), (5,), 2, {"ignored": 0.4}),
    "sequence with holes and weights": ((5, 4), (5,), 2, {"ignored": 0.4, "weights": WEIGHTS}),
    "smoothing with holes": ((4, 5), (5,), 1, {"ignored": 0.4, "label_smoothing": 0.1}),
    "another ignored index": ((5, 4), (5,), 2, {"ignored": 0.4, "ignore_index": 0}),
    "ambiguous": ((4, 4), (4,), 1, {"class_axis": 1}),
    "ambiguous, the other": ((4, 4), (4,), 2, {"class_axis": -1}),
}


@pytest.mark.parametrize("case", CLASS_CASES)
def test_cross_entropy(case, build, check):
    shape, positions, axis, options = CLASS_CASES[case]
    options = dict(options)
    ignore_index = options.get("ignore_index", -100)
    labels = labels_of(
        *positions, ignored=options.pop("ignored", 0.0), ignore_index=ignore_index
    )
    landscape = check(
        build(shape),
        labels,
        classes(
            axis, smoothing=options.get("label_smoothing", 0.0), ignore_index=ignore_index
        ),
        loss="cross-entropy",
        **options,
    )
    assert landscape.spec.loss == "cross-entropy"
    assert landscape.accuracy is not None


def test_the_accuracy_of_sequences_is_over_positions_that_count(build, check, run_model):
    model, labels = build((5, 4)), labels_of(5, ignored=0.4)
    landscape = check(
        model,
        labels,
        classes(2),
        weights=WEIGHTS,
        loss="cross-entropy",
        metrics=("error", "top5", "accuracy"),
    )
    x = np.float32(np.random.default_rng(6).standard_normal((SAMPLES, 6)))
    (out,) = run_model(model, {"x": x})
    counts = (labels != -100) * WEIGHTS[:, None]
    accuracy = ((out.argmax(axis=2) == labels) * counts).sum() / counts.sum()
    assert landscape.center["accuracy"] == pytest.approx(accuracy, rel=1e-12)
    assert landscape.center["error"] == pytest.approx(1 - accuracy, rel=1e-12)
    assert landscape.center["top5"] == 1.0  # of four classes
    assert list(landscape.surfaces) == ["loss", "accuracy", "top5", "error", "loss_stderr"]


def test_nll(build, check):
    model = build((4,), "LogSoftmax", axis=1)
    landscape = check(model, labels_of(), classes(1, of=lambda out, axis: out))
    assert landscape.spec.loss == "nll"


def test_log_loss(build, check):
    def clamped(out, axis):
        return np.log(np.maximum(out, 1e-45))

    model = build((4,), "Softmax", axis=1)
    landscape = check(model, labels_of(), classes(1, of=clamped), weights=WEIGHTS)
    assert landscape.spec.loss == "log-loss"
    assert (landscape.surfaces["clamped"] == 0).all()


def test_clamped_samples_are_counted(build, check):
    def clamped(out, axis):
        return np.log(np.maximum(out, 1e-45))

    model = build((4,), "Softmax", axis=1)
    x = np.float32(1e3 * np.random.default_rng(6).standard_normal((SAMPLES, 6)))
    for tensor in model.graph.initializer:
        if tensor.name == "w2":  # logits hundreds apart
            array = 300 * onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, "w2"))
    labels = labels_of()
    with pytest.warns(OnnxscapeWarning, match="samples of probability 0"):
        out = ox.evaluate(model, (x, labels), samples="all", grid=3, loss="log-loss")
    with pytest.warns(OnnxscapeWarning, match="samples of probability 0"):
        expected = check(model, labels, classes(1, of=clamped), x=x, loss="log-loss")
    assert 0 < out.center["clamped"] == expected.center["clamped"] < SAMPLES
    assert math.isfinite(out.center["loss"])


def test_next_token(build, check):
    tokens = labels_of(5)
    shifted = np.full_like(tokens, -100)
    shifted[:, :-1] = tokens[:, 1:]

    def expected(out, _labels):
        return classes(2)(out, shifted)

    landscape = check(build((5, 4)), tokens, expected, loss="next-token")
    assert landscape.spec.loss == "next-token"


def binary(x, t):
    return t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)


def test_binary_cross_entropy(build, check):
    t = labels_of(3, classes=2)
    logits = check(build((3,)), t, values(binary), loss="bce-with-logits", weights=WEIGHTS)

    def of_probability(p, t):
        return -t * np.log(p) - (1 - t) * np.log(1 - p)

    probabilities = check(
        build((3,), "Sigmoid"), t, values(of_probability), loss="bce", weights=WEIGHTS
    )
    np.testing.assert_allclose(logits.loss, probabilities.loss, rtol=1e-4)
    assert np.array_equal(logits.accuracy, probabilities.accuracy)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_errors_of_values(weights, build, check):
    t = np.float32(np.random.default_rng(9).standard_normal((SAMPLES, 2, 3)))
    for loss, options, of in (
        ("mse", {}, lambda y, t: (y - t) ** 2),
        ("mae", {}, lambda y, t: np.abs(y - t)),
        (
            "huber",
            {"huber_delta": 0.7},
            lambda y, t: np.where(
                np.abs(y - t) <= 0.7, (y - t) ** 2 / 2, 0.7 * (np.abs(y - t) - 0.35)
            ),
        ),
    ):
        landscape = check(build((2, 3)), t, values(of), loss=loss, weights=weights, **options)
        assert set(landscape.surfaces) == {"loss", "loss_stderr"}


def test_a_models_own_loss_of_each_sample(build, check):
    def own(out, _labels):
        return out.reshape(len(out), -1).mean(axis=1), np.ones(len(out))

    landscape = check(build(()), None, own)
    assert landscape.spec.loss == "none"
    check(build((2, 3)), None, own, loss="none", weights=WEIGHTS)


@pytest.mark.parametrize("shape", [[], [1]])
def test_a_models_own_loss_of_a_batch_is_weighted_by_its_size(shape, build):
    model = build((2,))
    reduce = helper.make_node("ReduceMean", ["out"], ["scalar"], keepdims=0)
    model.graph.node.append(reduce)
    if shape:
        model.graph.node[-1].output[0] = "plain"
        model.graph.node.append(helper.make_node("Unsqueeze", ["plain", "zero"], ["scalar"]))
        zero = onnx.numpy_helper.from_array(np.array([0]), "zero")
        model.graph.initializer.append(zero)
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info("scalar", onnx.TensorProto.FLOAT, shape)
    )
    x = np.float32(np.random.default_rng(6).standard_normal((SAMPLES, 6)))
    for strategy in ("constant", "overriding"):
        landscape = ox.evaluate(
            model, {"x": x}, samples="all", grid=3, batch_size=BATCH, strategy=strategy
        )
        whole = ox.evaluate(
            model, {"x": x}, samples="all", grid=3, batch_size=SAMPLES, strategy=strategy
        )
        # Means of batches of 5 and 3, weighted by their sizes, are the mean of all.
        np.testing.assert_allclose(landscape.loss, whole.loss, rtol=1e-5)
        assert np.isnan(landscape.loss_stderr).all()
        assert landscape.spec.loss == "none"


def test_a_landscape_of_a_subset_uses_the_weights_of_its_samples(build):
    model, labels = build((4,)), labels_of()
    x = np.float32(np.random.default_rng(6).standard_normal((SAMPLES, 6)))
    data = {"x": x, "y": labels, "sample_weight": WEIGHTS}
    some = ox.evaluate(model, data, samples=9, grid=3)
    at = subset_indices(some.spec.data, SAMPLES, 9)
    same = ox.evaluate(
        model,
        {"x": x[at], "y": labels[at], "sample_weight": WEIGHTS[at]},
        samples="all",
        grid=3,
    )
    np.testing.assert_allclose(some.loss, same.loss, rtol=1e-6)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_points_without_a_finite_loss_are_data(loss, build):
    x = np.float32(np.random.default_rng(6).standard_normal((SAMPLES, 6)))
    labels = labels_of() if loss == "cross-entropy" else x[:, :4]
    landscape = ox.evaluate(
        build((4,)), (x, labels), samples="all", grid="3x3", radius=1e39, loss=loss
    )
    assert np.isfinite(landscape.center["loss"])
    assert not np.isfinite(landscape.loss[0]).any()
    assert landscape.complete
