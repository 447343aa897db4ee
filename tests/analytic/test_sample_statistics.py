"""Standard errors and values that are not finite, recomputed sample by sample."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import onnxscape as ox
from onnxscape.data.subset import subset_indices

POPULATION = 50


@pytest.fixture(scope="module")
def classifier(dense_model):
    """Softmax regression with its float64 weights and data."""
    random = np.random.default_rng(2)
    weight = random.normal(size=(5, 3)).astype(np.float32)
    x = random.normal(size=(POPULATION, 5)).astype(np.float32)
    return dense_model(weight, np.zeros(3)), weight, x, random.integers(0, 3, POPULATION)


def cross_entropies(weight, x, y):
    logits = x.astype(np.float64) @ weight.astype(np.float64)
    log_sum = np.log(np.exp(logits).sum(axis=1))
    return log_sum - logits[np.arange(len(y)), y]


@pytest.mark.parametrize("samples", [2, 20, 49])
def test_the_standard_error_is_that_of_a_subset_without_replacement(classifier, samples):
    model, weight, x, y = classifier
    landscape = ox.evaluate(model, (x, y), samples=samples, grid="3x3")
    chosen = subset_indices(landscape.spec.data, POPULATION, samples)
    losses = cross_entropies(weight, x[chosen], y[chosen])
    assert landscape.center["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    expected = losses.std(ddof=1) / np.sqrt(samples) * np.sqrt(1 - samples / POPULATION)
    assert landscape.center["loss_stderr"] == pytest.approx(expected, rel=1e-5)
    assert landscape.loss_stderr[1, 1] == landscape.center["loss_stderr"]


def test_all_samples_leave_no_error(classifier):
    model, _, x, y = classifier
    landscape = ox.evaluate(model, (x, y), samples="all", grid="3x3")
    assert (landscape.loss_stderr == 0.0).all()
    assert (landscape.loss > 0).all()


def test_one_sample_tells_nothing_of_its_error(classifier):
    model, _, x, y = classifier
    landscape = ox.evaluate(model, (x, y), samples=1, grid="3x3")
    assert np.isnan(landscape.loss_stderr).all()
    assert np.isfinite(landscape.loss).all()


def test_losses_that_overflow_are_kept_as_data(classifier, tmp_path):
    model, _, x, y = classifier
    out = tmp_path / "s.h5"
    landscape = ox.evaluate(model, (x, y), samples="all", grid="3x3", radius=1e39, out=out)
    corners = np.ix_([0, 2], [0, 2])
    assert not np.isfinite(landscape.loss[corners]).any()
    assert (landscape.accuracy[corners] == 0.0).all()
    assert np.isnan(landscape.loss_stderr[corners]).all()
    assert np.isfinite(landscape.loss[1, 1])
    assert landscape.evaluated.all()
    assert landscape.complete
    with h5py.File(out) as file:
        assert np.array_equal(file["loss"][:], landscape.loss, equal_nan=True)
        assert (file["evaluated"][:] == 1).all()
        assert file.attrs["complete"]


def test_a_loss_that_is_infinite_stays_infinite(dense_model, tmp_path):
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        file["xdirection/0"] = np.ones((2, 1))
        file["xdirection/0"].attrs["name"] = "weight"
    data = np.ones((4, 2), dtype=np.float32), np.zeros((4, 1), dtype=np.float32)
    model = dense_model([[1.0], [1.0]], [0.0])
    landscape = ox.evaluate(model, data, loss="mse", x="-1e39:1e39:3", directions=path)
    assert landscape.loss.tolist() == [np.inf, pytest.approx(4.0), np.inf]
    assert landscape.evaluated.all()


def test_a_large_finite_logit_gives_a_large_finite_loss(dense_model):
    # -log softmax of (0, 1e4) at class 0 is 1e4: a float32 softmax would say infinity.
    data = np.array([[1e4]], dtype=np.float32), np.array([0])
    landscape = ox.evaluate(dense_model([[0.0, 1.0]], [0.0, 0.0]), data, grid=2, radius=0.5)
    assert landscape.center["loss"] == pytest.approx(1e4, rel=1e-12)
    assert landscape.center["accuracy"] == 0.0
