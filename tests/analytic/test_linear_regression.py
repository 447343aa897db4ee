"""A linear model with squared error: its loss is a quadratic polynomial, known exactly."""

from __future__ import annotations

import numpy as np
import pytest

import onnxscape as ox
from onnxscape.storage import load_directions


@pytest.fixture(scope="module")
def regression(dense_model):
    """Model, its float64 weights, and data that it does not fit exactly."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 2)).astype(np.float32).astype(np.float64)
    bias = random.normal(size=2).astype(np.float32).astype(np.float64)
    x = random.normal(size=(40, 6)).astype(np.float32)
    targets = (x @ weight + bias + random.normal(size=(40, 2))).astype(np.float32)
    return dense_model(weight, bias), weight, bias, x, targets


@pytest.fixture(scope="module")
def landscape(regression, tmp_path_factory):
    """The landscape, and the two directions as float64 arrays by tensor."""
    model, _, _, x, targets = regression
    folder = tmp_path_factory.mktemp("regression")
    result = ox.evaluate(
        model,
        (x, targets),
        loss="mse",
        samples="all",
        x="-1:1:7",
        y="-2:2:5",
        ignore="none",
        out=folder / "s.h5",
        save_directions=folder / "d.h5",
    )
    file = load_directions(folder / "d.h5")
    return result, *(
        {t.name: t.array.astype(np.float64) for t in direction}
        for direction in (file.x, file.y)
    )


def squared_errors(regression, weight, bias):
    """Mean squared error of each sample, in float64."""
    _, _, _, x, targets = regression
    return ((x.astype(np.float64) @ weight + bias - targets) ** 2).mean(axis=1)


def test_every_point_equals_the_closed_form(regression, landscape):
    result, delta, eta = landscape
    _, weight, bias, _, _ = regression
    for row, beta in enumerate(result.betas):
        for column, alpha in enumerate(result.alphas):
            moved = [
                theta + alpha * delta[name] + beta * eta[name]
                for name, theta in (("weight", weight), ("bias", bias))
            ]
            expected = squared_errors(regression, *moved).mean()
            assert result.loss[row, column] == pytest.approx(expected, rel=1e-5)


def test_the_surface_is_one_quadratic_polynomial(landscape):
    result, _, _ = landscape
    a, b = np.meshgrid(result.alphas, result.betas)
    terms = np.stack([a * a, a * b, b * b, a, b, np.ones_like(a)], axis=-1).reshape(-1, 6)
    solution, *_ = np.linalg.lstsq(terms, result.loss.ravel(), rcond=None)
    np.testing.assert_allclose(terms @ solution, result.loss.ravel(), rtol=1e-5)
    assert np.ptp(result.loss) > 1.0


def test_squared_error_has_no_accuracy(landscape):
    result, _, _ = landscape
    assert result.accuracy is None
    assert "accuracy" not in result.center


def test_far_steps_are_exact_too(regression):
    model, weight, _, x, targets = regression
    result = ox.evaluate(
        model, (x, targets), loss="mse", samples="all", x="-1e20:1e20:2", normalize="weight"
    )
    # Far out only the quadratic term is left, the same on both sides.
    assert result.loss[0] == pytest.approx(result.loss[1], rel=1e-6)
    assert 1e38 < result.loss[0] < np.inf
    assert result.center["loss"] == pytest.approx(
        squared_errors(regression, weight, regression[2]).mean(), rel=1e-5
    )
