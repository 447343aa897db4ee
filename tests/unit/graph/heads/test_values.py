"""Losses of values against their definitions in numpy, in float64."""

from __future__ import annotations

import numpy as np
import pytest

OPSETS = [11, 12, 13, 17, 18, 20]
SHAPES = [(5,), (5, 1), (5, 4), (5, 3, 2), (5, 2, 3, 4)]


def per_sample(values):
    return values.reshape(len(values), -1).mean(axis=1)


def huber(difference, delta):
    distance = np.abs(difference)
    return np.where(distance <= delta, distance**2 / 2, delta * (distance - delta / 2))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_errors_are_means_over_all_but_the_first_axis(shape, opset, run_head):
    rng = np.random.default_rng(0)
    y, targets = (np.float32(3 * rng.standard_normal(shape)) for _ in range(2))
    difference = y.astype(float) - targets.astype(float)
    for name, options, expected in (
        ("mse", {}, difference**2),
        ("mae", {}, np.abs(difference)),
        ("huber", {}, huber(difference, 1.0)),
        ("huber", {"huber_delta": 2.5}, huber(difference, 2.5)),
    ):
        loss = run_head(name, y, targets, opset=opset, **options)["loss"]
        np.testing.assert_allclose(loss, per_sample(expected), rtol=1e-12)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_binary_cross_entropy_is_the_same_from_logits_and_probabilities(
    shape, opset, run_head
):
    rng = np.random.default_rng(1)
    x = np.float64(3 * rng.standard_normal(shape))
    t = np.float32(rng.random(shape) < 0.5)
    t.flat[0] = 0.25  # soft labels are labels
    expected = per_sample(t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x))
    p = 1 / (1 + np.exp(-x))
    metrics = ("accuracy", "error")
    logits = run_head("bce-with-logits", x, t, opset=opset, metrics=metrics)
    probabilities = run_head("bce", p, t, opset=opset, metrics=metrics)
    for results in (logits, probabilities):
        np.testing.assert_allclose(results["loss"], expected, rtol=1e-11)
        right = per_sample((x > 0) == (t > 0.5))
        np.testing.assert_allclose(results["accuracy"], right)
        np.testing.assert_allclose(results["error"], 1 - right)


@pytest.mark.parametrize("x", [0.0, 1e-300, 30.0, 40.0, 700.0, 1e4, 1e308])
def test_binary_cross_entropy_of_logits_never_loses_its_digits(x, run_head):
    # A right answer of certainty x costs log1p(e^-x), a wrong one x more.
    loss = run_head("bce-with-logits", np.array([x, -x, -x, x]), [1.0, 0.0, 1.0, 0.0])["loss"]
    small = np.log1p(np.exp(-x))
    np.testing.assert_allclose(loss, [small, small, x + small, x + small], rtol=1e-15)


def test_certain_and_wrong_probabilities_are_clamped_and_counted(run_head):
    p = np.float32([[0.0, 1.0], [1.0, 0.5], [0.0, 0.5], [0.5, 1.0]])
    t = np.float32([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.5]])
    results = run_head("bce", p, t, metrics=("clamped",))
    most = -np.log(1e-45)
    expected = [
        0.0,
        (most + np.log(2)) / 2,
        (most + np.log(2)) / 2,
        (np.log(2) + most / 2) / 2,
    ]
    np.testing.assert_allclose(results["loss"], expected, rtol=1e-14)
    assert results["clamped"].tolist() == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "bce-with-logits", "bce"])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_prediction_that_is_not_finite_spoils_its_sample_only(bad, name, run_head):
    y = np.float32([[0.0, bad, 1.0], [bad, 0.0, 0.0], [1.0, 1.0, 1.0]])
    results = run_head(name, y, np.full((3, 3), 0.5), metrics=())
    assert not np.isfinite(results["loss"][:2]).any()
    assert np.isfinite(results["loss"][2])


def test_a_value_whose_loss_is_not_finite_is_wrong(run_head):
    y = np.float32([[np.nan, 5.0]])
    results = run_head("bce-with-logits", y, [[0.0, 1.0]], metrics=("accuracy", "error"))
    assert (results["accuracy"][0], results["error"][0]) == (0.5, 0.5)


def test_a_row_of_targets_fits_a_column_of_predictions(run_head):
    loss = run_head("mse", np.float32([[1.0], [2.0], [4.0]]), [1.0, 1.0, 1.0])["loss"]
    assert loss.tolist() == [0.0, 1.0, 9.0]


def test_the_squared_error_of_huge_predictions_is_finite(run_head):
    # Their squares do not fit into float32.
    loss = run_head("mse", np.float32([[1e30]]), [[-1e30]])["loss"]
    assert loss[0] == pytest.approx(4e60, rel=1e-6)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_models_own_loss_is_its_output_for_each_sample(shape, opset, run_head):
    y = np.float32(np.random.default_rng(0).standard_normal(shape))
    loss = run_head("none", y, opset=opset)["loss"]
    np.testing.assert_allclose(loss, per_sample(y.astype(float)), rtol=1e-12)


def test_a_models_own_loss_may_be_one_number_for_a_batch(run_head):
    assert run_head("none", np.float32([7.0]), per_batch=True)["loss"].tolist() == [7.0]
