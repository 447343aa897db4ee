from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.interpolation import CUBIC, LINEAR, Interpolation, NestedGrids
from onnxscape.errors import SurfaceFileError

RECORD = Interpolation(
    method="adaptive",
    scale="log",
    tolerance=0.05,
    floor=0.002,
    evaluated=700,
    interpolated=1901,
    held_out=39,
    largest_error=0.025,
    errors={"accuracy": 0.01, "loss_stderr": 0.5},
    rounds=2,
)


def plane(columns, rows):
    return NestedGrids(Grid(Axis(-1.0, 1.5, columns), Axis(-2.0, 1.0, rows)))


@pytest.mark.parametrize("shape", [(51, 51), (33, 20), (7, 100), (2, 2), (2, 9)])
def test_the_last_level_holds_all_points(shape):
    nested = plane(*shape)
    rows, columns = nested.nodes(nested.finest)
    assert (columns.size, rows.size) == shape
    assert nested.levels.shape == (shape[1], shape[0])
    corner, *_ = nested.nodes(0)
    assert {0, shape[1] - 1} <= set(corner.tolist())


@pytest.mark.parametrize("shape", [(51, 51), (33, 20), (9, 17)])
def test_cubics_are_interpolated_exactly_from_uneven_levels(shape):
    nested = plane(*shape)
    a, b = np.meshgrid(nested.alphas, nested.betas)
    values = (1 + a - 2 * a**2 + a**3) * (3 - b + b**2 / 2 - b**3)
    for level in range(2, nested.finest + 1):  # three nodes make no cubic yet
        rows, columns = nested.nodes(level)
        predicted = nested.predict(values, level, CUBIC)
        np.testing.assert_allclose(predicted, values[np.ix_(rows, columns)], atol=1e-12)


def test_planes_are_filled_exactly_from_few_points():
    nested = plane(51, 20)
    a, b = np.meshgrid(nested.alphas, nested.betas)
    values = 2 * a - b + a * b
    known = nested.levels <= 1
    filled = nested.fill(np.where(known, values, np.nan), known, LINEAR)
    np.testing.assert_allclose(filled, values, atol=1e-12)


def test_known_values_are_kept_to_the_bit():
    nested = plane(17, 17)
    values = np.random.default_rng(0).normal(size=(17, 17))
    known = (nested.levels <= 1) | (np.arange(17) % 3 == 0)
    filled = nested.fill(values, known, LINEAR)
    assert np.array_equal(filled[known], values[known])
    assert not np.isclose(filled[~known], values[~known]).any()


def test_a_value_that_is_not_finite_reaches_the_points_between_it_and_its_neighbours():
    nested = plane(17, 17)
    values = np.zeros((17, 17))
    values[0, 0] = np.nan
    predicted = nested.predict(values, nested.finest, LINEAR)
    assert np.argwhere(np.isnan(predicted)).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_line_has_one_row_or_one_column():
    line = NestedGrids(Grid(Axis(-1.0, 1.0, 21), None))
    assert line.shape == (1, 21)
    values = line.alphas[None, :] ** 3
    known = line.levels <= 2
    assert np.allclose(line.fill(np.where(known, values, 9.0), known, CUBIC), values)
    assert NestedGrids(Grid(None, Axis(-1.0, 1.0, 21))).shape == (21, 1)


def test_a_record_survives_json():
    assert Interpolation.from_dict(RECORD.to_dict()) == RECORD


def test_an_error_that_is_not_known_survives_json():
    record = dataclasses.replace(RECORD, errors={"loss_stderr": np.nan})
    assert "null" in record.to_json()
    assert np.isnan(Interpolation.from_dict(record.to_dict()).errors["loss_stderr"])


@pytest.mark.parametrize(
    "change",
    [
        {"tolerance": "small"},
        {"evaluated": 1.5},
        {"rounds": True},
        {"errors": [1]},
        {"errors": {"a": "b"}},
        {"method": None},
        {"more": 1},
    ],
)
def test_a_record_with_other_fields_is_refused(change):
    with pytest.raises(SurfaceFileError, match="--restart"):
        Interpolation.from_dict(RECORD.to_dict() | change)


def test_an_error_without_bound_is_kept():
    record = dataclasses.replace(RECORD, largest_error=np.inf)
    assert record.to_dict()["largest_error"] is None
    assert Interpolation.from_dict(record.to_dict()) == record


def test_a_record_of_two_levels_has_samples_and_no_tolerance():
    record = dataclasses.replace(RECORD, method="two-level", tolerance=None, samples=100)
    assert Interpolation.from_dict(record.to_dict()) == record
    assert "samples" not in RECORD.to_dict()
    assert str(record) == (
        "700 on all samples, 1901 estimated from 100; "
        "largest error 2.50 % at 39 held-out points"
    )


def test_a_record_says_in_words_what_was_saved():
    assert str(RECORD) == (
        "700 evaluated, 1901 interpolated; largest error 2.50 % at 39 held-out points"
    )
    all_of_them = dataclasses.replace(RECORD, evaluated=2601, interpolated=0)
    assert str(all_of_them) == "all 2601 evaluated"
