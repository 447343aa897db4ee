"""Runs that evaluate only where interpolation is not enough."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import h5py
import numpy as np
import pytest

from onnxscape import evaluate, load
from onnxscape.core.grid import Grid, Point
from onnxscape.core.interpolation import Interpolation
from onnxscape.errors import SpecConflictError, SurfaceFileError, UsageError
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.evaluation.run import run_in_memory
from onnxscape.storage import PointStore

ADAPTIVE = {"adaptive": True, "tolerance": 0.2}
RADIUS = 0.4
GRIDS = ["17x15", "65", "18x18"]
"""With an uneven grid, a line, and a grid without its center."""


@pytest.fixture
def request_of(request_of):
    """Returns the shared request near the center, in the way that is fast if it is tiny."""

    def build(grid="3x3", **options):
        request = request_of(grid, **{"strategy": "overriding", **options})
        return dataclasses.replace(request, grid=Grid.parse(grid, RADIUS))

    return build


@pytest.mark.parametrize("grid", GRIDS)
def test_evaluated_points_are_exact_and_the_others_close(whole, grid):
    landscape, truth = whole(grid, **ADAPTIVE), whole(grid)
    at = landscape.evaluated
    assert 0.1 < at.mean() < 0.95
    for name, values in truth.surfaces.items():
        assert np.array_equal(landscape.surfaces[name][at], values[at], equal_nan=True)
        assert np.isfinite(landscape.surfaces[name]).all()
    off = np.abs(landscape.loss - truth.loss) / truth.loss
    assert (off > 0.2).mean() < 0.01  # verified at random points, not proven at all
    assert landscape.complete
    record = landscape.interpolation
    assert (record.evaluated, record.interpolated) == (at.sum(), (~at).sum())
    assert 0 < record.largest_error <= record.tolerance == 0.2
    assert record.held_out >= 20
    assert set(record.errors) == {"accuracy", "loss_stderr"}
    assert landscape.center == truth.center


def test_accuracy_stays_a_fraction_and_its_error_is_told(whole):
    landscape, truth = whole(**ADAPTIVE), whole()
    assert landscape.accuracy.min() >= 0
    assert landscape.accuracy.max() <= 1
    off = np.abs(landscape.accuracy - truth.accuracy).max()
    assert landscape.interpolation.errors["accuracy"] > 0
    assert off < 0.2


@pytest.mark.parametrize("grid", GRIDS)
def test_a_finished_file_tells_what_was_interpolated(run, surface, grid, identical):
    report = run(grid=grid, **ADAPTIVE)
    identical(load(surface), report.landscape)
    with h5py.File(surface) as file:
        assert file.attrs["complete"]
        assert np.array_equal(file["evaluated"][()].astype(bool), report.landscape.evaluated)
        assert np.isfinite(file["loss"][()]).all()
        told = json.loads(file.attrs["interpolation"])
    assert told["tolerance"] == 0.2
    assert told["evaluated"] == report.landscape.evaluated.sum()
    assert Interpolation.from_dict(told) == report.landscape.interpolation


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("after", [5, 90, -1])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    run, whole, recorder, surface, grid, after, identical
):
    undisturbed = whole(grid, **ADAPTIVE)
    count = undisturbed.interpolation.evaluated + (grid == "18x18")
    after = min(after, count - 1) if after > 0 else count - 3  # among the held-out points
    with pytest.raises(EvaluationInterrupted) as stop:
        run(recorder(after), grid=grid, **ADAPTIVE)
    partial = stop.value.report.landscape
    assert partial.interpolation is None
    assert not partial.complete
    assert not load(surface).complete
    report = run(grid=grid, **ADAPTIVE)
    assert (report.computed, report.reused) == (count - after, after)
    identical(report.landscape, undisturbed)
    assert not PointStore.location(surface).exists()


def test_a_run_that_is_killed_again_and_again_goes_on_to_the_same_bits(
    run, whole, recorder, surface, identical
):
    class Killed(BaseException):
        """Ends the run as kill -9 would: nothing is saved on the way out."""

    class Killer(recorder):
        def point(self, point, metrics, done, total):
            super().point(point, metrics, done, total)
            if len(self.points) == 25:
                raise Killed

    kills = 0
    while True:
        try:
            report = run(Killer(), grid="17x15", **ADAPTIVE)
        except Killed:
            kills += 1
            continue
        break
    assert kills >= 4
    identical(report.landscape, whole(**ADAPTIVE))


def test_a_partial_surface_replaces_a_lost_store(run, whole, recorder, surface, identical):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(100), grid="17x15", **ADAPTIVE)
    PointStore.location(surface).unlink()
    report = run(grid="17x15", **ADAPTIVE)
    assert report.reused == 100
    identical(report.landscape, whole(**ADAPTIVE))


def test_a_finished_landscape_is_not_computed_again(run, recorder, identical):
    first = run(grid="17x15", **ADAPTIVE)
    observer = recorder()
    again = run(observer, grid="17x15", **ADAPTIVE)
    assert again.computed == 0
    assert again.reused == first.computed
    assert "nothing to compute" in observer.notes[0]
    identical(again.landscape, first.landscape)


def test_every_point_is_evaluated_once_and_counted(request_of, recorder):
    observer = recorder()
    run_in_memory(request_of("17x15", **ADAPTIVE), observer)
    places = [(point.row, point.column) for point, *_ in observer.points]
    assert len(set(places)) == len(places)
    assert [done for *_, done, _ in observer.points] == list(range(1, len(places) + 1))
    assert all(done <= total for *_, done, total in observer.points)
    assert observer.points[-1][2] == observer.points[-1][3]
    assert observer.outlines[0].at_most


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, ADAPTIVE, r"tolerance \(none, not 0.2\)"),
        (ADAPTIVE, {}, r"tolerance \(0.2, not none\)"),
        (ADAPTIVE, {"adaptive": True}, r"tolerance \(0.2, not 0.05\)"),
    ],
)
def test_another_tolerance_is_another_landscape(run, recorder, before, after, named):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(3), grid="17x15", **before)
    with pytest.raises(SpecConflictError, match=named):
        run(grid="17x15", **after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.1}, "add --adaptive"),
        ({"adaptive": True, "tolerance": 0.0}, "above 0 such as 0.05, got 0"),
        ({"adaptive": True, "tolerance": -1.0}, "got -1"),
        ({"adaptive": True, "tolerance": np.nan}, "got nan"),
    ],
)
def test_a_tolerance_without_sense_is_refused(request_of, recorder, options, message):
    with pytest.raises(UsageError, match=message):
        run_in_memory(request_of(**options), recorder())


def test_the_python_interface_takes_the_same_options(
    reference, digits_arrays, whole, identical
):
    landscape = evaluate(
        reference / "model.onnx",
        digits_arrays,
        grid="17x15",
        radius=RADIUS,
        samples=40,
        threads=1,
        strategy="overriding",
        **ADAPTIVE,
    )
    identical(landscape, whole(**ADAPTIVE))
    assert landscape.spec.tolerance == 0.2


def test_a_damaged_record_is_refused(run, surface):
    run(grid="17x15", **ADAPTIVE)
    with h5py.File(surface, "r+") as file:
        file.attrs["interpolation"] = '{"method": "adaptive"}'
    with pytest.raises(SurfaceFileError, match="stored interpolation"):
        load(surface)


def test_points_that_nobody_asked_for_change_nothing(run, whole, recorder, surface, identical):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(3), grid="17x15", **ADAPTIVE)
    more = np.argwhere(~whole(**ADAPTIVE).evaluated)[:5]
    with contextlib.closing(PointStore.open(surface)) as store:
        metrics = next(iter(store.results().values()))
        for row, column in more.tolist():
            store.put(Point(row, column, 0.0, 0.0), dict.fromkeys(metrics, 7.0))
    identical(run(grid="17x15", **ADAPTIVE).landscape, whole(**ADAPTIVE))
