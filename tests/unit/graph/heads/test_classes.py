"""Losses of class scores against numpy in float64; definitions as in torch.nn.functional."""

from __future__ import annotations

import numpy as np
import pytest

OPSETS = [11, 12, 13, 17, 18, 20]
ALL = ("accuracy", "top5", "error")


def log_softmax(logits, axis=1):
    """In float64, by the definition and with the largest logit taken out."""
    shifted = logits.astype(np.float64) - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def torch_cross_entropy(logits, labels, *, axis=1, smoothing=0.0, ignore_index=-100):
    """Return the sum over positions for each sample, reduction="none" summed."""
    log_probability = np.moveaxis(log_softmax(logits, axis), axis, -1)
    counts = labels != ignore_index
    inside = np.where(counts, labels, 0)
    chosen = np.take_along_axis(log_probability, inside[..., None], axis=-1)[..., 0]
    uniform = log_probability.mean(axis=-1)
    loss = -(1 - smoothing) * chosen - smoothing * uniform
    return np.where(counts, loss, 0.0).reshape(len(labels), -1).sum(axis=1)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e7])
def test_cross_entropy_is_that_of_float64(scale, opset, run_head):
    rng = np.random.default_rng(0)
    logits = np.float32(scale * rng.standard_normal((50, 10)))
    labels = rng.integers(0, 10, 50)
    results = run_head("cross-entropy", logits, labels, opset=opset, metrics=ALL)
    expected = -log_softmax(logits)[np.arange(50), labels]
    np.testing.assert_allclose(results["loss"], expected, rtol=1e-9, atol=1e-12)
    hits = logits.argmax(axis=1) == labels
    assert results["accuracy"].tolist() == hits.tolist()
    assert results["error"].tolist() == (~hits).tolist()
    ranks = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    assert results["top5"].tolist() == (ranks == labels[:, None]).any(axis=1).tolist()


