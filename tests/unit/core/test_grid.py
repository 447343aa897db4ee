from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxscape.core.grid import MAX_POINTS, Axis, Grid, Point
from onnxscape.errors import GridError


def test_an_axis_is_read_as_the_reference_writes_it():
    assert Axis.parse("-1:1:51") == Axis(-1.0, 1.0, 51)
    assert Axis.parse("-0.5:1.5e1:5") == Axis(-0.5, 15.0, 5)


@pytest.mark.parametrize(
    "text",
    ["", "a:b", "-1:1", "-1:1:5:5", "-1:1:x", "-1:1:5.0", "-1,1,5", "::", "1", "-1:1:"],
)
def test_an_axis_of_another_form_is_refused_with_an_example(text):
    with pytest.raises(GridError, match=r"expected MIN:MAX:NUM such as -1:1:25, got '"):
        Axis.parse(text)


def test_a_number_of_points_that_python_will_not_read_is_refused():
    with pytest.raises(GridError, match="expected MIN:MAX:NUM"):
        Axis.parse(f"-1:1:{'9' * 5000}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1:1:5", "MIN below MAX, got 1:1:5"),
        ("1:-1:5", "MIN below MAX, got 1:-1:5"),
        ("-1:1:1", "at least 2 points, got -1:1:1"),
        ("-1:1:0", "at least 2 points"),
        ("-1:1:-5", "at least 2 points"),
        ("nan:1:5", "finite range, got nan:1:5"),
        ("-1:inf:5", "finite range"),
        ("-1:1e999:5", "finite range"),
        ("-1:1:16000001", "at most 16000000 points, got -1:1:16000001"),
        ("-1e308:1e308:5", r"must not be wider than float64 holds, got -1e\+308"),
    ],
)
def test_an_axis_without_a_range_or_points_is_refused(text, reason):
    with pytest.raises(GridError, match=reason):
        Axis.parse(text)


def test_a_tiny_coordinate_is_zero_so_that_the_center_is_on_the_grid():
    # As numpy.linspace computes it, this coordinate is 1.4e-17.
    assert np.linspace(-0.1, 0.2, 4)[1] != 0.0
    assert Axis(-0.1, 0.2, 4).coordinates()[1] == 0.0


def test_only_coordinates_below_1e_12_are_taken_for_zero():
    kept = Axis(-1.0, 1.1e-12, 2).coordinates()
    snapped = Axis(-1.0, 0.9e-12, 2).coordinates()
    assert kept.tolist() == [-1.0, 1.1e-12]
    assert snapped.tolist() == [-1.0, 0.0]


@given(start=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), num=st.integers(2, 200))
def test_an_axis_is_evenly_spaced_from_its_start_to_its_stop(start, width, num):
    axis = Axis(start, start + width, num)
    coordinates = axis.coordinates()
    exact = [start + (axis.stop - start) * (i / (num - 1)) for i in range(num)]
    assert coordinates.shape == (num,)
    assert coordinates == pytest.approx(exact, rel=1e-12, abs=2e-12 + 1e-12 * abs(start))


@given(half=st.integers(1, 300), radius=st.floats(1e-3, 1e3))
def test_an_odd_symmetric_grid_has_the_center_as_its_middle(half, radius):
    center = Grid.parse(f"{2 * half + 1}x{2 * half + 1}", radius).center()
    assert center == Point(half, half, 0.0, 0.0)


@pytest.mark.parametrize("text", ["4x5", "5x4", "4x4"])
def test_a_center_between_the_points_of_an_axis_is_outside_the_grid(text):
    assert Grid.parse(text).center() == Point(-1, -1, 0.0, 0.0)


def test_the_center_of_a_line_off_zero_is_outside_the_grid():
    assert Grid(Axis(1.0, 2.0, 5), None).center() == Point(-1, -1, 0.0, 0.0)
    assert Grid(None, Axis(1.0, 2.0, 5)).center() == Point(-1, -1, 0.0, 0.0)


def test_the_center_of_a_line_is_found_along_its_axis():
    assert Grid(Axis(-1.0, 3.0, 5), None).center() == Point(0, 1, 0.0, 0.0)
    assert Grid(None, Axis(-1.0, 3.0, 5)).center() == Point(1, 0, 0.0, 0.0)


def test_the_center_is_among_the_points():
    grid = Grid(Axis(-1.0, 2.0, 7), Axis(-0.5, 1.5, 5))
    assert [p for p in grid.points() if p == grid.center()] == [Point(1, 2, 0.0, 0.0)]


@pytest.mark.parametrize("text", ["7x5", "7X5", "7×5", " 7x5 "])
def test_a_plane_is_read_alphas_first_and_shaped_betas_first(text):
    grid = Grid.parse(text)
    assert (grid.x, grid.y) == (Axis(-1.0, 1.0, 7), Axis(-1.0, 1.0, 5))
    assert grid.shape == (5, 7)
    assert grid.size == 35


