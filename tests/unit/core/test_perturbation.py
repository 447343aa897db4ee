from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscape.core.perturbation import displaced

weights = st.floats(-1e3, 1e3, width=32)
steps = st.floats(-100, 100)


@given(theta=weights, delta=weights, eta=weights, alpha=steps, beta=steps)
def test_the_step_is_exact_to_the_last_bit_of_float32(theta, delta, eta, alpha, beta):
    arrays = [np.array([x], dtype=np.float32) for x in (theta, delta, eta)]
    moved = displaced(*arrays, alpha, beta)
    terms = [
        Fraction(theta),
        Fraction(alpha) * Fraction(delta),
        Fraction(beta) * Fraction(eta),
    ]
    exact = sum(terms)
    half_a_bit = float(np.spacing(np.abs(moved[0]))) / 2
    float64_error = float(sum(map(abs, terms))) * 2.0**-52
    assert moved.dtype == np.float32
    assert abs(Fraction(float(moved[0])) - exact) <= half_a_bit + float64_error


def test_steps_too_small_for_float32_still_count_together():
    # Each step alone is rounded away in float32; rounded once, their sum is not.
    one, tiny = np.float32([1.0]), np.float32([2.0**-24])
    assert one + tiny == one
    assert displaced(one, tiny, tiny, 1.0, 1.0)[0] == np.float32(1.0 + 2.0**-23)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_center_is_the_weights_to_the_bit(dtype):
    theta = np.array([0.1, -0.0, 5e-324, 3e38]).astype(dtype)
    moved = displaced(theta, np.ones(4, dtype), np.ones(4, dtype), 0.0, 0.0)
    assert moved.dtype == dtype
    assert moved.tobytes() == theta.tobytes()


def test_the_weights_themselves_never_move():
    theta = np.zeros(3)
    first = displaced(theta, np.ones(3), None, 1.0, 5.0)
    second = displaced(theta, np.ones(3), None, 1.0, 5.0)
    assert theta.tolist() == [0.0, 0.0, 0.0]
    assert first.tolist() == second.tolist() == [1.0, 1.0, 1.0]
    assert not np.shares_memory(theta, displaced(theta, None, None, 1.0, 1.0))


def test_alpha_belongs_to_delta_and_beta_to_eta():
    theta, delta, eta = (np.array([x]) for x in (100.0, 10.0, 1.0))
    assert displaced(theta, delta, eta, 2.0, 3.0).tolist() == [123.0]
    assert displaced(theta, delta, None, 2.0, 3.0).tolist() == [120.0]
    assert displaced(theta, None, eta, 2.0, 3.0).tolist() == [103.0]


def test_a_step_out_of_the_range_of_float32_is_infinite():
    theta, delta = np.float32([1.0, 1.0]), np.float32([1.0, -1.0])
    assert displaced(theta, delta, None, 1e39, 0.0).tolist() == [np.inf, -np.inf]


def test_a_scalar_stays_a_scalar():
    assert displaced(np.float32(1.0).reshape(()), np.ones(()), None, 1.0, 0.0).shape == ()
