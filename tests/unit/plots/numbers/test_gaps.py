from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.plots.numbers.gaps import interpolate_gaps, nearest_evaluated, thin


def evaluated_after(grid, points):
    known = np.zeros(grid.shape, dtype=bool)
    for point in itertools.islice(grid.points(), points):
        known[grid.index(point)] = True
    return known


def distances(grid, flat):
    """Distance [n_beta, n_alpha, k] of each point to points given by flat index [.., k]."""
    x, y = np.meshgrid(grid.alphas, grid.betas)
    return np.hypot(x.ravel()[flat] - x[..., np.newaxis], y.ravel()[flat] - y[..., np.newaxis])


@pytest.mark.parametrize("points", [1, 5, 9, 60, 123, 399])
def test_the_nearest_point_is_found_as_by_trying_all(points):
    grid = Grid(Axis(-1, 1, 25), Axis(-0.5, 1.5, 16))
    known = evaluated_after(grid, points)
    found = nearest_evaluated(known, grid.alphas, grid.betas)
    assert known.ravel()[found].all()
    best = distances(grid, np.flatnonzero(known)).min(axis=2)
    np.testing.assert_allclose(distances(grid, found[..., np.newaxis])[..., 0], best)


def test_scattered_points_get_one_that_is_nearly_the_nearest():
    grid = Grid(Axis(-1, 1, 40), Axis(-1, 1, 33))
    known = np.random.default_rng(0).random(grid.shape) < 0.02
    found = nearest_evaluated(known, grid.alphas, grid.betas)
    best = distances(grid, np.flatnonzero(known)).min(axis=2)
    mine = distances(grid, found[..., np.newaxis])[..., 0]
    assert (mine <= best * 1.1 + 1e-12).all()
    assert np.isclose(mine, best).mean() > 0.98


def test_an_evaluated_point_is_its_own_nearest():
    grid = Grid(Axis(-1, 1, 9), Axis(-1, 1, 4))
    found = nearest_evaluated(np.ones(grid.shape, dtype=bool), grid.alphas, grid.betas)
    assert (found.ravel() == np.arange(36)).all()


def test_without_an_evaluated_point_there_is_no_nearest():
    grid = Grid(Axis(-1, 1, 3), Axis(-1, 1, 4))
    known = np.zeros(grid.shape, dtype=bool)
    assert (nearest_evaluated(known, grid.alphas, grid.betas) == -1).all()


def test_gaps_of_a_coarse_grid_are_filled_bilinearly():
    grid = Grid(Axis(-1, 1, 17), Axis(0, 3, 9))
    x, y = np.meshgrid(grid.alphas, grid.betas)
    truth = 2.0 + 3.0 * x - y + 0.5 * x * y
    known = np.zeros(grid.shape, dtype=bool)
    known[::4, ::4] = True
    known[2, :5] = True  # part of the next round
    filled = interpolate_gaps(np.where(known, truth, np.nan), known, grid.alphas, grid.betas)
    np.testing.assert_allclose(filled, truth)


def test_evaluated_values_are_kept_and_nothing_is_extrapolated():
    grid = Grid(Axis(0, 4, 5), Axis(0, 4, 5))
    known = np.zeros(grid.shape, dtype=bool)
    known[1, 1] = known[1, 3] = known[3, 1] = known[3, 3] = True
    values = np.where(known, 7.0, np.nan)
    filled = interpolate_gaps(values, known, grid.alphas, grid.betas)
    assert np.isnan(filled[[0, 4]]).all()
    assert np.isnan(filled[:, [0, 4]]).all()
    assert (filled[1:4, 1:4] == 7.0).all()


def test_nothing_is_made_up_beside_a_value_that_is_not_finite():
    grid = Grid(Axis(0, 4, 5), Axis(0, 1, 2))
    known = np.array([[True, False, True, False, True]] * 2)
    values = np.array([[1.0, np.nan, np.nan, np.nan, 5.0], [1.0, np.nan, 2.0, np.nan, 3.0]])
    filled = interpolate_gaps(values, known, grid.alphas, grid.betas)
    np.testing.assert_array_equal(filled[0], values[0])
    np.testing.assert_array_equal(filled[1], [1.0, 1.5, 2.0, 2.5, 3.0])


def test_few_positions_are_not_thinned():
    assert thin(np.ones((5, 3), dtype=bool), 5).tolist() == [0, 1, 2, 3, 4]


def test_thinning_keeps_both_ends_and_spreads_evenly():
    kept = thin(np.ones((1000, 2), dtype=bool), 100)
    assert kept.size == 100
    assert (kept[0], kept[-1]) == (0, 999)
    assert set(np.diff(kept)) <= {9, 10, 11, 19}


def test_thinning_prefers_what_was_evaluated():
    known = np.zeros((90, 4), dtype=bool)
    known[4::9] = True
    kept = thin(known, 10)
    assert kept.tolist() == [0, 13, 22, 31, 40, 49, 58, 67, 76, 89]
