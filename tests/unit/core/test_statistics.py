from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxscape.core import statistics
from onnxscape.core.statistics import Over, exact_mean, exact_sum, standard_error, summarize

numbers = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40)


@given(values=numbers)
def test_the_sum_behind_the_mean_is_rounded_once(values):
    exact = float(sum(map(Fraction, values)))
    assert exact_mean(np.array(values)) == exact / len(values)


@pytest.fixture
def many(monkeypatch):
    """Lets sums of a few values be computed like those of many."""
    monkeypatch.setattr(statistics, "_FEW", 0)


@pytest.mark.usefixtures("many")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.floats(-1e300, 1e300) | st.floats(-1e-300, 1e-300), min_size=1, max_size=40
    )
)
def test_the_sum_of_many_values_is_rounded_once(values):
    assert exact_sum(np.array(values)) == math.fsum(values)


@pytest.mark.parametrize("scale", [1.0, 1e-310, 1e300])
@pytest.mark.parametrize("size", [500, 501, 10_000])
def test_many_losses_add_up_as_a_few_do(size, scale):
    losses = np.random.default_rng(size).exponential(size=size) ** 5 * scale
    assert exact_sum(losses) == math.fsum(losses.tolist())
    assert exact_sum(losses - losses[::-1]) == 0.0


@pytest.mark.parametrize("size", [501, 20_000])
@pytest.mark.parametrize("largest", [1, 2**40, 2**52, 2**60])
def test_whole_numbers_add_up_exactly_however_large(size, largest):
    numbers = np.random.default_rng(1).integers(-largest, largest + 1, size).astype(float)
    assert exact_sum(numbers) == math.fsum(numbers.tolist()) == float(sum(map(int, numbers)))


@pytest.mark.usefixtures("many")
def test_a_sum_that_leaves_float64_is_an_error_as_in_python():
    with pytest.raises(OverflowError):
        exact_sum(np.full(9, 1e308))
    assert exact_mean(np.full(9, 1e308)) == 1e308


@given(values=numbers, random=st.randoms())
def test_the_mean_is_the_same_for_any_order(values, random):
    shuffled = random.sample(values, len(values))
    assert exact_mean(np.array(shuffled)) == exact_mean(np.array(values))


def test_small_losses_beside_a_large_one_are_not_lost():
    # A running float64 sum of these is 1e16: each 1 is rounded away.
    assert exact_mean(np.array([1e16, *[1.0] * 7])) == (1e16 + 8.0 - 1.0) / 8


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9)
)
def test_the_mean_of_finite_losses_is_finite(values):
    exact = sum(map(Fraction, values)) / len(values)
    assert exact_mean(np.array(values)) == pytest.approx(float(exact), rel=1e-15, abs=5e-324)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, math.inf], math.inf),
        ([1.0, -math.inf, 2.0], -math.inf),
        ([1.0, math.nan], math.nan),
        ([math.inf, -math.inf], math.nan),
        ([math.inf, math.nan], math.nan),
        ([1e308, 1e308, math.nan], math.nan),
        ([1e308, 1e308, math.inf], math.inf),
    ],
)
def test_a_loss_that_is_not_finite_makes_the_mean_not_finite(values, expected):
    assert exact_mean(np.array(values)) == pytest.approx(expected, nan_ok=True)


losses_of_some = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-1e6, 1e6), min_size=n, max_size=n), st.integers(n, 1000)
    )
)


@given(case=losses_of_some)
def test_the_standard_error_is_the_closed_formula(case):
    losses, population = case
    n = len(losses)
    s = np.std(losses, ddof=1)
    expected = s / math.sqrt(n) * math.sqrt(1 - n / population)
    assert standard_error(np.array(losses), population) == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("n", [2, 3, 5, 6])
def test_the_standard_error_is_what_subsets_really_err_by(n):
    # All subsets of a small population: the estimate is right on average (it is unbiased).
    population = np.array([0.3, 2.5, 0.1, 7.0, 1.1, 0.9, 3.3])
    subsets = [np.array(s) for s in itertools.combinations(population, n)]
    errors = [exact_mean(s) - exact_mean(population) for s in subsets]
    estimates = [standard_error(s, len(population)) for s in subsets]
    assert np.mean(np.square(estimates)) == pytest.approx(np.mean(np.square(errors)))


