from __future__ import annotations

import math

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.plots.numbers.plane import plane_numbers
from onnxscape.plots.numbers.relief import (
    center_height,
    height_label,
    height_scale,
    relief,
)
from onnxscape.plots.numbers.scale import Scale, choose_scale


def test_every_corner_of_every_facet_lies_on_the_surface(slanted):
    numbers = plane_numbers(slanted, "loss", 100)
    facets = relief(numbers, choose_scale(numbers.values))
    assert facets.corners.shape == (24, 4, 3)
    alpha, beta, height = np.moveaxis(facets.corners, -1, 0)
    np.testing.assert_allclose(height, 10 + 2 * alpha + 0.5 * beta)
    assert np.unique(alpha).size == 7
    assert np.unique(beta).size == 5


def test_heights_of_a_logarithmic_scale_are_logarithms(make_landscape, plane_grid):
    loss = 10.0 ** (3 * plane_grid.alphas)
    numbers = plane_numbers(make_landscape(plane_grid, loss), "loss", 100)
    scale = choose_scale(numbers.values)
    assert scale.log
    alpha, _, height = np.moveaxis(relief(numbers, scale).corners, -1, 0)
    np.testing.assert_allclose(height, 3 * alpha, atol=1e-12)
    ends = height_scale(scale)
    assert (ends.low, ends.high) == pytest.approx((-3.0, 3.0))


def test_heights_end_where_the_scale_ends(slanted):
    numbers = plane_numbers(slanted, "loss", 100)
    facets = relief(numbers, Scale(log=False, low=9.0, high=11.0))
    assert facets.corners[..., 2].min() == 9.0
    assert facets.corners[..., 2].max() == 11.0
    assert (facets.tones >= 0).all()
    assert (facets.tones <= 1).all()


def test_a_hole_removes_the_facets_around_it(make_landscape):
    grid = Grid(Axis(-1, 1, 5), Axis(-1, 1, 5))
    loss = np.ones(grid.shape)
    loss[2, 2] = np.inf
    numbers = plane_numbers(make_landscape(grid, loss), "loss", 100)
    facets = relief(numbers, choose_scale(numbers.values))
    assert len(facets.corners) == 16 - 4
    assert math.isnan(center_height(numbers, choose_scale(numbers.values)))


def test_a_slope_towards_the_light_is_brighter(make_landscape):
    grid = Grid(Axis(-1, 1, 3), Axis(-1, 1, 3))
    up, down = (
        plane_numbers(make_landscape(grid, s * grid.alphas), "loss", 9) for s in (1, -1)
    )
    scale = Scale(log=False, low=-1.0, high=1.0)
    lit, dark = relief(up, scale).brightness, relief(down, scale).brightness
    assert (lit > dark).all()
    assert lit.max() <= 1.0
    assert dark.min() >= 0.7


def test_the_center_lies_on_the_surface_on_the_grid_or_between_points(make_landscape):
    for n_alpha, n_beta in ((5, 5), (4, 4), (5, 4)):
        grid = Grid(Axis(-1, 1, n_alpha), Axis(-0.5, 1.5, n_beta))
        x, y = np.meshgrid(grid.alphas, grid.betas)
        numbers = plane_numbers(make_landscape(grid, 3 + x - 2 * y), "loss", 99)
        scale = choose_scale(numbers.values)
        assert center_height(numbers, scale) == pytest.approx(3.0)


def test_a_center_outside_has_no_height(make_landscape):
    grid = Grid(Axis(1, 2, 3), Axis(-1, 1, 3))
    numbers = plane_numbers(make_landscape(grid, 1.0), "loss", 99)
    assert math.isnan(center_height(numbers, choose_scale(numbers.values)))


def test_the_label_says_what_was_done_to_the_heights():
    plain = Scale(log=False, low=0.0, high=1400.0)
    assert height_label("loss", plain) == "loss"
    log = Scale(log=True, low=0.1, high=1e5)
    assert height_label("loss", log) == r"$\log_{10}$ loss"
    cut = Scale(log=False, low=0.5, high=1400.0, above=True, below=True)
    assert height_label("loss", cut) == "loss, clipped at 1400, clipped below 0.5"
