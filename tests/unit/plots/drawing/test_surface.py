from __future__ import annotations

import itertools

import numpy as np
import pytest
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from onnxscape import plots
from onnxscape.core.grid import Axis, Grid


def facets_of(picture):
    (found,) = [a for a in picture.axes[0].get_children() if isinstance(a, Poly3DCollection)]
    return found


def test_the_axes_span_the_plane_and_the_losses(slanted):
    axes = plots.draw(slanted, "surface").axes[0]
    assert axes.get_xlim() == pytest.approx((-1.0, 1.0))
    assert axes.get_ylim() == pytest.approx((-0.5, 1.5))
    assert axes.get_zlim() == pytest.approx((7.75, 12.75))
    assert axes.get_zlabel() == "loss"
    assert axes.get_xlabel().startswith("α")
    assert axes.get_ylabel().startswith("β")


def test_there_is_one_facet_per_four_neighbours(slanted):
    picture = plots.draw(slanted, "surface")
    assert len(facets_of(picture).get_facecolor()) == 24


def test_the_mark_stands_on_the_center(slanted):
    axes = plots.draw(slanted, "surface").axes[0]
    (mark,) = axes.lines
    assert [float(values[0]) for values in mark.get_data_3d()] == [0.0, 0.0, 10.0]


def test_an_exploding_loss_is_drawn_by_its_logarithm(make_landscape, plane_grid):
    picture = plots.draw(
        make_landscape(plane_grid, 10.0 ** (3 * plane_grid.alphas)), "surface"
    )
    axes = picture.axes[0]
    assert axes.get_zlabel() == r"$\log_{10}$ loss"
    assert axes.get_zlim() == pytest.approx((-3.0, 3.0))


def test_a_cut_surface_says_where_it_was_cut(slanted):
    axes = plots.draw(slanted, "surface", vmax=11.0).axes[0]
    assert axes.get_zlabel() == "loss, clipped at 11"
    assert axes.get_zlim() == pytest.approx((7.75, 11.0))


def test_gaps_are_explained(make_landscape, plane_grid):
    loss = np.ones(plane_grid.shape)
    loss[0, 0] = np.inf
    known = np.ones(plane_grid.shape, dtype=bool)
    known[2, 3] = False
    picture = plots.draw(make_landscape(plane_grid, loss, evaluated=known), "surface")
    legend = [text.get_text() for text in picture.axes[0].get_legend().get_texts()]
    assert legend == ["center", "gaps: not finite (1 point)", "between points: interpolated"]


def test_a_large_grid_is_drawn_with_few_facets(make_landscape):
    grid = Grid(Axis(-1, 1, 1000), Axis(-1, 1, 700))
    loss = np.add.outer(grid.betas**2, grid.alphas**2) + 1
    picture = plots.draw(make_landscape(grid, loss), "surface")
    assert len(facets_of(picture).get_facecolor()) == 80 * 80


def test_a_plane_without_values_is_drawn_empty(make_landscape, plane_grid):
    picture = plots.draw(make_landscape(plane_grid, np.nan), "surface")
    assert not [a for a in picture.axes[0].get_children() if isinstance(a, Poly3DCollection)]


@pytest.mark.parametrize("radius", [1.0, 200.0, 0.001])
def test_labels_of_steps_do_not_overlap(make_landscape, radius):
    grid = Grid(Axis(-radius, radius, 5), Axis(-radius, radius, 5))
    picture = plots.draw(make_landscape(grid, np.arange(25.0).reshape(5, 5)), "surface")
    picture.draw_without_rendering()
    axes = picture.axes[0]
    # Asking for the labels of an axis would move them from where they were drawn.
    labels = [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis.majorTicks]
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    assert len(boxes) >= 6
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