def test_all_samples_leave_no_error():
    assert standard_error(np.array([1.0, 5.0, 2.0]), 3) == 0.0


@pytest.mark.parametrize("losses", [[1.0], [1.0, math.nan], [1.0, math.inf], [-math.inf, 0.0]])
def test_too_few_or_not_finite_losses_have_no_known_error(losses):
    assert math.isnan(standard_error(np.array(losses), 10))


def test_the_standard_error_of_huge_losses_is_finite():
    # Their squares are not: the closed formula in integers of 1e300.
    expected = 1e300 * math.sqrt(((1 - 3) ** 2 + (5 - 3) ** 2) / 1 / 2 * (1 - 2 / 8))
    assert standard_error(np.array([1e300, 5e300]), 8) == pytest.approx(expected, rel=1e-12)


def test_equal_losses_have_no_error():
    assert standard_error(np.full(7, 0.1), 100) == 0.0
    assert standard_error(np.zeros(7), 100) == 0.0


def test_accuracy_is_the_fraction_of_hits():
    losses, hits = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 0.0, 1.0, 1.0])
    results = {"loss": (losses, Over.SAMPLES), "accuracy": (hits, Over.SAMPLES)}
    metrics = summarize(results, 4)
    assert metrics == {"loss": pytest.approx(0.25), "loss_stderr": 0.0, "accuracy": 0.75}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_leaves_other_results_alone(bad):
    hits = np.array([1.0, 0.0, 0.0, 0.0])
    losses = np.array([0.1, bad, 0.3, bad])
    results = {"loss": (losses, Over.SAMPLES), "accuracy": (hits, Over.SAMPLES)}
    metrics = summarize(results, 8)
    assert metrics["accuracy"] == 0.25
    assert not math.isfinite(metrics["loss"])
    assert math.isnan(metrics["loss_stderr"])


def ratio(losses, weights, counted, population):
    """The ratio of two totals and its linearized error, by the definitions."""
    y, x = weights * losses, weights * counted
    mean = y.sum() / x.sum()
    spread = ((y - mean * x) ** 2).sum() / (len(y) - 1)
    error = np.sqrt(spread / len(y) * (1 - len(y) / population)) / x.mean()
    return mean, error


def test_the_mean_is_over_all_positions_that_count_and_samples_are_its_units():
    random = np.random.default_rng(0)
    losses, weights = random.gamma(2.0, size=(2, 30))
    counted = random.integers(0, 6, 30).astype(float)
    losses *= counted
    metrics = summarize(
        {"loss": (losses, Over.POSITIONS)}, 100, weights=weights, counted=counted
    )
    mean, error = ratio(losses, weights, counted, 100)
    assert metrics["loss"] == pytest.approx(mean, rel=1e-14)
    assert metrics["loss_stderr"] == pytest.approx(error, rel=1e-12)


def test_results_per_sample_do_not_know_of_positions():
    values, weights = np.array([1.0, 5.0]), np.array([3.0, 1.0])
    results = {"loss": (values, Over.POSITIONS), "own": (values, Over.SAMPLES)}
    metrics = summarize(results, 2, weights=weights, counted=np.array([1.0, 4.0]))
    assert metrics["own"] == 2.0
    assert metrics["loss"] == pytest.approx(8 / 7)


def test_totals_are_counts():
    results = {
        "loss": (np.array([1.0, 2.0]), Over.SAMPLES),
        "clamped": (np.array([1.0, 1.0]), Over.TOTAL),
    }
    assert summarize(results, 2, weights=np.array([0.5, 0.5]))["clamped"] == 2.0


@given(losses=arrays(np.float64, 7, elements=st.floats(-1e308, 1e308)))
def test_weights_of_one_change_no_bit(losses):
    results, ones = {"loss": (losses, Over.POSITIONS)}, np.ones(7)
    assert summarize(results, 9) == summarize(results, 9, weights=ones, counted=ones)


def test_a_sample_of_weight_zero_does_not_count_whatever_its_loss():
    losses = np.array([1.0, math.inf, 3.0, math.nan])
    metrics = summarize(
        {"loss": (losses, Over.SAMPLES)}, 4, weights=np.array([1.0, 0.0, 1.0, 0.0])
    )
    assert metrics["loss"] == 2.0
    assert math.isfinite(metrics["loss_stderr"])
