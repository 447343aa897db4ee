"""Progress counts each finished point once, the center off the grid as well."""

from __future__ import annotations

import math

import pytest

from onnxscape.core.grid import Grid
from onnxscape.evaluation.progress import Progress


@pytest.mark.parametrize("text", ["5x3", "5", "4x4"])
def test_every_point_is_finished_once_it_was_added_and_counts_once(text):
    grid = Grid.parse(text)
    progress, points = Progress(grid), list(grid.points())
    for number, point in enumerate(points):
        assert not progress.has(point.row, point.column)
        for _ in range(2):
            progress.add(point.row, point.column, float(number))
        assert progress.count == number + 1
    assert [progress.loss(p.row, p.column) for p in points] == list(range(grid.size))


def test_the_center_off_the_grid_is_no_point_of_it():
    grid = Grid.parse("4x4")
    progress = Progress(grid)
    progress.add(-1, -1, math.inf)
    assert progress.has(-1, -1)
    assert progress.loss(-1, -1) == math.inf
    assert not any(progress.has(p.row, p.column) for p in grid.points())


def test_what_is_finished_meanwhile_is_no_longer_missing():
    grid = Grid.parse("3")
    progress = Progress(grid)
    first, second, third = grid.points()
    missing = iter(progress.missing(grid.points()))
    assert next(missing) == first
    progress.add(second.row, second.column, 1.0)
    assert list(missing) == [third]
