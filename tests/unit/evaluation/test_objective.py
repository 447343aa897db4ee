"""The loss of a run against outputs and labels: what is refused, warned of, and recorded."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

import onnxscape as ox
from onnxscape.core.spec import EvalSpec
from onnxscape.data import Dataset
from onnxscape.errors import (
    DataError,
    OutputError,
    SpecConflictError,
    UnsupportedModelError,
    UsageError,
)

RANDOM = np.random.default_rng(4)
X = np.float32(RANDOM.standard_normal((12, 4)))
Y = np.arange(12) % 3
WEIGHT = np.float32(RANDOM.standard_normal((4, 3)))


@pytest.fixture
def evaluate(recorder):
    """Evaluates two points and returns the landscape and what was told."""

    def call(model, data=(X, Y), **options):
        told = recorder()
        landscape = ox.evaluate(model, data, **({"grid": 2, "observer": told} | options))
        return landscape, told

    return call


@pytest.fixture
def network(make_model):
    """Returns x [n, 4] -> Gemm -> the given nodes, which read `raw` [n, 3]."""

    def build(*nodes, outputs, types=()):
        first = helper.make_node("Gemm", ["x", "w"], ["raw"])
        return make_model(
            [first, *nodes], {"x": ["n", 4]}, outputs, {"w": WEIGHT}, types=types
        )

    return build


@pytest.fixture
def loss_file(make_model, tmp_path):
    """Returns the path of a graph."""

    def write(nodes, inputs, outputs, *, name="own.onnx", **options):
        path = tmp_path / name
        onnx.save(make_model(nodes, inputs, outputs, {}, **options), path)
        return str(path)

    return write


@pytest.fixture
def squares(loss_file):
    """The path of a loss `sum over classes of raw^2`."""
    nodes = [helper.make_node("ReduceSumSquare", ["raw"], ["z"], axes=[1], keepdims=0)]
    return loss_file(nodes, {"raw": ["n", 3]}, {"z": ["n"]}, name="squares.onnx")


def test_the_proposed_loss_is_told_with_its_reason(evaluate, network):
    softmax = helper.make_node("Softmax", ["raw"], ["p"], axis=1)
    _, told = evaluate(network(softmax, outputs={"p": ["n", 3]}))
    (outline,) = told.outlines
    assert outline.loss == (
        "log-loss of 'p' [N, 3] (proposed: the output is a Softmax); accuracy"
    )
    _, told = evaluate(network(softmax, outputs={"p": ["n", 3]}), loss="log-loss")
    assert told.outlines[0].loss == "log-loss of 'p' [N, 3]; accuracy"


def test_a_proposed_loss_is_the_same_landscape_as_a_named_one(network, tmp_path):
    model = network(outputs={"raw": ["n", 3]})
    first = ox.evaluate(model, (X, Y), grid=2, out=tmp_path / "s.h5")
    again = ox.evaluate(model, (X, Y), grid=2, out=tmp_path / "s.h5", loss="cross-entropy")
    assert again.spec == first.spec
    with pytest.raises(SpecConflictError, match="label_smoothing"):
        ox.evaluate(model, (X, Y), grid=2, out=tmp_path / "s.h5", label_smoothing=0.1)


def test_what_shapes_tell_is_not_recorded_when_it_is_named(network):
    model = network(outputs={"raw": ["n", 3]})
    plain, named = (
        ox.evaluate(model, (X, Y), grid=2, **options)
        for options in ({}, {"output": "raw", "class_axis": -1, "ignore_index": -100})
    )
    assert named.spec == plain.spec


def test_specs_of_before_are_read_as_they_were():
    spec = EvalSpec(
        model="a",
        data="b",
        samples=1,
        population=1,
        loss="cross-entropy",
        metrics=("accuracy",),
        grid=ox.Grid(ox.Axis(-1, 1, 3), None),
        seed=0,
        normalization="filter",
        ignore="biasbn",
        orthogonal=False,
    )
    old = json.loads(spec.to_json())
    for name in (
        *("loss_file", "metric_files", "output", "class_axis", "ignore_index"),
        *("label_smoothing", "huber_delta"),
    ):
        del old[name]
    assert EvalSpec.from_dict(old) == spec


def test_the_only_output_of_floats_is_taken(evaluate, network):
    best = helper.make_node("ArgMax", ["raw"], ["label"], axis=1, keepdims=0)
    model = network(
        best,
        outputs={"label": ["n"], "raw": ["n", 3]},
        types={"label": TensorProto.INT64},
    )
    landscape, told = evaluate(model)
    assert landscape.spec.output is None
    assert told.notes == [
        "the loss is computed from 'raw', the only one of 2 outputs that holds floats"
    ]
    alone, _ = evaluate(network(outputs={"raw": ["n", 3]}))
    assert np.array_equal(landscape.loss, alone.loss)


def test_the_axis_of_classes_is_asked_for_where_two_fit(evaluate, make_model):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["out"]),
    ]
    tensors = {"w": np.float32(RANDOM.standard_normal((4, 9))), "shape": np.array([0, 3, 3])}
    model = make_model(nodes, {"x": ["n", 4]}, {"out": ["n", 3, 3]}, tensors)
    labels = RANDOM.integers(0, 3, (12, 3))
    message = (
        r"axes 1, 2 may count classes.*'out' \[N, 3, 3\] and labels \[N, 3\].*--class-axis"
    )
    with pytest.raises(UsageError, match=message):
        evaluate(model, (X, labels))
    first, second = (evaluate(model, (X, labels), class_axis=a)[0] for a in (1, 2))
    assert (first.spec.class_axis, second.spec.class_axis) == (1, 2)
    assert not np.array_equal(first.loss, second.loss)


def test_labels_that_fit_no_axis_are_refused_by_shape(evaluate, network, make_model):
    with pytest.raises(DataError, match="one-hot labels become classes"):
        evaluate(network(outputs={"raw": ["n", 3]}), (X, np.eye(3)[Y]))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["out"]),
    ]
    tensors = {"w": np.float32(RANDOM.standard_normal((4, 6))), "shape": np.array([0, 2, 3])}
    model = make_model(nodes, {"x": ["n", 4]}, {"out": ["n", 2, 3]}, tensors)
    with pytest.raises(DataError, match=r"\[N, 2, 3\] and labels \[N, 5\]: one label per"):
        evaluate(model, (X, RANDOM.integers(0, 3, (12, 5))), loss="cross-entropy")


@pytest.mark.parametrize(
    ("last", "loss", "message"),
    [
        ("Identity", "log-loss", "log-loss takes probabilities.*--loss cross-entropy"),
        ("Identity", "nll", "nll takes log-probabilities.*above 0.*--loss cross-entropy"),
        ("Softmax", "nll", "nll takes log-probabilities"),
        ("LogSoftmax", "log-loss", "takes probabilities.*values from -"),
    ],
)
def test_a_loss_that_contradicts_the_output_is_refused(last, loss, message, evaluate, network):
    model = network(helper.make_node(last, ["raw"], ["out"]), outputs={"out": ["n", 3]})
    with pytest.raises(UsageError, match=message):
        evaluate(model, loss=loss)


@pytest.mark.parametrize(
    ("last", "loss", "labels", "message"),
    [
        ("Softmax", "cross-entropy", Y, "looks like probabilities.*--loss log-loss"),
        ("Sigmoid", "log-loss", Y, "rows do not sum to 1"),
        ("Sigmoid", "bce-with-logits", np.eye(3)[Y], "comes from a Sigmoid.*--loss bce"),
    ],
)
def test_a_loss_that_looks_odd_is_warned_of(last, loss, labels, message, evaluate, network):
    model = network(helper.make_node(last, ["raw"], ["out"]), outputs={"out": ["n", 3]})
    _, told = evaluate(model, (X, labels), loss=loss)
    (warning,) = told.warnings
    assert re.search(message, warning)


def test_cross_entropy_of_log_probabilities_is_their_nll(evaluate, network):
    model = network(
        helper.make_node("LogSoftmax", ["raw"], ["out"]), outputs={"out": ["n", 3]}
    )
    nll, _ = evaluate(model)
    again, told = evaluate(model, loss="cross-entropy")
    assert nll.spec.loss == "nll"
    assert told.warnings == []
    np.testing.assert_allclose(again.loss, nll.loss, rtol=1e-6)


def test_binary_losses_want_labels_from_0_to_1(evaluate, network):
    model = network(outputs={"raw": ["n", 3]})
    with pytest.raises(DataError, match=r"takes labels from 0 to 1, .* 0 to 2"):
        evaluate(model, (X, np.stack([Y] * 3, axis=1)), loss="bce-with-logits")
    with pytest.raises(UsageError, match=r"bce takes probabilities.*--loss bce-with-logits"):
        evaluate(model, (X, np.eye(3)[Y]), loss="bce")


def test_values_of_another_shape_are_not_targets(evaluate, make_model):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["out"]),
    ]
    tensors = {"w": np.float32(RANDOM.standard_normal((4, 6))), "shape": np.array([0, 2, 3])}
    model = make_model(nodes, {"x": ["n", 4]}, {"out": ["n", 2, 3]}, tensors)
    targets = RANDOM.standard_normal((12, 3, 2))
    with pytest.raises(DataError, match=r"6 target.* \[N, 2, 3\].* have 6: \[N, 3, 2\]"):
        evaluate(model, (X, targets))


def test_labels_none_of_which_counts_are_refused(evaluate, network):
    with pytest.raises(DataError, match="-100"):
        evaluate(network(outputs={"raw": ["n", 3]}), (X, np.full(12, -100)), loss="nll")


@pytest.mark.parametrize("batch", [1, 3, 20])
def test_a_graph_is_tried_on_as_many_samples_as_a_fixed_batch_gives(
    batch, evaluate, network, loss_file
):
    nodes = [
        helper.make_node("ReduceMax", ["raw"], ["b"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["b", "labels"], ["z"]),
    ]
    path = loss_file(nodes, {"raw": ["n", 3], "labels": ["n"]}, {"z": ["n"]})
    model = network(outputs={"raw": ["n", 3]})
    free, _ = evaluate(model, loss=path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    fixed, _ = evaluate(model, loss=path)
    np.testing.assert_allclose(fixed.loss, free.loss, rtol=1e-6)


def test_most_samples_may_have_no_weight(evaluate, network):
    weights = np.zeros(12)
    weights[[3, 7]] = 2.0
    data = {"x": X, "y": Y, "sample_weight": weights}
    landscape, _ = evaluate(network(outputs={"raw": ["n", 3]}), data)
    raw = (X.astype(float) @ WEIGHT.astype(float))[[3, 7]]
    losses = np.log(np.exp(raw).sum(axis=1)) - raw[[0, 1], Y[[3, 7]]]
    assert landscape.center["loss"] == pytest.approx(losses.mean(), rel=1e-5)


# --- graphs -------------------------------------------------------------------------------


def test_a_loss_and_metrics_given_as_graphs_are_surfaces_and_part_of_the_spec(
    evaluate, network, squares, loss_file, tmp_path
):
    nodes = [
        helper.make_node("ReduceMax", ["raw"], ["best"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["targets"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["best", "t"], ["z"]),
    ]
    metric = loss_file(
        nodes,
        {"raw": ["n", 3], "targets": ["n"]},
        {"z": ["n"]},
        name="best score-1.onnx",
        types={"targets": TensorProto.INT8},
    )
    model = network(outputs={"raw": ["n", 3]})
    out = tmp_path / "s.h5"
    landscape, told = evaluate(model, loss=squares, metrics=(metric,), out=out)
    assert told.warnings == []
    raw = X.astype(float) @ WEIGHT.astype(float)
    assert landscape.center["loss"] == pytest.approx((raw**2).sum(axis=1).mean(), rel=1e-5)
    expected = (raw.max(axis=1) * Y).mean()
    assert landscape.center["best_score_1"] == pytest.approx(expected, rel=1e-5)
    assert list(ox.load(out).surfaces) == ["best_score_1", "loss", "loss_stderr"]
    digests = [
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("squares.onnx", "best score-1.onnx")
    ]
    spec = landscape.spec
    assert (spec.loss, spec.loss_file) == ("custom", digests[0])
    assert spec.metric_files == {"best_score_1": digests[1]}
    assert told.outlines[0].loss == "squares.onnx of 'raw' [N, 3]; best_score_1"


def test_a_loss_given_as_a_graph_may_read_several_outputs(evaluate, network, loss_file):
    model = network(
        helper.make_node("Neg", ["raw"], ["other"]),
        outputs={"raw": ["n", 3], "other": ["n", 3]},
    )
    nodes = [
        helper.make_node("Sub", ["raw", "other"], ["d"]),
        helper.make_node("Constant", [], ["axes"], value_ints=[1]),
        helper.make_node("ReduceSum", ["d", "axes"], ["z"], keepdims=1),
    ]
    path = loss_file(nodes, {"raw": ["n", 3], "other": ["n", 3]}, {"z": ["n", 1]})
    landscape, told = evaluate(model, {"x": X}, loss=path)
    raw = X.astype(float) @ WEIGHT.astype(float)
    assert landscape.center["loss"] == pytest.approx(2 * raw.sum(axis=1).mean(), rel=1e-4)
    assert told.outlines[0].loss == "own.onnx of 'raw' [N, 3] and 'other' [N, 3]"


def test_labels_that_would_change_in_the_graphs_type_are_refused(evaluate, network, loss_file):
    nodes = [
        helper.make_node("Cast", ["labels"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["raw"], ["b"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["b", "t"], ["z"]),
    ]
    path = loss_file(
        nodes,
        {"raw": ["n", 3], "labels": ["n"]},
        {"z": ["n"]},
        types={"labels": TensorProto.INT64},
    )
    model = network(outputs={"raw": ["n", 3]})
    with pytest.raises(DataError, match=r"would change in .*own.onnx \(labels \[\?\] int64\)"):
        evaluate(model, (X, Y + 0.5), loss=path)
    with pytest.raises(DataError, match="takes labels, and arrays has none"):
        evaluate(model, {"x": X}, loss=path)
    assert np.isfinite(evaluate(model, (X, Y.astype(float)), loss=path)[0].loss).all()


def test_a_graph_that_gives_no_number_per_sample_is_refused(evaluate, network, loss_file):
    nodes = [helper.make_node("Identity", ["raw"], ["z"])]
    path = loss_file(nodes, {"raw": ["n", 3]}, {"z": ["n", 3]})
    with pytest.raises(UnsupportedModelError, match=r"number per sample.*got \[8, 3\] for"):
        evaluate(network(outputs={"raw": ["n", 3]}), loss=path)


@pytest.fixture
def misses(loss_file):
    """Writes a metric that is 1 where the found class is not the label."""

    def write(declared, name="misses.onnx"):
        nodes = [
            helper.make_node("ArgMax", ["raw"], ["found"], axis=1, keepdims=0),
            helper.make_node("Equal", ["found", "labels"], ["hit"]),
            helper.make_node("Not", ["hit"], ["miss"]),
            helper.make_node("Cast", ["miss"], ["z"], to=TensorProto.FLOAT),
        ]
        types = {"labels": TensorProto.INT64}
        inputs = {"raw": ["n", 3], "labels": declared}
        return loss_file(nodes, inputs, {"z": None}, name=name, types=types)

    return write


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_a_graph_is_fed_the_labels_of_the_loss(shape, evaluate, network, misses):
    model = network(outputs={"raw": ["n", 3]})
    landscape, _ = evaluate(model, (X, Y.reshape(shape)), metrics=(misses(["n"]), "accuracy"))
    expected = np.mean((X.astype(float) @ WEIGHT.astype(float)).argmax(axis=1) != Y)
    assert landscape.center["misses"] == pytest.approx(expected)
    assert landscape.center["accuracy"] == pytest.approx(1 - expected)


@pytest.mark.parametrize("samples", [3, 12])
def test_labels_of_another_shape_than_the_graph_declares_are_refused(
    samples, evaluate, network, misses
):
    model = network(outputs={"raw": ["n", 3]})
    column = misses(["n", 1])
    message = (
        r"labels of arrays shaped as .*misses.onnx \(labels \[\?, 1\] int64\).* fed as \[N\]"
    )
    with pytest.raises(DataError, match=message):  # those of cross-entropy lose their column
        evaluate(model, (X, Y[:, None]), metrics=(column,), samples=samples)
    with pytest.raises(DataError, match=r"fed as \[N, 1\]; declare that shape"):
        evaluate(model, (X, Y[:, None]), loss=misses(["n"]), samples=samples)


def test_labels_that_multiply_the_samples_are_refused(evaluate, network, misses):
    anything = misses(None)  # [N] against [N, 1] gives [N, N]
    model = network(outputs={"raw": ["n", 3]})
    with pytest.raises(UnsupportedModelError, match=r"number per sample.*got \[8, 8\] for"):
        evaluate(model, (X, Y[:, None]), loss=anything)
    assert np.isfinite(evaluate(model, (X, Y), loss=anything)[0].loss).all()


def test_a_metric_may_take_labels_where_the_loss_takes_none(evaluate, network, misses):
    model = network(
        helper.make_node("ReduceMax", ["raw"], ["out"], axes=[1], keepdims=0),
        outputs={"out": ["n"], "raw": ["n", 3]},
    )
    landscape, _ = evaluate(model, loss="none", output="out", metrics=(misses(["n"]),))
    raw = X.astype(float) @ WEIGHT.astype(float)
    assert landscape.center["misses"] == pytest.approx(np.mean(raw.argmax(axis=1) != Y))
    assert landscape.center["loss"] == pytest.approx(raw.max(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceSum"])
def test_a_graph_that_mixes_samples_is_refused(op, evaluate, network, loss_file):
    first = {"axes": [0]} if op != "ReduceSum" else {}
    nodes = [
        helper.make_node("ReduceMax", ["raw"], ["own"], axes=[1], keepdims=1),
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node(op, ["own"] if first else ["own", "zero"], ["all"], **first),
        helper.make_node("Sub", ["own", "all"], ["z"]),
    ]
    path = loss_file(nodes, {"raw": ["n", 3]}, {"z": ["n", 1]})
    model = network(outputs={"raw": ["n", 3]})
    with pytest.raises(UnsupportedModelError, match=r"own.onnx mixes the samples.*batch size"):
        evaluate(model, loss=path)
    with pytest.raises(UnsupportedModelError, match="the metric 'own' of one sample"):
        evaluate(model, metrics=(path,))


def test_a_graph_for_one_number_of_samples_is_refused(evaluate, network, loss_file):
    nodes = [
        helper.make_node("ReduceMax", ["raw"], ["b"], axes=[1], keepdims=0),
        helper.make_node("Constant", [], ["eight"], value_ints=[8]),
        helper.make_node("Reshape", ["b", "eight"], ["z"]),
    ]
    path = loss_file(nodes, {"raw": ["n", 3]}, {"z": ["n"]})
    with pytest.raises(UnsupportedModelError, match=r"8 samples at once, but not one alone"):
        evaluate(network(outputs={"raw": ["n", 3]}), loss=path)


@pytest.mark.parametrize("size", [1, 8])
def test_the_batch_size_that_a_graph_was_exported_for_does_not_matter(
    size, evaluate, network, loss_file
):
    nodes = [helper.make_node("ReduceMax", ["raw"], ["z"], axes=[1], keepdims=0)]
    path = loss_file(nodes, {"raw": [size, 3]}, {"z": [size]})
    landscape, _ = evaluate(network(outputs={"raw": ["n", 3]}), loss=path)
    raw = X.astype(float) @ WEIGHT.astype(float)
    assert landscape.center["loss"] == pytest.approx(raw.max(axis=1).mean(), rel=1e-5)


def test_a_graph_does_not_read_one_number_of_a_whole_batch(evaluate, network, loss_file):
    model = network(
        helper.make_node("ReduceMean", ["raw"], ["all"], keepdims=0),
        outputs={"raw": ["n", 3], "all": []},
    )
    nodes = [
        helper.make_node("ReduceMax", ["raw"], ["b"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["b", "all"], ["z"]),
    ]
    path = loss_file(nodes, {"raw": ["n", 3], "all": []}, {"z": ["n"]})
    with pytest.raises(UnsupportedModelError, match=r"the output 'all' that .*got \[\] for 8"):
        evaluate(model, loss=path)


@pytest.mark.parametrize("name", ["loss.onnx", "accuracy.onnx", "train_loss.onnx", "_.onnx"])
def test_a_metric_whose_name_is_taken_is_refused(name, evaluate, network, loss_file):
    nodes = [helper.make_node("ReduceMax", ["raw"], ["z"], axes=[1], keepdims=0)]
    path = loss_file(nodes, {"raw": ["n", 3]}, {"z": ["n"]}, name=name)
    with pytest.raises(UsageError, match="rename the file"):
        evaluate(network(outputs={"raw": ["n", 3]}), metrics=(path,))


def test_a_loss_is_never_written_over(evaluate, network, squares):
    with pytest.raises((UsageError, OutputError), match=r"squares.onnx is read by this run"):
        evaluate(network(outputs={"raw": ["n", 3]}), loss=squares, out=squares)


# --- one number for a batch ---------------------------------------------------------------


@pytest.fixture
def whole(network):
    """A model whose output is one number for a batch; the batch may be fixed."""

    def build(batch="n", op="ReduceMean"):
        node = helper.make_node(op, ["raw"], ["z"], keepdims=0)
        model = network(node, outputs={"z": []})
        if batch != "n":
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        return model

    return build


def test_one_number_for_a_batch_can_only_be_the_loss(evaluate, whole):
    assert evaluate(whole())[0].spec.loss == "none"
    with pytest.raises(UnsupportedModelError, match="one number for a whole batch"):
        evaluate(whole(), (X, X), loss="mse")


def test_samples_cannot_have_weights_in_a_loss_of_whole_batches(evaluate, whole):
    with pytest.raises(DataError, match="leave out sample_weight"):
        evaluate(whole(), {"x": X, "sample_weight": np.ones(12)})


def test_a_fixed_batch_must_divide_the_samples_where_it_has_one_loss(evaluate, whole):
    with pytest.raises(UsageError, match=r"whole batch of 5.*12 samples.*--samples 10"):
        evaluate(whole(5), {"x": X})
    landscape, _ = evaluate(whole(5), {"x": X}, samples=10)
    assert np.isfinite(landscape.loss).all()


def test_the_mean_of_a_batch_is_that_of_all_samples(evaluate, whole):
    landscape, told = evaluate(whole(), {"x": X}, batch_size=5)
    assert told.warnings == []
    expected = (X.astype(float) @ WEIGHT.astype(float)).mean()
    assert landscape.center["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [None, "none"])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceL2", "ReduceSumSquare"])
def test_a_sum_over_the_batch_is_no_loss(op, loss, evaluate, whole):
    with pytest.raises(
        UnsupportedModelError, match=r"'z' is no mean over the batch.*the mean of"
    ):
        evaluate(whole(op=op), {"x": X}, loss=loss)


def test_what_cannot_be_checked_of_a_fixed_batch_is_said(evaluate, whole):
    landscape, told = evaluate(whole(4), {"x": X})
    (warning,) = told.warnings
    assert re.search(
        r"'z' is taken for the mean .* not be checked, since .* of 4 only", warning
    )
    expected = (X.astype(float) @ WEIGHT.astype(float)).mean()
    assert landscape.center["loss"] == pytest.approx(expected, rel=1e-5)
    assert evaluate(whole(1), {"x": X})[1].warnings == []


# --- bytes --------------------------------------------------------------------------------


def test_only_bytes_that_are_fed_are_told_of(evaluate, network):
    model = network(outputs={"raw": ["n", 3]})
    ones = np.ones(12, dtype=np.uint8)
    data = {"x": X, "y": Y, "sample_weight": ones, "mask": np.ones((12, 4), dtype=np.uint8)}
    assert evaluate(model, data)[1].notes == []
    pixels = {**data, "x": np.uint8(10 * np.abs(X))}
    (note,) = evaluate(model, pixels)[1].notes
    assert note.startswith("'x' holds bytes, fed as numbers from 0 to 255")
    assert evaluate(model, pixels, scale="unit")[1].notes == []


def test_bytes_in_the_columns_of_a_table_are_told_of_once(evaluate, network, tmp_path):
    columns = {f"c{i}": np.uint8(10 * np.abs(X[:, i])) for i in range(4)}
    pq.write_table(pa.table({**columns, "y": Y}), tmp_path / "d.parquet")
    _, told = evaluate(network(outputs={"raw": ["n", 3]}), tmp_path / "d.parquet")
    (note,) = told.notes
    assert note.startswith("the columns hold bytes, fed as numbers from 0 to 255")


def test_data_with_weights_is_digested_once(evaluate, network, monkeypatch):
    calls = []
    computed = Dataset._computed_digest
    monkeypatch.setattr(
        Dataset, "_computed_digest", lambda data: calls.append(data) or computed(data)
    )
    evaluate(
        network(outputs={"raw": ["n", 3]}), {"x": X, "y": Y, "sample_weight": np.ones(12)}
    )
    assert len(calls) == 1
