from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.plots.numbers.plane import (
    cell_edges,
    center_value,
    display_values,
    drawable_values,
    plane_numbers,
    rectangles,
)


def test_a_value_stands_in_the_row_of_its_beta_and_the_column_of_its_alpha(slanted):
    numbers = plane_numbers(slanted, "loss", 100)
    for (i, beta), (j, alpha) in itertools.product(
        enumerate(numbers.betas), enumerate(numbers.alphas)
    ):
        assert numbers.values[i, j] == pytest.approx(10 + 2 * alpha + 0.5 * beta)


def test_fractions_are_shown_in_percent(slanted):
    np.testing.assert_allclose(
        display_values(slanted, "accuracy"), 100 * slanted.surfaces["accuracy"]
    )
    assert center_value(slanted, "accuracy").tolist() == [pytest.approx(91.2)]
    assert center_value(slanted, "loss").tolist() == [0.3]
    assert np.isnan(center_value(slanted, "top5")).all()


def test_the_landscape_itself_is_not_changed(make_landscape, plane_grid):
    loss = np.full(plane_grid.shape, np.inf)
    landscape = make_landscape(plane_grid, loss)
    assert np.isnan(display_values(landscape, "loss")).all()
    assert np.isinf(landscape.loss).all()


def test_points_are_counted_by_what_is_known(make_landscape, plane_grid):
    loss = np.ones(plane_grid.shape)
    loss[0, :3] = np.inf, np.nan, -np.inf
    evaluated = np.ones(plane_grid.shape, dtype=bool)
    evaluated[4, :2] = False
    numbers = plane_numbers(make_landscape(plane_grid, loss, evaluated=evaluated), "loss", 99)
    assert (numbers.points, numbers.missing, numbers.non_finite) == (35, 2, 3)
    assert np.argwhere(numbers.holes).tolist() == [[0, 0], [0, 1], [0, 2]]


def test_counts_are_those_of_all_points_when_some_are_left_out(make_landscape):
    grid = Grid(Axis(-1, 1, 60), Axis(-1, 1, 50))
    loss = np.ones(grid.shape)
    loss[::7] = np.nan
    numbers = plane_numbers(make_landscape(grid, loss), "loss", 10)
    assert numbers.values.shape == (10, 10)
    assert numbers.points == 3000
    assert numbers.non_finite == np.isnan(loss).sum()
    assert numbers.ends(cells=False) == (-1.0, 1.0, -1.0, 1.0)


def test_cells_are_centered_on_their_points():
    edges = cell_edges(np.array([0.0, 1.0, 2.0, 4.0]))
    assert edges.tolist() == [-0.5, 0.5, 1.5, 3.0, 5.0]
    even = cell_edges(np.linspace(-1, 1, 5))
    np.testing.assert_allclose((even[:-1] + even[1:]) / 2, np.linspace(-1, 1, 5))


def test_axes_end_at_the_points_or_at_the_borders_of_their_cells(slanted):
    numbers = plane_numbers(slanted, "loss", 100)
    assert numbers.ends(cells=False) == (-1.0, 1.0, -0.5, 1.5)
    assert numbers.ends(cells=True) == pytest.approx((-7 / 6, 7 / 6, -0.75, 1.75))


@pytest.mark.parametrize(
    ("x", "y", "shown"),
    [((-1, 1), (-1, 1), True), ((0, 1), (-1, 0), True), ((1, 3), (-1, 1), False)],
)
def test_the_center_is_shown_if_it_lies_within(make_landscape, x, y, shown):
    grid = Grid(Axis(*x, 4), Axis(*y, 3))
    assert plane_numbers(make_landscape(grid, 1.0), "loss", 100).shows_center == shown


def test_a_missing_cell_shows_the_nearest_value_and_a_hole_stays_a_hole(make_landscape):
    grid = Grid(Axis(0, 4, 5), Axis(0, 1, 2))
    loss = np.array([[1.0, 0, 0, 0, np.inf]] * 2)
    known = np.array([[True, False, False, False, True]] * 2)
    values, holes = plane_numbers(
        make_landscape(grid, loss, evaluated=known), "loss", 100
    ).cells()
    assert values[:, :2].tolist() == [[1.0, 1.0]] * 2
    assert holes[:, 3:].all()
    assert not holes[:, :2].any()
    assert np.isnan(values[holes]).all()


def test_heights_between_points_follow_the_scale(make_landscape):
    grid = Grid(Axis(0, 2, 3), Axis(0, 1, 2))
    known = np.array([[True, False, True]] * 2)
    landscape = make_landscape(grid, [[1.0, 0.0, 100.0]] * 2, evaluated=known)
    numbers = plane_numbers(landscape, "loss", 100)
    np.testing.assert_allclose(numbers.heights(log=False), [[1.0, 50.5, 100.0]] * 2)
    np.testing.assert_allclose(numbers.heights(log=True), [[1.0, 10.0, 100.0]] * 2)


def test_quadrangles_with_an_unknown_corner_are_told_by_reason(make_landscape):
    grid = Grid(Axis(0, 3, 4), Axis(0, 2, 3))
    loss = np.ones(grid.shape)
    loss[0, 0] = np.nan
    known = np.ones(grid.shape, dtype=bool)
    known[2, 3] = False
    numbers = plane_numbers(make_landscape(grid, loss, evaluated=known), "loss", 100)
    not_finite, unknown = numbers.quad_holes(numbers.heights(log=False))
    assert np.argwhere(not_finite).tolist() == [[0, 0]]
    assert np.argwhere(unknown).tolist() == [[1, 2]]


def test_rectangles_cover_the_marked_cells_and_no_others():
    mask = np.random.default_rng(3).random((6, 9)) < 0.5
    x, y = np.arange(10.0), np.arange(7.0) * 2
    boxes = rectangles(mask, x, y)
    covered = np.zeros(mask.shape, dtype=int)
    for left, bottom, right, top in boxes:
        covered[int(bottom) // 2 : int(top) // 2, int(left) : int(right)] += 1
    assert (covered == mask).all()
    assert len(boxes) < mask.sum()


def test_nothing_marked_needs_no_rectangle():
    assert rectangles(np.zeros((2, 3), dtype=bool), np.arange(4.0), np.arange(3.0)).size == 0


def test_values_beyond_all_reason_are_bounded():
    values = drawable_values(np.array([1e300, -1e300, 1e-300, 2.0, np.inf]), percent=False)
    np.testing.assert_array_equal(values, [1e40, -1e40, 0.0, 2.0, np.nan])


def test_interpolated_points_are_drawn_like_evaluated_ones(slanted, interpolated):
    evaluated = np.zeros(slanted.grid.shape, dtype=bool)
    evaluated[::2, ::3] = True
    numbers = plane_numbers(interpolated(slanted, evaluated), "loss", 100)
    assert numbers.missing == 0
    assert np.array_equal(numbers.values, slanted.loss)
