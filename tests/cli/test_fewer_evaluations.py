"""The options that save evaluations, on the digits network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxscape import load

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def digits(here):
    """Returns the arguments of an evaluation of the digits network near its center."""
    del here

    def build(*more, grid="17x15", samples="40"):
        return [
            *("eval", str(MODELS / "digits_cnn.onnx"), "--data", "digits"),
            *("--grid", grid, "--radius", "0.4", "--samples", samples),
            *("--threads", "1", "--strategy", "overriding", "--out", "s.h5"),
            *map(str, more),
        ]

    return build


def test_an_adaptive_plane_says_what_it_saved(cli, digits, here):
    result = cli(*digits("--adaptive", "--tolerance", "0.1", "--no-plot"))
    assert (result.status, result.err) == (0, "")
    landscape = load("s.h5")
    evaluated = int(landscape.evaluated.sum())
    assert 81 < evaluated < 255
    assert "points      at most 255" in result.out
    assert "estimate    at most " in result.out
    assert f"points      {evaluated} evaluated, {255 - evaluated} interpolated" in result.out
    assert "held-out points" in result.out
    assert landscape.complete
    assert np.isfinite(landscape.loss).all()
    assert landscape.spec.tolerance == 0.1


def test_json_holds_the_error_and_what_was_saved(cli, digits):
    result = cli(*digits("--adaptive", "--json", "--no-plot", grid="65"))
    told = json.loads(result.out)
    record = told["interpolation"]
    assert record["evaluated"] + record["interpolated"] == 65
    assert record["evaluated"] == told["points"] == told["points_computed"] < 65
    assert 0 < record["largest_error"] <= record["tolerance"] == 0.05
    assert told["spec"]["tolerance"] == 0.05
    assert told["complete"]
    assert told["points_not_finite"] == 0


def test_json_of_a_run_that_evaluates_everything_says_null(cli, digits):
    told = json.loads(cli(*digits("--json", "--no-plot", grid="5")).out)
    assert told["interpolation"] is None
    assert "tolerance" not in told["spec"]


@pytest.mark.parametrize("grid", ["17x15", "65"])
def test_pictures_are_drawn_from_interpolated_points(cli, digits, here, grid):
    assert cli(*digits("--adaptive", "--tolerance", "0.1", grid=grid)).status == 0
    assert len(list(here.glob("*.png"))) == (1 if grid == "65" else 4)


def test_a_finished_adaptive_run_is_said_to_be_finished(cli, digits):
    cli(*digits("--adaptive", "--no-plot", grid="65"))
    evaluated = int(load("s.h5").evaluated.sum())
    again = cli(*digits("--adaptive", "--no-plot", grid="65"))
    assert f"s.h5 is finished: {evaluated} points, nothing to compute" in again.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tolerance", "0.1"), "add --adaptive"),
        (("--adaptive", "--tolerance", "0"), "above 0 such as 0.05, got 0"),
    ],
)
def test_a_tolerance_without_sense_is_bad_usage(cli, digits, options, message):
    result = cli(*digits(*options))
    assert result.status == 2
    assert message in result.error()


def test_samples_are_added_until_the_standard_error_is_reached(cli, digits):
    result = cli(*digits("--stderr", "0.05", "--no-plot", grid="5x5", samples="auto"))
    assert (result.status, result.err) == (0, "")
    assert "samples     at most 1438 of 1438" in result.out
    landscape = load("s.h5")
    used = landscape.surfaces["samples_used"]
    assert set(np.unique(used)) <= {128.0, 256.0, 512.0, 1024.0, 1438.0}
    assert used.min() < used.max()
    assert (landscape.loss_stderr < 0.05).all()
    assert landscape.spec.stderr == 0.05


def test_two_levels_say_what_was_estimated_and_how_well(cli, digits, here):
    result = cli(*digits("--two-level", "10"))
    assert (result.status, result.err) == (0, "")
    landscape = load("s.h5")
    evaluated = int(landscape.evaluated.sum())
    assert f"samples     40 of 1438 at {evaluated} points, 10 at the others" in result.out
    told = f"points      {evaluated} on all samples, {255 - evaluated} estimated from 10; "
    assert told + "largest error" in result.out
    assert "subset_loss" not in result.out
    assert landscape.complete
    assert np.isfinite(landscape.loss).all()
    assert landscape.spec.two_level == 10
    assert len(list(here.glob("*.png"))) == 4


def test_json_of_two_levels_holds_the_error_and_what_was_saved(cli, digits):
    told = json.loads(cli(*digits("--two-level", "10", "--json", "--no-plot", grid="65")).out)
    record = told["interpolation"]
    assert (record["method"], record["samples"]) == ("two-level", 10)
    assert record["evaluated"] + record["interpolated"] == 65
    assert told["points"] == told["points_computed"] == 65
    assert told["spec"]["two_level"] == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--two-level", "40"), "from 1 to 39, fewer than the 40 of this run, got 40"),
        (("--two-level", "10", "--adaptive"), "one of --two-level and --adaptive, got both"),
    ],
)
def test_two_levels_without_sense_are_bad_usage(cli, digits, options, message):
    result = cli(*digits(*options))
    assert result.status == 2
    assert message in result.error()


def test_auto_samples_without_a_standard_error_are_bad_usage(cli, digits):
    result = cli(*digits(samples="auto"))
    assert result.status == 2
    assert "--samples auto needs --stderr" in result.error()