def test_one_number_is_a_line_along_delta():
    grid = Grid.parse("51", 2.5)
    assert grid == Grid(Axis(-2.5, 2.5, 51), None)
    assert grid.shape == (51,)
    assert grid.betas is None


def test_a_line_along_eta_has_no_alphas():
    grid = Grid(None, Axis(0.0, 1.0, 3))
    assert grid.alphas is None
    assert grid.betas.tolist() == [0.0, 0.5, 1.0]
    assert grid.shape == (3,)
    assert [p.alpha for p in grid.points()] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("text", ["", "x", "5x", "x5", "5x5x5", "-5x5", "5.5", "a", "5,5"])
def test_a_grid_of_another_form_is_refused_with_examples(text):
    with pytest.raises(GridError, match=r"expected a grid such as 25x25 \(plane\) or 51"):
        Grid.parse(text)


@pytest.mark.parametrize("text", ["0x0", "0", "1", "1x5", "5x1", "0x5"])
def test_a_grid_of_fewer_than_two_points_is_refused(text):
    with pytest.raises(GridError, match="at least 2 points along each axis, got"):
        Grid.parse(text)


@pytest.mark.parametrize("text", ["4001x4000", "999999999x999999999"])
def test_a_grid_of_too_many_points_is_refused(text):
    with pytest.raises(GridError, match=f"at most {MAX_POINTS} points, got"):
        Grid.parse(text)


def test_the_largest_grid_is_allowed():
    assert Grid.parse("4000x4000").size == MAX_POINTS


def test_a_number_of_ten_digits_is_refused():
    with pytest.raises(GridError, match="expected a grid such as"):
        Grid.parse("1000000000")


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
def test_a_radius_that_is_no_distance_is_refused(radius):
    with pytest.raises(GridError, match=f"radius must be a positive number, got {radius:g}"):
        Grid.parse("5x5", radius)


def test_a_grid_needs_an_axis():
    with pytest.raises(GridError, match="at least one axis"):
        Grid(None, None)


sizes = st.integers(2, 40)


@given(columns=sizes, rows=st.none() | sizes)
def test_every_point_comes_exactly_once_with_its_coordinates(columns, rows):
    grid = Grid(Axis(-1.0, 2.0, columns), None if rows is None else Axis(-3.0, 1.0, rows))
    seen = np.zeros(grid.shape, dtype=int)
    for point in grid.points():
        seen[grid.index(point)] += 1
        assert point.alpha == grid.alphas[point.column]
        assert point.beta == (0.0 if rows is None else grid.betas[point.row])
    assert (seen == 1).all()


@given(rows=sizes)
def test_a_line_along_eta_is_indexed_by_its_rows(rows):
    grid = Grid(None, Axis(-1.0, 2.0, rows))
    points = list(grid.points())
    assert sorted(grid.index(point) for point in points) == [(i,) for i in range(rows)]
    assert all(point.beta == grid.betas[point.row] for point in points)


@given(num=st.integers(3, 400), part=st.floats(0.0, 1.0))
def test_a_line_cut_anywhere_has_its_ends_middle_and_no_wide_gap(num, part):
    count = max(3, round(part * num))
    columns = [p.column for p in itertools.islice(Grid.parse(str(num)).points(), count)]
    assert sorted(columns[:3]) == [0, num // 2, num - 1]
    # Each round of bisection halves the gaps, and 2^k + 1 points finish k rounds.
    rounds = (count - 1).bit_length() - 1
    assert np.diff(sorted(columns)).max() <= math.ceil((num - 1) / 2**rounds)


@given(columns=st.integers(3, 30), rows=st.integers(3, 30))
def test_a_plane_starts_with_its_corners_edges_and_middle(columns, rows):
    first = list(itertools.islice(Grid.parse(f"{columns}x{rows}").points(), 9))
    assert {(p.row, p.column) for p in first} == set(
        itertools.product((0, rows // 2, rows - 1), (0, columns // 2, columns - 1))
    )


@given(columns=st.integers(5, 30), rows=st.integers(5, 30))
def test_a_plane_is_a_coarse_plane_before_any_part_of_it_is_finer(columns, rows):
    points = list(itertools.islice(Grid.parse(f"{columns}x{rows}").points(), 25))
    lines = [
        [p.column for p in itertools.islice(Grid.parse(str(num)).points(), 5)]
        for num in (rows, columns)
    ]
    assert {(p.row, p.column) for p in points} == set(itertools.product(*lines))


def test_the_order_of_points_never_changes():
    # Stores of earlier versions are continued in this order.
    assert [p.column for p in Grid.parse("9").points()] == [0, 4, 8, 2, 6, 1, 3, 5, 7]
    assert [(p.row, p.column) for p in Grid.parse("4x3").points()] == [
        *itertools.product((0, 1, 2), (0, 2, 3)),
        *[(0, 1), (1, 1), (2, 1)],
    ]