AXES = {
    "segmentation": ((6, 4, 3, 5), 1, (3, 5)),
    "keras segmentation": ((6, 3, 5, 4), 3, (3, 5)),
    "sequence": ((6, 7, 4), 2, (7,)),
    "torch sequence": ((6, 4, 7), 1, (7,)),
    "axis in the middle": ((6, 3, 4, 5), 2, (3, 5)),
    "pixels of one": ((6, 4, 1, 1), 1, ()),
    "classes at the end of ones": ((6, 1, 1, 4), 3, ()),
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignore_index", [-100, 255, 0])
@pytest.mark.parametrize("case", AXES)
def test_positions_are_summed_but_for_the_ignored(
    case, ignore_index, smoothing, opset, run_head
):
    shape, axis, positions = AXES[case]
    rng = np.random.default_rng(1)
    logits = np.float32(3 * rng.standard_normal(shape))
    labels = rng.integers(0, 4, (6, *positions))
    labels[rng.random(labels.shape) < 0.3] = ignore_index
    results = run_head(
        "cross-entropy",
        logits,
        labels,
        opset=opset,
        class_axis=axis,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        metrics=("accuracy", "error"),
    )
    flat = logits.reshape(6, 4, -1)[:, :, 0] if not positions else logits
    expected = torch_cross_entropy(
        flat,
        labels,
        axis=1 if not positions else axis,
        smoothing=smoothing,
        ignore_index=ignore_index,
    )
    np.testing.assert_allclose(results["loss"], expected, rtol=1e-12, atol=1e-12)
    counts = labels != ignore_index
    found = flat.argmax(axis=1 if not positions else axis) == labels
    hits = (found & counts).reshape(6, -1).sum(axis=1)
    assert results["accuracy"].tolist() == hits.tolist()
    assert results["error"].tolist() == (counts.reshape(6, -1).sum(axis=1) - hits).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_ignored_position_may_hold_anything(bad, run_head):
    logits = np.zeros((2, 3, 2), dtype=np.float32)
    logits[:, :, 1] = bad
    labels = np.array([[1, -100], [1, 2]])
    results = run_head("cross-entropy", logits, labels, metrics=ALL)
    assert results["loss"][0] == pytest.approx(np.log(3))
    assert not np.isfinite(results["loss"][1])
    assert results["error"].tolist() == [1.0, 2.0]
    assert results["top5"].tolist() == [1.0, 1.0]


def test_the_next_token_is_cross_entropy_on_shifted_labels(run_head):
    rng = np.random.default_rng(2)
    logits = np.float32(rng.standard_normal((3, 6, 11)))
    labels = rng.integers(0, 11, (3, 6))
    labels[:, -1] = -100
    results = run_head("next-token", logits, labels, class_axis=2)
    expected = torch_cross_entropy(logits, labels, axis=2)
    np.testing.assert_allclose(results["loss"], expected, rtol=1e-12)


def test_cross_entropy_does_not_saturate_where_float32_does(run_head):
    # In float32 1 - e^-30 is 1 and its logarithm 0.
    assert np.float32(1) - np.exp(np.float32(-30)) == 1
    loss = run_head("cross-entropy", np.float32([[30.0, 0.0]]), [0])["loss"]
    assert loss[0] == pytest.approx(np.exp(-30.0), rel=0.01, abs=0.0)


def test_cross_entropy_of_one_class_is_zero(run_head):
    results = run_head("cross-entropy", np.float32([[5.0]]), [0], metrics=("accuracy",))
    assert (results["loss"][0], results["accuracy"][0]) == (0.0, 1.0)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_logit_that_is_not_finite_leaves_its_sample_without_a_loss(
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
    results = run_head("cross-entropy", logits, labels, opset=opset, metrics=ALL)
    assert results["loss"][0] == pytest.approx(-log_softmax(logits[:1])[0, 3])
    assert np.isnan(results["loss"][1:]).all()
    assert not results["accuracy"][1:].any()
    assert not results["top5"][1:].any()
    assert results["error"][1:].all()


@pytest.mark.parametrize("row", [[np.nan, np.inf], [np.inf, np.nan], [-np.inf, -np.inf]])
@pytest.mark.parametrize("label", [0, 1])
def test_logits_of_which_none_is_finite_have_no_loss(row, label, run_head):
    results = run_head("cross-entropy", np.float32([row]), [label], metrics=ALL)
    assert np.isnan(results["loss"][0])
    assert (results["accuracy"][0], results["error"][0]) == (0.0, 1.0)


def test_a_class_ruled_out_by_minus_infinity_leaves_the_others_finite(run_head):
    logits = np.float32([[0.0, -np.inf, 0.0]] * 2)
    results = run_head("cross-entropy", logits, [0, 1], metrics=ALL)
    assert results["loss"][0] == pytest.approx(np.log(2))
    assert results["loss"][1] == np.inf
    assert results["top5"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_softmax_that_is_written_out_gives_the_same(smoothing, opset, run_head):
    # For devices whose LogSoftmax of float64 is none.
    logits = 30 * np.random.default_rng(4).standard_normal((40, 7)).astype(np.float32)
    logits[30:] = [0.0, 3e38, -3e38, 1.0, 2.0, 3.0, 4.0]
    logits[38, 2], logits[39, 3] = np.inf, np.nan
    labels = np.arange(40) % 7
    results = run_head(
        "cross-entropy",
        logits,
        labels,
        opset=opset,
        label_smoothing=smoothing,
        exact_softmax=False,
    )
    expected = torch_cross_entropy(logits[:38], labels[:38], axis=1, smoothing=smoothing)
    np.testing.assert_allclose(results["loss"][:38], expected, rtol=1e-12, atol=1e-12)
    assert np.isnan(results["loss"][38:]).all()


def test_a_sample_has_the_same_loss_in_any_batch(run_head):
    logits = np.float32(np.random.default_rng(0).standard_normal((64, 10)))
    labels = np.arange(64) % 10
    whole = run_head("cross-entropy", logits, labels)["loss"]
    parts = [
        run_head("cross-entropy", logits[i : i + 7], labels[i : i + 7])["loss"]
        for i in range(0, 64, 7)
    ]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_logits_of_other_precision_are_taken(kind, run_head):
    logits = np.array([[1.0, 2.0, 4.0]], dtype=kind)
    results = run_head("cross-entropy", logits, [2], metrics=ALL)
    assert results["loss"][0] == pytest.approx(-log_softmax(logits)[0, 2], rel=1e-9)
    assert results["accuracy"][0] == 1.0


@pytest.mark.parametrize("opset", OPSETS)
def test_nll_is_the_log_probability_at_the_label(opset, run_head):
    rng = np.random.default_rng(3)
    values = np.float32(log_softmax(rng.standard_normal((20, 7))))
    labels = rng.integers(0, 7, 20)
    results = run_head("nll", values, labels, opset=opset, metrics=ALL)
    assert results["loss"].tolist() == (-values[np.arange(20), labels].astype(float)).tolist()
    assert results["accuracy"].tolist() == (values.argmax(axis=1) == labels).tolist()


@pytest.mark.parametrize("opset", OPSETS)
def test_log_loss_is_the_logarithm_of_the_probability_and_zeros_are_counted(opset, run_head):
    values = np.float32([[0.25, 0.75], [1.0, 0.0], [1.0, 0.0], [1.0 - 1e-7, 1e-7]])
    results = run_head(
        "log-loss", values, [0, 0, 1, 1], opset=opset, metrics=("accuracy", "clamped")
    )
    expected = [np.log(4), 0.0, -np.log(1e-45), -np.log(np.float64(np.float32(1e-7)))]
    np.testing.assert_allclose(results["loss"], expected, rtol=1e-14)
    assert results["clamped"].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert results["accuracy"].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_the_smallest_float32_is_not_clamped(run_head):
    smallest = np.float32(1.4e-45)
    values = np.array([[1.0, smallest]], dtype=np.float32)
    results = run_head("log-loss", values, [1], metrics=("clamped",))
    assert results["loss"][0] == pytest.approx(-np.log(np.float64(smallest)), rel=1e-12)
    assert results["clamped"][0] == 0.0


def test_a_sample_counts_once_as_clamped_and_not_for_ignored_positions(run_head):
    values = np.float32([[[1.0, 0.0]] * 3] * 2)
    labels = np.array([[1, 1, 0], [0, -100, 0]])
    results = run_head("log-loss", values, labels, class_axis=2, metrics=("clamped",))
    assert results["clamped"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("loss", ["nll", "log-loss"])
def test_a_row_with_a_nan_has_no_loss_wherever_it_stands(loss, run_head):
    sign = -1.0 if loss == "nll" else 1.0
    values = sign * np.float32([[0.5, np.nan], [np.nan, 0.5], [0.5, 0.5]])
    results = run_head(loss, values, [0, 0, 0], metrics=("accuracy",))
    assert np.isnan(results["loss"][:2]).all()
    assert np.isfinite(results["loss"][2])
    assert results["accuracy"].tolist() == [0.0, 0.0, 1.0]


def test_of_equal_scores_the_first_five_count(run_head):
    # A network that has collapsed to a constant must not look good.
    logits = np.zeros((10, 10), dtype=np.float32)
    results = run_head("cross-entropy", logits, np.arange(10), metrics=ALL)
    assert results["top5"].tolist() == [1.0] * 5 + [0.0] * 5
    assert results["accuracy"].tolist() == [1.0] + [0.0] * 9
