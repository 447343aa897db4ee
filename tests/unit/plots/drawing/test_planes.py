from __future__ import annotations

import itertools

import h5py
import numpy as np
import pytest
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.contour import ContourSet
from matplotlib.offsetbox import DrawingArea, HPacker
from matplotlib.patches import PathPatch
from matplotlib.text import Annotation

from onnxscape import plots
from onnxscape.core.grid import Axis, Grid


def only(picture, kind):
    (found,) = [a for a in picture.axes[0].get_children() if isinstance(a, kind)]
    return found


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def contour_labels(axes):
    return [t for t in axes.texts if not isinstance(t, Annotation)]


@pytest.fixture
def bowl(make_landscape):
    grid = Grid(Axis(-1, 1, 25), Axis(-1, 1, 25))
    x, y = np.meshgrid(grid.alphas, grid.betas)
    return make_landscape(grid, 0.3 + 4 * x**2 + 3 * y**2)


def test_each_cell_of_a_heat_map_is_centered_on_its_point(slanted):
    mesh = only(plots.draw(slanted, "heatmap"), QuadMesh)
    corners = mesh.get_coordinates()
    assert corners.shape == (6, 8, 2)
    centers = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    x, y = np.meshgrid(slanted.alphas, slanted.betas)
    np.testing.assert_allclose(centers, np.stack([x, y], axis=-1), atol=1e-12)
    np.testing.assert_allclose(mesh.get_array(), 10 + 2 * x + 0.5 * y)


def test_a_heat_map_ends_at_the_borders_of_its_cells(slanted):
    axes = plots.draw(slanted, "heatmap").axes[0]
    assert axes.get_xlim() == pytest.approx((-7 / 6, 7 / 6))
    assert axes.get_ylim() == pytest.approx((-0.75, 1.75))


@pytest.mark.parametrize("kind", ["contour", "filled"])
def test_contour_lines_lie_where_the_loss_has_their_value(slanted, kind):
    picture = plots.draw(slanted, kind, levels=[9.0, 10.0, 11.0])
    sets = [a for a in picture.axes[0].get_children() if isinstance(a, ContourSet)]
    lines = next(each for each in sets if not each.filled)
    assert lines.levels.tolist() == [9.0, 10.0, 11.0]
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        alpha, beta = path.vertices.T
        assert len(alpha) > 3
        np.testing.assert_allclose(10 + 2 * alpha + 0.5 * beta, level)


def test_contours_cover_the_whole_plane_with_alpha_across(slanted):
    axes = plots.draw(slanted, "contour").axes[0]
    assert axes.get_xlim() == (-1.0, 1.0)
    assert axes.get_ylim() == (-0.5, 1.5)
    assert axes.get_xlabel() == "α  (filter-normalized direction δ)"
    assert axes.get_ylabel() == "β  (filter-normalized direction η)"


@pytest.mark.parametrize("kind", ["contour", "filled", "heatmap"])
@pytest.mark.parametrize("axes_of", [(9, 25), (25, 9), (7, 5)])
def test_a_step_is_equally_long_along_both_axes(make_landscape, kind, axes_of):
    n_alpha, n_beta = axes_of
    grid = Grid(Axis(-1, 1, n_alpha), Axis(0, 1.5, n_beta))
    x, y = np.meshgrid(grid.alphas, grid.betas)
    picture = plots.draw(make_landscape(grid, 2 + x + y), kind)
    to_pixels = picture.axes[0].transData.transform
    (x0, y0), (x1, y1) = to_pixels((0.0, 0.0)), to_pixels((0.5, 0.5))
    assert x1 - x0 == pytest.approx(y1 - y0)


def test_very_unequal_axes_fill_a_square_instead(make_landscape):
    grid = Grid(Axis(-1, 1, 9), Axis(-10, 10, 9))
    picture = plots.draw(make_landscape(grid, np.eye(9)), "contour")
    box = picture.axes[0].get_window_extent()
    assert box.width == pytest.approx(box.height)


def test_the_center_is_marked_if_it_is_within(make_landscape):
    inside, outside = (
        plots.draw(make_landscape(Grid(Axis(x, 2, 4), Axis(-1, 1, 4)), np.eye(4)), "heatmap")
        for x in (-2, 1)
    )
    marks = [line for line in inside.axes[0].lines if line.get_label() == "center"]
    assert [mark.get_xydata().tolist() for mark in marks] == [[[0.0, 0.0]]]
    assert "center" in legend_of(inside.axes[0])
    assert outside.axes[0].get_legend() is None


