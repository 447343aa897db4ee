from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from onnxscape import plots
from onnxscape.core.grid import Axis, Grid
from onnxscape.errors import OutputError, UsageError

TEXTS = ["", "a\nb", "日本語", "$x^2", r"\frac{$a$}{", "😀", "x" * 300, "100 %", "a_b^c"]


def test_the_default_is_a_line_or_a_contour(line, slanted):
    assert plots.kinds_for(line) == plots.KINDS_LINE == ("line",)
    assert plots.kinds_for(slanted) == plots.KINDS_PLANE
    assert len(plots.draw(line).axes) == 2
    axes = plots.draw(slanted).axes[0]
    assert any(isinstance(artist, ContourSet) for artist in axes.get_children())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("line", "a line picture does not fit a plane; kinds that fit: contour, filled, hea"),
        ("pie", "no kind 'pie' for a plane; kinds that fit: contour, filled, heatmap, surf"),
    ],
)
def test_a_kind_that_does_not_fit_a_plane_is_refused(slanted, kind, message):
    with pytest.raises(UsageError, match=message):
        plots.draw(slanted, kind)


def test_a_kind_that_does_not_fit_a_line_is_refused(line):
    with pytest.raises(UsageError, match=r"a surface picture does not fit a line; .*: line$"):
        plots.draw(line, "surface")


def test_a_metric_that_is_not_there_is_refused(slanted):
    with pytest.raises(UsageError, match="no metric 'top5' in resnet20; it has loss, accur"):
        plots.draw(slanted, metric="top5")


@pytest.mark.parametrize("name", ["p.jpg", "p", "p.png.gz", ".png"])
def test_a_suffix_that_is_not_known_is_refused(slanted, tmp_path, name):
    with pytest.raises(UsageError, match=r"saved as \.png, \.pdf, \.svg, got"):
        plots.draw(slanted, path=tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["heatmap", "surface"])
def test_levels_are_refused_where_there_are_none(slanted, kind):
    with pytest.raises(UsageError, match=f"contour and filled; a {kind} picture has none"):
        plots.draw(slanted, kind, levels=5)


def test_options_reach_the_scale(slanted):
    with pytest.raises(UsageError, match="scale must be one of"):
        plots.draw(slanted, scale="cubic")
    mesh = plots.draw(slanted, "heatmap", vmin=9.0, vmax=11.0).axes[0].collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (9.0, 11.0)


@pytest.mark.parametrize("axis", [Axis(-1e-300, 1e-300, 4), Axis(0, 1e300, 3)])
def test_steps_that_cannot_be_told_apart_are_refused(make_landscape, axis):
    with pytest.raises(UsageError, match="cannot be drawn: steps must differ"):
        plots.draw(make_landscape(Grid(axis, Axis(-1, 1, 3)), 1.0))


def test_all_kinds_are_saved_beside_the_surface(slanted, line, tmp_path):
    told = []
    paths = plots.save_all(slanted, tmp_path / "run.v1", report=told.append)
    names = [f"run.v1_{kind}.png" for kind in plots.KINDS_PLANE]
    assert [path.name for path in paths] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    assert told == [str(path) for path in paths]
    assert plots.save_all(line, tmp_path / "l") == [tmp_path / "l_line.png"]


def test_saving_all_where_nothing_can_be_written_is_an_error(slanted, tmp_path):
    with pytest.raises(OutputError, match="cannot write the picture"):
        plots.save_all(slanted, tmp_path / "nowhere" / "s")


@pytest.mark.parametrize("kind", plots.KINDS_PLANE)
@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(np.nan, id="no value at all"),
        pytest.param(0.6931, id="constant"),
        pytest.param([[1e-320, 1e300], [np.inf, -1e300]], id="beyond all reason"),
        pytest.param([[0.0, 1e7], [1.0, 2.0]], id="zero and an explosion"),
        pytest.param([[-3.0, -2.0], [-2.5, -1.0]], id="negative"),
        pytest.param([[0.3, 1e7], [np.nan, 2.0]], id="far"),
        pytest.param([[1.0, 1.0 + 1e-9], [1.0, 1.0]], id="rounding"),
    ],
)
def test_whatever_the_losses_there_is_a_picture(make_landscape, kind, loss):
    landscape = make_landscape(Grid(Axis(-1, 1, 2), Axis(-1, 1, 2)), loss, center={})
    plots.draw(landscape, kind).draw_without_rendering()


