from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscape.errors import UsageError
from onnxscape.plots.numbers.scale import (
    Scale,
    choose_levels,
    choose_scale,
    format_value,
    format_values,
    reference_levels_fit,
    ticks,
)


def scale_of(*values, **options):
    return choose_scale(np.array(values), **options)


def test_values_more_than_fifty_times_apart_ask_for_a_logarithm():
    assert scale_of(0.2, 11.0).log
    assert not scale_of(0.3, 11.0).log


def test_a_linear_scale_is_kept_where_the_reference_levels_fit():
    assert not scale_of(0.001, 9.0).log
    assert scale_of(0.001, 0.9).log  # too few of those levels


def test_the_ends_are_the_smallest_and_largest_finite_value():
    scale = scale_of(3.0, np.nan, 7.0, np.inf, -np.inf)
    assert (scale.low, scale.high) == (3.0, 7.0)
    assert not (scale.below)
    assert not (scale.above)
    assert not (scale.flat)


def test_a_negative_value_forbids_the_logarithm():
    assert not scale_of(-0.1, 1.0, 5.0).log
    with pytest.raises(UsageError, match=r"positive values, but 1 of 3 .*-0\.1.*linear"):
        scale_of(-0.1, 1.0, 5.0, wanted="log")


def test_zero_forbids_the_logarithm():
    with pytest.raises(UsageError, match="1 of 2"):
        scale_of(0.0, 1.0, wanted="log")


def test_percentages_are_linear_unless_the_user_says_otherwise():
    assert not scale_of(0.1, 99.0, percent=True).log
    assert scale_of(0.1, 99.0, percent=True, wanted="log").log


def test_the_user_decides_against_the_ratio():
    assert scale_of(1.0, 2.0, wanted="log").log
    assert not scale_of(1.0, 1e7, wanted="linear").log


def test_where_no_logarithm_is_possible_the_scale_ends_below_an_explosion():
    values = np.concatenate([np.linspace(-1.0, 1.0, 60), np.geomspace(10.0, 1e7, 40)])
    scale = choose_scale(values)
    assert not scale.log
    assert scale.above
    assert not scale.below
    assert np.median(values) < scale.high < 20.0


def test_a_linear_scale_that_the_user_wants_is_not_cut():
    values = np.concatenate([np.linspace(-1.0, 1.0, 60), np.geomspace(10.0, 1e7, 40)])
    scale = choose_scale(values, wanted="linear")
    assert scale.high == 1e7
    assert not scale.above


def test_the_users_ends_cut_values_off():
    scale = scale_of(1.0, 2.0, 9.0, vmin=1.5, vmax=4.0)
    assert (scale.low, scale.high, scale.below, scale.above) == (1.5, 4.0, True, True)


def test_the_users_ends_decide_on_the_logarithm():
    assert scale_of(0.3, 1e7).log
    assert not scale_of(0.3, 1e7, vmax=10.0).log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vmin": 3.0, "vmax": 2.0}, "vmin must be below vmax, got 3 and 2"),
        ({"vmin": 8.0}, r"got 8 and 7; the values run from 1 to 7"),
        ({"vmax": math.nan}, "vmax must be a number"),
        ({"vmin": -math.inf}, "vmin must be a number"),
        ({"wanted": "log", "vmin": 0.0}, "a log scale needs a positive vmin, got 0"),
        ({"wanted": "logarithmic"}, "auto, linear, log, got 'logarithmic'"),
    ],
)
def test_ends_and_scales_that_mean_nothing_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        scale_of(1.0, 7.0, **options)


@pytest.mark.parametrize("value", [0.6931, 0.0, -3.0, 1e7])
def test_a_constant_lies_in_the_middle_of_its_scale(value):
    scale = scale_of(value, value, np.nan)
    assert scale.flat
    assert math.isclose((scale.low + scale.high) / 2, value, abs_tol=1e-12)
    assert scale.low < scale.high


def test_values_that_differ_only_by_rounding_are_a_constant():
    assert scale_of(1.0, 1.0 + 1e-12).flat
    assert not scale_of(1.0, 1.0 + 1e-6).flat


def test_without_a_finite_value_there_is_still_a_scale():
    scale = scale_of(np.nan, np.inf)
    assert scale.flat
    assert scale.low < scale.high


def test_the_reference_levels_are_used_where_they_fit():
    levels = choose_levels(Scale(log=False, low=0.3, high=8.0))
    np.testing.assert_allclose(levels, np.arange(0.1, 10, 0.5)[1:16])


