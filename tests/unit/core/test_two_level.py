from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.interpolation import LINEAR
from onnxscape.core.two_level import TwoLevels

GRIDS = [
    Grid(Axis(-1.0, 1.5, 33), Axis(-2.0, 1.0, 20)),
    Grid(Axis(-1.0, 1.0, 51), Axis(-1.0, 1.0, 51)),
    Grid(Axis(-1.0, 2.0, 65), None),
    Grid(None, Axis(-1.0, 1.0, 40)),
]


def steps(levels):
    return np.meshgrid(levels.nested.alphas, levels.nested.betas)


def cubic(a, b):
    return (1 + a - 2 * a**2 + a**3) * (3 - b + b**2 / 2 - b**3)


def rough(a, b):
    """Something that no coarse grid tells."""
    return 2.5 + np.sin(40 * a + 1) * np.cos(37 * b)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_difference_that_is_a_cubic_is_corrected_exactly(grid):
    levels = TwoLevels.of(grid)
    few, difference = rough(*steps(levels)), cubic(*steps(levels))
    seen = np.where(levels.coarse, few + difference, np.nan)
    np.testing.assert_allclose(levels.corrected(seen, few), few + difference, atol=1e-11)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_ratio_that_is_the_exponential_of_a_cubic_is_corrected_exactly(grid):
    levels = TwoLevels.of(grid)
    few, difference = rough(*steps(levels)), cubic(*steps(levels)) / 10
    truth = few * np.exp(difference)
    seen = np.where(levels.coarse, truth, np.nan)
    np.testing.assert_allclose(levels.corrected(seen, few, log=True), truth, rtol=1e-11)


def test_a_difference_that_is_a_plane_is_corrected_exactly_by_lines():
    levels = TwoLevels.of(GRIDS[0])
    a, b = steps(levels)
    few, difference = rough(a, b), 1 - a + 2 * b + a * b
    found = levels.corrected(few + difference, few, LINEAR)
    np.testing.assert_allclose(found, few + difference, atol=1e-12)


def test_the_way_that_tells_the_coarse_grid_better_is_taken():
    levels = TwoLevels.of(GRIDS[1])
    a, b = steps(levels)
    few, difference = 5 + np.sin(9 * a) * np.cos(7 * b), 3 + a + a**3 - b**2
    assert not levels.takes_logarithms(few + difference, few)
    assert levels.takes_logarithms(few * np.exp(difference / 3), few)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_losses_that_are_not_positive_have_no_logarithm(value):
    levels = TwoLevels.of(GRIDS[1])
    a, b = steps(levels)
    few = 5 + np.sin(9 * a) * np.cos(7 * b)
    on_all = few * np.exp((3 + a + a**3 - b**2) / 3)
    on_all[0, 0] = value
    assert not levels.takes_logarithms(on_all, few)
    few[1, 1] = value
    on_all[0, 0] = 1.0
    assert not levels.takes_logarithms(on_all, few)


@pytest.mark.parametrize(("grid", "coarse"), list(zip(GRIDS, [81, 81, 9, 9], strict=True)))
def test_a_coarse_grid_the_center_and_random_points_take_all_samples(grid, coarse):
    levels = TwoLevels.of(grid)
    assert levels.coarse.sum() == coarse
    assert levels.held_out.sum() == max(20, -(-(grid.size - levels.coarse.sum()) // 50))
    assert not (levels.held_out & levels.coarse).any()
    center = grid.center()
    apart = center.row >= 0 and not levels.coarse[center.row, center.column]
    assert levels.whole.sum() == coarse + levels.held_out.sum() + apart
    if center.row >= 0:
        assert levels.whole[center.row, center.column]
    assert np.array_equal(TwoLevels.of(grid).held_out, levels.held_out)


def test_a_small_grid_takes_all_samples_everywhere():
    levels = TwoLevels.of(Grid.parse("5x4"))
    assert levels.whole.all()
    values = np.arange(20.0).reshape(4, 5)
    assert np.array_equal(levels.corrected(values, values), values)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_corrected_through_a_loss_that_is_not_finite(value):
    levels = TwoLevels.of(GRIDS[1])
    losses = np.ones(levels.nested.shape)
    assert not levels.beyond_correction(losses).any()
    losses[0, 0] = value
    beyond = levels.beyond_correction(losses)
    assert beyond[:6, :6].all()
    assert not beyond[26:, :].any()
    assert np.array_equal(beyond, ~np.isfinite(levels.corrected(losses, np.ones_like(losses))))