@pytest.mark.parametrize("kind", ["contour", "filled", "heatmap"])
def test_values_that_are_not_finite_are_hatched_and_counted(make_landscape, bowl, kind):
    loss = bowl.loss.copy()
    loss[20:, 22:] = np.inf
    loss[3, 4] = np.nan
    axes = plots.draw(make_landscape(bowl.grid, loss), kind).axes[0]
    hatched = [p for p in axes.patches if isinstance(p, PathPatch) and p.get_hatch()]
    assert len(hatched) == 1
    alpha, beta = bowl.alphas[4], bowl.betas[3]
    assert hatched[0].get_path().contains_point((alpha, beta))
    assert not hatched[0].get_path().contains_point((0.0, 0.0))
    assert "not finite (16 points)" in legend_of(axes)


def test_a_value_that_is_not_finite_has_no_color(make_landscape, plane_grid):
    loss = np.ones(plane_grid.shape)
    loss[1, 2] = np.inf
    loss[0, 0] = 2.0
    mesh = only(plots.draw(make_landscape(plane_grid, loss), "heatmap"), QuadMesh)
    assert np.argwhere(mesh.get_array().mask).tolist() == [[1, 2]]
    assert mesh.norm.vmax == 2.0


@pytest.mark.parametrize(
    ("kind", "between"),
    [("contour", "interpolated"), ("filled", "interpolated"), ("heatmap", "nearest")],
)
def test_an_unfinished_plane_shows_its_points_and_what_lies_between(
    make_landscape, bowl, kind, between
):
    known = np.zeros(bowl.grid.shape, dtype=bool)
    for point in itertools.islice(bowl.grid.points(), 100):
        known[point.row, point.column] = True
    picture = plots.draw(make_landscape(bowl.grid, bowl.loss, evaluated=known), kind)
    axes = picture.axes[0]
    label = f"evaluated (between: {between})"
    (dots,) = [line for line in axes.lines if line.get_label() == label]
    x, y = np.meshgrid(bowl.alphas, bowl.betas)
    assert {tuple(p) for p in dots.get_xydata()} == set(zip(x[known], y[known], strict=True))
    assert label in legend_of(axes)
    texts = [text.get_text() for text in axes.texts]
    assert "incomplete: 100 of 625 points" in texts


def test_where_nothing_is_known_contours_say_so(make_landscape, bowl):
    known = np.zeros(bowl.grid.shape, dtype=bool)
    known[:13:6, :13:6] = True
    axes = plots.draw(make_landscape(bowl.grid, bowl.loss, evaluated=known)).axes[0]
    assert "not evaluated" in legend_of(axes)
    (blank,) = [p for p in axes.patches if isinstance(p, PathPatch)]
    assert blank.get_path().contains_point((0.5, 0.5))
    assert not blank.get_path().contains_point((-0.5, -0.5))


def test_a_constant_has_a_color_and_a_note_instead_of_contours(make_landscape, plane_grid):
    landscape = make_landscape(plane_grid, 0.6931)
    assert "no contours: loss is 0.6931" in legend_of(plots.draw(landscape).axes[0])
    mesh = only(plots.draw(landscape, "heatmap"), QuadMesh)
    assert mesh.norm.vmin < 0.6931 < mesh.norm.vmax
    filled = plots.draw(landscape, "filled")
    filled.draw_without_rendering()
    assert "no contours: loss is 0.6931" in legend_of(filled.axes[0])
    assert len(filled.axes) == 1  # no color bar for one value


@pytest.mark.parametrize("kind", ["filled", "heatmap"])
def test_without_a_finite_value_there_is_no_color_bar(make_landscape, plane_grid, kind):
    picture = plots.draw(make_landscape(plane_grid, np.nan), kind)
    picture.draw_without_rendering()
    assert len(picture.axes) == 1


def test_a_note_of_the_legend_has_no_room_for_a_symbol(make_landscape, plane_grid):
    legend = plots.draw(make_landscape(plane_grid, 0.5)).axes[0].get_legend()
    widths = {
        texts[0].get_text(): symbol.width
        for symbol, *texts in (entry.get_children() for entry in legend.findobj(HPacker))
        if isinstance(symbol, DrawingArea)
    }
    assert widths["no contours: loss is 0.5"] == 0
    assert widths["center"] > 0


@pytest.mark.parametrize("kind", ["filled", "heatmap"])
def test_colors_are_logarithmic_where_the_loss_explodes(make_landscape, bowl, kind):
    loss = 10.0 ** (bowl.loss - 0.3)
    picture = plots.draw(make_landscape(bowl.grid, loss), kind)
    mappable = next(
        a for a in picture.axes[0].get_children() if isinstance(a, ContourSet | QuadMesh)
    )
    assert isinstance(mappable.norm, LogNorm)
    assert (mappable.norm.vmin, mappable.norm.vmax) == pytest.approx((1.0, 1e7))
    bar = picture.axes[1]
    assert bar.get_ylabel() == "loss"
    assert [t.get_text() for t in bar.get_yticklabels()].count("$10^{6}$") == 1


