from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.errors import UnsupportedModelError, UsageError
from onnxscape.graph.canonical import canonical
from onnxscape.graph.heads import HIT, LABELS, LOSS, LOSSES, METRICS, graft_loss

OPSETS = [11, 12, 13, 17, 18, 20]


@pytest.fixture
def run_head(make_model, run_model):
    """Returns loss and hits of a model whose output is what it is fed."""

    def run(loss, y, labels, *, opset=17):
        y = np.asarray(y)
        kind = helper.np_dtype_to_tensor_dtype(y.dtype)
        model = canonical(
            make_model(
                [helper.make_node("Identity", ["x"], ["y"])],
                {"x": ["n", *y.shape[1:]]},
                {"y": ["n", *y.shape[1:]]},
                {},
                opset=opset,
                types={"x": kind, "y": kind},
            ),
            precision="native",
        ).model
        head = graft_loss(model, loss)
        labels = np.asarray(labels, dtype=head.label_type)
        if loss == "cross-entropy":
            labels = labels.reshape(-1, 1)
        outputs = [LOSS] + ([HIT] if "accuracy" in head.metrics else [])
        return run_model(ir.to_proto(model), {"x": y, LABELS: labels}, outputs)

    return run


def log_softmax(logits):
    """In float64, by the definition and with the largest logit taken out."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e7])
def test_cross_entropy_is_that_of_float64(scale, opset, run_head):
    rng = np.random.default_rng(0)
    logits = np.float32(scale * rng.standard_normal((50, 10)))
    labels = rng.integers(0, 10, 50)
    loss, hit = run_head("cross-entropy", logits, labels, opset=opset)
    expected = -log_softmax(logits)[np.arange(50), labels]
    assert loss.dtype == np.float64
    assert loss.shape == hit.shape == (50, 1)
    np.testing.assert_allclose(loss[:, 0], expected, rtol=1e-9, atol=1e-12)
    assert hit[:, 0].tolist() == (logits.argmax(axis=1) == labels).tolist()


def test_cross_entropy_does_not_saturate_where_float32_does(run_head):
    # In float32 1 - e^-30 is 1 and its logarithm 0.
    assert np.float32(1) - np.exp(np.float32(-30)) == 1
    loss, _ = run_head("cross-entropy", np.float32([[30.0, 0.0]]), [0])
    assert loss[0, 0] == pytest.approx(np.exp(-30.0), rel=0.01, abs=0.0)


def test_cross_entropy_of_one_class_is_zero(run_head):
    loss, hit = run_head("cross-entropy", np.float32([[5.0]]), [0])
    assert (loss[0, 0], hit[0, 0]) == (0.0, True)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_logit_that_is_not_finite_makes_its_samples_loss_not_finite(
    kind, bad, opset, run_head
):
    # Wherever it stands, and whichever is the label: ONNX Runtime's LogSoftmax of float64
    # gives 45.05 for the first logit of [0, nan, 1].
    fine = np.arange(5, dtype=kind)
    rows, labels = [fine], [3]
    for at in range(5):
        rows += [np.where(np.arange(5) == at, bad, fine)] * 5
        labels += range(5)
    logits = np.array(rows, dtype=kind)
    loss, _ = run_head("cross-entropy", logits, labels, opset=opset)
    assert loss[0, 0] == pytest.approx(-log_softmax(logits[:1])[0, 3])
    assert not np.isfinite(loss[1:]).any()
    if np.isnan(bad):
        assert np.isnan(loss[1:]).all()


@pytest.mark.parametrize("row", [[np.nan, np.inf], [np.inf, np.nan], [-np.inf, -np.inf]])
@pytest.mark.parametrize("label", [0, 1])
def test_logits_of_which_none_is_finite_have_no_loss(row, label, run_head):
    loss, _ = run_head("cross-entropy", np.float32([row]), [label])
    assert np.isnan(loss[0, 0])


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_prediction_that_is_not_finite_makes_its_samples_error_not_finite(bad, run_head):
    y = np.float32([[0.0, bad, 1.0], [bad, 0.0, 0.0], [1.0, 1.0, 1.0]])
    (loss,) = run_head("mse", y, np.zeros((3, 3)))
    assert np.isfinite(loss[:, 0]).tolist() == [False, False, True]


def test_a_class_ruled_out_by_minus_infinity_leaves_the_others_finite(run_head):
    loss, _ = run_head("cross-entropy", np.float32([[0.0, -np.inf, 0.0]] * 2), [0, 1])
    assert loss[0, 0] == pytest.approx(np.log(2))
    assert loss[1, 0] == np.inf


def test_a_sample_has_the_same_loss_in_any_batch(run_head):
    logits = np.float32(np.random.default_rng(0).standard_normal((64, 10)))
    labels = np.arange(64) % 10
    whole, _ = run_head("cross-entropy", logits, labels)
    parts = [
        run_head("cross-entropy", logits[i : i + 7], labels[i : i + 7])[0]
        for i in range(0, 64, 7)
    ]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_logits_of_other_precision_are_taken(kind, run_head):
    logits = np.array([[1.0, 2.0, 4.0]], dtype=kind)
    loss, hit = run_head("cross-entropy", logits, [2])
    assert loss[0, 0] == pytest.approx(-log_softmax(logits)[0, 2], rel=1e-9)
    assert hit[0, 0]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 4), (5, 3, 2), (5, 2, 3, 4)])
def test_the_squared_error_is_the_mean_over_all_but_the_first_axis(shape, opset, run_head):
    rng = np.random.default_rng(0)
    y, targets = (np.float32(rng.standard_normal(shape)) for _ in range(2))
    (loss,) = run_head("mse", y, targets, opset=opset)
    squares = np.square(y.astype(float) - targets.astype(float)).reshape(5, -1)
    assert loss.shape == (5, 1)
    np.testing.assert_allclose(loss[:, 0], squares.mean(axis=1), rtol=1e-12)


def test_a_row_of_targets_fits_a_column_of_predictions(run_head):
    (loss,) = run_head("mse", np.float32([[1.0], [2.0], [4.0]]), [1.0, 1.0, 1.0])
    assert loss.tolist() == [[0.0], [1.0], [9.0]]


def test_the_squared_error_of_huge_predictions_is_finite(run_head):
    # Their squares do not fit into float32.
    (loss,) = run_head("mse", np.float32([[1e30]]), [[-1e30]])
    assert loss[0, 0] == pytest.approx(4e60, rel=1e-6)


def test_a_head_says_what_it_takes_and_gives(make_model):
    for loss, label_type in (("cross-entropy", np.int64), ("mse", np.float32)):
        identity = helper.make_node("Identity", ["x"], ["y"])
        model = canonical(make_model([identity], {"x": ["n", 2]}, {"y": ["n", 2]}, {})).model
        head = graft_loss(model, loss)
        assert (head.name, head.label_type) == (loss, label_type)
        assert head.metrics == METRICS[loss]
        assert [value.name for value in model.graph.inputs] == ["x", LABELS]
        names = [value.name for value in model.graph.outputs]
        assert names == ["y", LOSS] + ([HIT] if "accuracy" in head.metrics else [])


def test_every_loss_says_which_metrics_come_with_it():
    assert set(LOSSES) == set(METRICS)


def test_an_unknown_loss_is_refused_with_those_there_are(make_model):
    model = canonical(
        make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": [2]}, {})
    ).model
    with pytest.raises(UsageError, match="--loss cross-entropy or mse, got 'hinge'"):
        graft_loss(model, "hinge")


def test_a_model_of_two_outputs_is_refused_by_their_names(make_model):
    nodes = [helper.make_node(op, ["x"], [op.lower()]) for op in ("Relu", "Neg")]
    model = canonical(make_model(nodes, {"x": [2]}, {"relu": [2], "neg": [2]}, {})).model
    with pytest.raises(UnsupportedModelError, match="this one has 2: relu, neg; export it"):
        graft_loss(model, "mse")
