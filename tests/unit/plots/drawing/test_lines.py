from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from onnxscape import plots
from onnxscape.core.grid import Axis, Grid


def curve(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def test_loss_stands_left_and_accuracy_right(line):
    left, right = plots.draw(line).axes
    loss, accuracy = curve(left, "test loss"), curve(right, "test accuracy")
    np.testing.assert_array_equal(loss.get_xdata(), line.alphas)
    np.testing.assert_array_equal(loss.get_ydata(), line.loss)
    np.testing.assert_allclose(accuracy.get_ydata(), 100 * line.accuracy)
    assert left.get_ylabel() == "loss"
    assert right.get_ylabel() == "accuracy (%)"
    assert right.yaxis.get_label_position() == "right"
    assert loss.get_color() != accuracy.get_color()
    assert left.get_xlabel() == "α  (filter-normalized direction δ)"


def test_a_loss_without_accuracy_has_one_axis(make_landscape):
    grid = Grid(None, Axis(-1, 1, 5))
    picture = plots.draw(make_landscape(grid, np.arange(5.0), center={}))
    assert len(picture.axes) == 1
    assert picture.axes[0].get_xlabel().startswith("β")


@pytest.mark.parametrize(("data", "style"), [("digits train", "-"), ("digits test", "--")])
def test_training_data_is_solid_and_test_data_dashed(make_landscape, data, style):
    grid = Grid(Axis(-1, 1, 5), None)
    axes = plots.draw(make_landscape(grid, grid.alphas**2, data=data)).axes[0]
    assert curve(axes, f"{data.split()[1]} loss").get_linestyle() == style


def test_the_center_is_marked_with_its_loss(line):
    axes = plots.draw(line).axes[0]
    assert curve(axes, "center").get_xdata() == [0.0, 0.0]
    stars = [each for each in axes.lines if each.get_marker() == "*"]
    assert [star.get_xydata().tolist() for star in stars] == [[[0.0, 0.3]]]
    low, high = axes.get_ylim()
    assert low < 0.3 < high
    keys = {line.get_label(): line for line in axes.get_legend().get_lines()}
    assert keys["center"].get_marker() == "*"


def test_losses_over_decades_have_a_logarithmic_axis(make_landscape):
    grid = Grid(Axis(-20, 20, 9), None)
    picture = plots.draw(make_landscape(grid, 10.0 ** (np.abs(grid.alphas) / 3), accuracy=0.5))
    assert picture.axes[0].get_yscale() == "log"
    assert picture.axes[1].get_yscale() == "linear"
    linear = plots.draw(make_landscape(grid, 1.0 + np.abs(grid.alphas), center={}))
    assert linear.axes[0].get_yscale() == "linear"


def test_the_standard_error_is_a_band_around_the_loss(line):
    axes = plots.draw(line).axes[0]
    (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    corners = band.get_paths()[0].vertices
    for alpha, loss in zip(line.alphas, line.loss, strict=True):
        heights = corners[np.isclose(corners[:, 0], alpha), 1]
        assert heights.min() == pytest.approx(loss - 0.1)
        assert heights.max() == pytest.approx(loss + 0.1)


def test_steps_without_a_finite_loss_are_hatched(make_landscape):
    grid = Grid(Axis(-1, 1, 5), None)
    axes = plots.draw(make_landscape(grid, [1.0, np.inf, np.nan, 2.0, 3.0])).axes[0]
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert [(p.get_x(), p.get_width()) for p in hatched] == [(-0.75, 1.0)]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "not finite (2 points)" in legend
    assert np.isnan(curve(axes, "test loss").get_ydata()).sum() == 2


def test_an_unfinished_line_says_so(make_landscape):
    grid = Grid(Axis(-1, 1, 5), None)
    known = np.array([True, False, True, False, True])
    axes = plots.draw(make_landscape(grid, grid.alphas, evaluated=known)).axes[0]
    assert "incomplete: 3 of 5 points" in [text.get_text() for text in axes.texts]
    assert curve(axes, "test loss").get_xdata().tolist() == [-1.0, 0.0, 1.0]


def test_no_text_of_a_line_lies_over_another(line):
    picture = plots.draw(line)
    picture.draw_without_rendering()
    texts = [*picture.axes[0].texts, *picture.axes[0].get_legend().get_texts()]
    texts += [*picture.axes[0].get_xticklabels(), picture.axes[0].xaxis.label]
    for axes in picture.axes:
        texts += [axes.yaxis.label, *axes.get_yticklabels()]
    shown = [t for t in texts if t.get_text() and t.get_visible()]
    for one, other in itertools.combinations(shown, 2):
        overlap = one.get_window_extent().overlaps(other.get_window_extent())
        assert not overlap, (one.get_text(), other.get_text())