def test_filled_bands_leave_nothing_between_the_ends_blank(slanted):
    picture = plots.draw(slanted, "filled", levels=[9.5, 10.5])
    bands = next(
        a for a in picture.axes[0].get_children() if isinstance(a, ContourSet) and a.filled
    )
    assert bands.levels.tolist() == pytest.approx([7.75, 9.5, 10.5, 12.75])
    ticks = picture.axes[1].get_yticks()
    np.testing.assert_allclose(ticks, [9.5, 10.5])


def test_arrows_on_the_color_bar_say_that_values_lie_beyond(slanted):
    for options, extend in (
        ({}, "neither"),
        ({"vmax": 11.0}, "max"),
        ({"vmin": 9.0, "vmax": 11.0}, "both"),
    ):
        mesh = only(plots.draw(slanted, "heatmap", **options), QuadMesh)
        assert mesh.colorbar.extend == extend


def test_labels_of_contours_do_not_touch_one_another_or_leave_the_axes(bowl):
    axes = plots.draw(bowl, "contour").axes[0]
    boxes = [label.get_window_extent() for label in contour_labels(axes)]
    assert len(boxes) >= 8
    frame = axes.get_window_extent()
    for box in boxes:
        assert frame.x0 < box.x0
        assert box.x1 < frame.x1
        assert frame.y0 < box.y0
        assert box.y1 < frame.y1
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_a_label_tells_the_value_of_the_line_it_lies_on(bowl):
    axes = plots.draw(bowl, "contour").axes[0]
    for label in contour_labels(axes):
        alpha, beta = label.get_position()
        assert 0.3 + 4 * alpha**2 + 3 * beta**2 == pytest.approx(
            float(label.get_text()), abs=0.06
        )


def test_a_metric_of_fractions_is_drawn_in_percent(slanted):
    picture = plots.draw(slanted, "heatmap", metric="accuracy")
    mesh = only(picture, QuadMesh)
    np.testing.assert_allclose(mesh.get_array(), 100 * slanted.accuracy)
    assert picture.axes[1].get_ylabel() == "accuracy (%)"


def test_cells_of_a_large_grid_are_bounded_and_become_pixels(make_landscape):
    grid = Grid(Axis(-1, 1, 2000), Axis(-1, 1, 1500))
    loss = np.add.outer(grid.betas**2, grid.alphas**2) + 1
    mesh = only(plots.draw(make_landscape(grid, loss), "heatmap"), QuadMesh)
    assert mesh.get_array().shape == (1024, 1024)
    assert mesh.get_rasterized()
    small = only(
        plots.draw(make_landscape(Grid(Axis(0, 1, 3), Axis(0, 1, 3)), 1.0), "heatmap"),
        QuadMesh,
    )
    assert not small.get_rasterized()


def test_the_reference_surface_is_drawn_the_right_way_round(make_landscape, reference):
    with h5py.File(reference / "surface_2d_7x5.h5") as file:
        x, y, loss = (file[k][()] for k in ("xcoordinates", "ycoordinates", "test_loss"))
    grid = Grid(Axis(x[0], x[-1], x.size), Axis(y[0], y[-1], y.size))
    mesh = only(plots.draw(make_landscape(grid, loss, spec=None), "heatmap"), QuadMesh)
    row, column = np.unravel_index(mesh.get_array().argmin(), (5, 7))
    low, high = (
        mesh.get_coordinates()[row, column],
        mesh.get_coordinates()[row + 1, column + 1],
    )
    np.testing.assert_allclose((low + high) / 2, [0.0, 0.0], atol=1e-12)
    assert mesh.get_array().min() == pytest.approx(0.08001286)
    assert not [a for a in mesh.axes.get_children() if isinstance(a, PathCollection)]


@pytest.mark.parametrize("kind", ["contour", "filled", "heatmap"])
def test_no_text_lies_over_another(make_landscape, bowl, kind):
    loss = 10.0 ** (2 * bowl.loss - 4)
    loss[:3, :4] = np.nan
    known = np.ones(bowl.grid.shape, dtype=bool)
    known[-2:] = False
    landscape = make_landscape(
        bowl.grid, loss, evaluated=known, model="resnet_56_" * 30, data="some long data " * 4
    )
    picture = plots.draw(landscape, kind)
    picture.draw_without_rendering()
    axes = picture.axes[0]
    texts = [*axes.texts, axes.xaxis.label, axes.yaxis.label, *axes.get_legend().get_texts()]
    for each in picture.axes:
        texts += [*each.get_xticklabels(), *each.get_yticklabels()]
    texts += [each.yaxis.label for each in picture.axes[1:]]
    shown = [t for t in texts if t.get_text() and t.get_visible()]
    assert len(shown) > 20
    for one, other in itertools.combinations(shown, 2):
        overlap = one.get_window_extent().overlaps(other.get_window_extent())
        assert not overlap, (one.get_text(), other.get_text())