@pytest.mark.parametrize("known", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", plots.KINDS_PLANE)
def test_however_few_points_are_known_there_is_a_picture(
    make_landscape, plane_grid, kind, known
):
    evaluated = np.zeros(plane_grid.shape, dtype=bool)
    for point in list(plane_grid.points())[:known]:
        evaluated[point.row, point.column] = True
    landscape = make_landscape(plane_grid, 1.0 + plane_grid.alphas, evaluated=evaluated)
    plots.draw(landscape, kind).draw_without_rendering()


@pytest.mark.parametrize("text", TEXTS)
def test_names_are_never_read_as_formulas(make_landscape, text):
    grid = Grid(Axis(-1, 1, 3), None)
    landscape = make_landscape(grid, grid.alphas, model=text, data=text, **{text: 1.0})
    plots.draw(landscape, metric=text).draw_without_rendering()
    plots.draw(landscape, title=text).draw_without_rendering()


def test_a_title_is_drawn_as_it_is(slanted):
    texts = [
        text.get_text() for text in plots.draw(slanted, title="cost: $5_0$").axes[0].texts
    ]
    assert "cost: $5_0$" in texts
    assert "resnet20" not in texts


def test_a_notebook_shows_a_picture_without_pyplot(slanted):
    picture = plots.draw(slanted)
    assert isinstance(picture, Figure)
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_landscape_plots_itself(slanted, tmp_path):
    picture = slanted.plot("filled", path=tmp_path / "p.png")
    assert isinstance(picture, Figure)
    assert (tmp_path / "p.png").exists()


def test_matplotlib_is_loaded_late_and_pyplot_never():
    code = """
import sys
import numpy as np
from onnxscape import plots
from onnxscape.core.grid import Axis, Grid
from onnxscape.core.landscape import Landscape
assert not any(name.startswith("matplotlib") for name in sys.modules)
grid = Grid(Axis(-1, 1, 3), Axis(-1, 1, 3))
values = {"loss": np.arange(9.0).reshape(3, 3)}
landscape = Landscape(grid=grid, surfaces=values, evaluated=np.ones((3, 3), bool), center={})
for kind in plots.KINDS_PLANE:
    plots.draw(landscape, kind)
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# --- side by side ---------------------------------------------------------------------------


@pytest.fixture
def pair(make_landscape, plane_grid):
    """Two planes with losses from 1 to 3 and from 2 to 9."""
    loss = np.linspace(0.0, 1.0, plane_grid.size).reshape(plane_grid.shape)
    return [
        make_landscape(plane_grid, 1 + 2 * loss),
        make_landscape(plane_grid, 2 + 7 * loss, model="resnet20_noshort"),
    ]


def test_landscapes_side_by_side_share_colors_and_one_color_bar(pair):
    picture = plots.draw_side_by_side(pair, "heatmap")
    assert len(picture.axes) == 3
    meshes = [
        artist
        for axes in picture.axes[:2]
        for artist in axes.get_children()
        if isinstance(artist, QuadMesh)
    ]
    assert [(m.norm.vmin, m.norm.vmax) for m in meshes] == [(1.0, 9.0)] * 2
    for mesh, landscape in zip(meshes, pair, strict=True):
        np.testing.assert_array_equal(mesh.get_array(), landscape.loss)


def test_landscapes_side_by_side_share_levels(pair):
    picture = plots.draw_side_by_side(pair, "contour", levels=[1.5, 2.5, 4.0, 8.0])
    sets = [
        next(a for a in axes.get_children() if isinstance(a, ContourSet))
        for axes in picture.axes
    ]
    assert [each.levels.tolist() for each in sets] == [[1.5, 2.5], [2.5, 4.0, 8.0]]
    assert [(s.norm.vmin, s.norm.vmax) for s in sets] == [(1.0, 9.0)] * 2


def test_surfaces_side_by_side_share_the_axis_of_heights(pair):
    picture = plots.draw_side_by_side(pair, "surface")
    assert [axes.get_zlim() for axes in picture.axes] == [pytest.approx((1.0, 9.0))] * 2


def test_titles_replace_the_names_of_the_models(pair):
    picture = plots.draw_side_by_side(pair, "heatmap", titles=["with", "without"])
    texts = [{text.get_text() for text in axes.texts} for axes in picture.axes[:2]]
    assert "with" in texts[0]
    assert "without" in texts[1]


def test_the_label_of_an_axis_is_not_repeated(pair):
    picture = plots.draw_side_by_side(pair, "contour")
    assert [bool(axes.get_ylabel()) for axes in picture.axes] == [True, False]


def test_panels_do_not_touch(pair):
    picture = plots.draw_side_by_side([*pair, pair[0]], "filled")
    picture.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in picture.axes]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("count", "titles", "message"),
    [
        (0, None, "from 1 to 8 landscapes side by side, got 0"),
        (9, None, "got 9"),
        (2, ["one"], "got 1 titles for 2 landscapes"),
    ],
)
def test_a_wrong_number_side_by_side_is_refused(slanted, count, titles, message):
    with pytest.raises(UsageError, match=message):
        plots.draw_side_by_side([slanted] * count, titles=titles)


def test_lines_do_not_stand_among_planes(slanted, line):
    with pytest.raises(UsageError, match="the first is a plane and number 2 is a line"):
        plots.draw_side_by_side([slanted, line])
    with pytest.raises(UsageError, match="the first is a line and number 3 is a plane"):
        plots.draw_side_by_side([line, line, slanted])


def test_lines_of_different_models_stand_in_panels_with_the_same_axes(make_landscape):
    grid = Grid(Axis(-1, 1, 5), None)
    lines = [
        make_landscape(grid, factor * (1 + grid.alphas**2), spec={"model": digest * 64})
        for factor, digest in ((1.0, "a"), (4.0, "b"))
    ]
    picture = plots.draw_side_by_side(lines)
    assert len(picture.axes) == 2
    first, second = (axes.get_ylim() for axes in picture.axes)
    assert first == second
    assert first[0] < 1.0
    assert first[1] > 8.0


def test_training_and_test_data_of_one_model_share_a_panel(make_landscape):
    grid = Grid(Axis(-1, 1, 5), None)
    train, test = (
        make_landscape(grid, 1 + grid.alphas**2, data=f"digits {split}")
        for split in ("train", "test")
    )
    (axes,) = plots.draw_side_by_side([train, test]).axes
    styles = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert (styles["train loss"], styles["test loss"]) == ("-", "--")
    assert len(plots.draw_side_by_side([train, train]).axes) == 2
    assert len(plots.draw_side_by_side([train, test], titles=["a", "b"]).axes) == 2


def test_a_picture_side_by_side_is_saved(pair, tmp_path):
    plots.draw_side_by_side(pair, "filled", path=tmp_path / "p.pdf")
    assert (tmp_path / "p.pdf").read_bytes().startswith(b"%PDF")