def test_the_reference_levels_do_not_fit_a_narrow_or_a_wide_range():
    assert reference_levels_fit(0.08, 9.9)
    assert not reference_levels_fit(0.30, 0.35)
    assert not reference_levels_fit(0.08, 14.3)
    assert not reference_levels_fit(-0.5, 8.0)


def test_levels_over_many_decades_are_powers_of_ten():
    levels = choose_levels(Scale(log=True, low=0.3, high=2e7))
    np.testing.assert_allclose(levels, 10.0 ** np.arange(8))


def test_levels_over_a_few_decades_are_one_two_five():
    levels = choose_levels(Scale(log=True, low=0.08, high=104.0))
    np.testing.assert_allclose(levels, [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])


def test_a_narrow_logarithmic_scale_gets_evenly_spaced_levels():
    levels = choose_levels(Scale(log=True, low=1.01, high=1.09))
    assert levels.size >= 5
    np.testing.assert_allclose(np.diff(levels), np.diff(levels)[0])


def test_a_constant_has_no_levels():
    assert choose_levels(Scale(log=False, low=0.6, high=0.7, flat=True)).size == 0
    assert choose_levels(Scale(log=False, low=0.6, high=0.7, flat=True), [0.65]).size == 0


def test_given_levels_outside_the_values_are_left_out():
    levels = choose_levels(Scale(log=False, low=1.0, high=4.0), [0.5, 1.0, 2.0, 3.5, 9.0])
    assert levels.tolist() == [2.0, 3.5]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (0, "from 1 to 200, got 0"),
        (201, "from 1 to 200, got 201"),
        ([], "from 1 to 200 levels, got 0"),
        ([1.0, 1.0], "increasing, got 1, 1"),
        ([2.0, 1.0], "increasing, got 2, 1"),
        ([1.0, math.nan], "finite and increasing"),
    ],
)
def test_levels_that_mean_nothing_are_refused(wanted, message):
    with pytest.raises(UsageError, match=message):
        choose_levels(Scale(log=False, low=0.0, high=5.0), wanted)


@given(
    low=st.floats(1e-6, 1e6),
    ratio=st.floats(1.001, 1e12),
    log=st.booleans(),
    about=st.integers(1, 40),
)
def test_levels_increase_within_the_scale(low, ratio, log, about):
    scale = Scale(log=log, low=low, high=low * ratio)
    for levels in (choose_levels(scale), choose_levels(scale, about)):
        assert (np.diff(levels) > 0).all()
        assert ((levels > scale.low) & (levels < scale.high)).all()
    assert choose_levels(scale, about).size <= 2 * about + 1
    assert choose_levels(scale).size >= 4


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
def test_ticks_are_told_apart_by_their_labels(low, width):
    positions, texts = ticks(Scale(log=False, low=low, high=low + width))
    assert len(set(texts)) == len(texts) == positions.size >= 2
    assert positions[0] >= low - 1e-6 * width
    assert positions[-1] <= low + width * (1 + 1e-6)


def test_ticks_may_stand_on_the_ends():
    positions, texts = ticks(Scale(log=False, low=-1.0, high=1.0), 5)
    assert positions.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert texts == ["−1", "−0.5", "0", "0.5", "1"]
    positions, texts = ticks(Scale(log=True, low=1.0, high=1e6), 7)
    assert texts == ["1", "10", "100", "1000", "$10^{4}$", "$10^{5}$", "$10^{6}$"]


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0.0, 0.1, "0"),
        (0.1, 0.5, "0.1"),
        (0.30000000000000004, 0.1, "0.3"),
        (-2.5, 0.5, "−2.5"),
        (1200.0, 200.0, "1200"),
        (0.0015, 0.0005, "0.0015"),
        (1e4, 1e4, "$10^{4}$"),
        (2e5, 1e5, r"$2{\times}10^{5}$"),
        (12345.0, 5.0, "12345"),
        (123456.0, 1000.0, r"$1.235{\times}10^{5}$"),
        (100000.25, 0.05, "100000.25"),
        (-2e-5, 1e-5, r"$-2{\times}10^{-5}$"),
        (1e-17, 0.5, "0"),
        (0.69314718, 0.0, "0.6931"),
    ],
)
def test_values_are_written_with_as_many_digits_as_needed(value, step, text):
    assert format_value(value, step) == text


def test_neighbours_are_written_apart():
    assert format_values(np.array([1.0, 1.25, 1.5, 100.0])) == ["1", "1.25", "1.5", "100"]
