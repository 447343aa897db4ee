from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.plots.numbers.line import axis_ends, line_numbers
from onnxscape.plots.numbers.scale import Scale


def test_a_line_along_delta_has_its_loss_and_its_accuracy_in_percent(line):
    numbers = line_numbers(line, "loss")
    assert numbers.axis == "x"
    assert (numbers.start, numbers.stop) == (-1.0, 1.0)
    np.testing.assert_array_equal(numbers.main.values, line.loss)
    np.testing.assert_array_equal(numbers.main.steps, line.alphas)
    np.testing.assert_allclose(numbers.second.values, 100 * line.accuracy)
    assert numbers.second.percent
    assert numbers.main.center == 0.3
    assert numbers.second.center == pytest.approx(91.2)


def test_a_line_along_eta_has_betas(make_landscape):
    grid = Grid(None, Axis(-2, 3, 6))
    numbers = line_numbers(make_landscape(grid, np.arange(6.0)), "loss")
    assert numbers.axis == "y"
    assert numbers.main.steps.tolist() == [-2, -1, 0, 1, 2, 3]
    assert numbers.second is None


def test_another_metric_stands_alone(line):
    numbers = line_numbers(line, "accuracy")
    assert numbers.second is None
    assert numbers.main.error is None
    np.testing.assert_allclose(numbers.main.values, 100 * line.accuracy)


@pytest.mark.parametrize(
    ("data", "label", "dashed"),
    [
        ("cifar10 test", "test loss", True),
        ("cifar10 train", "train loss", False),
        ("my data.npz", "loss", False),
        ("latest", "loss", False),
    ],
)
def test_test_data_is_dashed_and_named(make_landscape, data, label, dashed):
    landscape = make_landscape(Grid(Axis(-1, 1, 3), None), 1.0, data=data)
    curve = line_numbers(landscape, "loss").main
    assert (curve.label, curve.dashed) == (label, dashed)


def test_points_not_evaluated_are_skipped_and_holes_break_the_curve(make_landscape):
    loss = np.array([1.0, 2.0, np.inf, np.nan, 5.0, 6.0])
    known = np.array([True, False, True, True, True, True])
    grid = Grid(Axis(0, 5, 6), None)
    numbers = line_numbers(make_landscape(grid, loss, evaluated=known), "loss")
    assert numbers.main.steps.tolist() == [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(numbers.main.values, [1.0, np.nan, np.nan, 5.0, 6.0])
    assert numbers.non_finite == 2
    assert numbers.holes.tolist() == [[1.5, 3.5]]


def test_holes_end_where_the_line_ends(make_landscape):
    grid = Grid(Axis(0, 2, 3), None)
    numbers = line_numbers(make_landscape(grid, [np.nan, 1.0, np.inf]), "loss")
    assert numbers.holes.tolist() == [[0.0, 0.5], [1.5, 2.0]]


def test_the_band_is_one_standard_error_wide_and_ends_at_the_axis(line):
    lower, upper = line_numbers(line, "loss").main.band(1.0)
    np.testing.assert_allclose(upper, line.loss + 0.1)
    np.testing.assert_allclose(lower, np.maximum(line.loss - 0.1, 1.0))


@pytest.mark.parametrize("stderr", [0.0, np.nan, None])
def test_an_error_of_zero_or_unknown_makes_no_band(make_landscape, stderr):
    landscape = make_landscape(Grid(Axis(-1, 1, 3), None), 1.0, stderr=stderr)
    assert line_numbers(landscape, "loss").main.error is None


def test_a_linear_axis_has_room_for_the_bands(line):
    curve = line_numbers(line, "loss").main
    low, high = axis_ends(Scale(log=False, low=0.9375, high=2.5), [curve])
    assert low < (line.loss - 0.1).min()
    assert high > 2.6


def test_a_logarithmic_axis_stays_above_zero(line):
    curve = line_numbers(line, "loss").main
    low, high = axis_ends(Scale(log=True, low=0.05, high=2.5), [curve])
    assert 0.0 < low < 0.05
    assert high > 2.5


def test_an_axis_that_cuts_values_ends_exactly_there(line):
    curve = line_numbers(line, "loss").main
    for log in (False, True):
        scale = Scale(log=log, low=1.5, high=2.0, below=True, above=True)
        assert axis_ends(scale, [curve]) == (1.5, 2.0)


def test_a_very_long_line_is_thinned(make_landscape):
    grid = Grid(Axis(-1, 1, 100_000), None)
    curve = line_numbers(make_landscape(grid, grid.alphas**2), "loss").main
    assert curve.steps.size == 20_000
    np.testing.assert_allclose(curve.values, curve.steps**2)
    assert not curve.marked


def test_interpolated_points_are_part_of_the_curve(line, interpolated):
    evaluated = np.arange(11) % 5 == 0
    numbers = line_numbers(interpolated(line, evaluated), "loss")
    assert np.array_equal(numbers.main.steps, line.alphas)
    assert np.array_equal(numbers.main.values, line.loss)
