"""Runs on two levels of samples: a coarse grid on all, the others corrected."""

from __future__ import annotations

import dataclasses
import json

import h5py
import numpy as np
import pytest

import onnxscape as ox
from onnxscape.core.grid import Grid
from onnxscape.core.interpolation import Interpolation
from onnxscape.core.refinement import relative_error
from onnxscape.core.two_level import TwoLevels
from onnxscape.errors import SpecConflictError, UsageError
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.evaluation.run import run_in_memory
from onnxscape.evaluation.two_level import TwoLevel
from onnxscape.runtime.evaluator import Collector
from onnxscape.storage import PointStore
from onnxscape.storage.direction_file import load_directions

ALL = {"samples": 200, "batch_size": 20}
TWO = {**ALL, "two_level": 40}
GRIDS = ["17x15", "65", "18x18"]
"""With an uneven grid, a line, and a grid without its center."""


@pytest.mark.parametrize("grid", GRIDS)
def test_points_on_all_samples_have_their_numbers_and_the_others_those_of_few(whole, grid):
    found, truth, few = (
        whole(grid, **TWO),
        whole(grid, **ALL),
        whole(grid, **ALL | {"samples": 40}),
    )
    at = found.evaluated
    assert np.array_equal(at.ravel(), TwoLevels.of(found.grid).whole.ravel())
    for name, values in truth.surfaces.items():
        assert np.array_equal(found.surfaces[name][at], values[at])
    for name in ("loss", "accuracy"):
        assert np.array_equal(found.surfaces[f"subset_{name}"], few.surfaces[name])
    assert np.array_equal(found.surfaces["samples_used"], np.where(at, 200.0, 40.0))
    assert np.isfinite(found.loss).all()
    assert np.isnan(found.loss_stderr[~at]).all()
    assert found.complete
    assert {name: found.center[name] for name in truth.center} == truth.center
    assert found.center["subset_loss"] == few.center["loss"]


@pytest.mark.parametrize("grid", GRIDS)
def test_estimates_are_nearer_than_the_few_samples_are(whole, grid):
    found, truth = whole(grid, **TWO), whole(grid, **ALL)
    at = ~found.evaluated

    def off(values, true):
        return np.abs(values / true - 1)[at].mean()

    assert off(found.loss, truth.loss) < off(found.surfaces["subset_loss"], truth.loss) / 2
    assert found.accuracy.min() >= 0
    assert found.accuracy.max() <= 1


@pytest.mark.parametrize("grid", GRIDS)
def test_the_reported_error_is_the_true_one_at_the_held_out_points(whole, grid):
    found, truth = whole(grid, **TWO), whole(grid, **ALL)
    levels, record = TwoLevels.of(found.grid), found.interpolation
    shape = levels.nested.shape
    true, few = (s.reshape(shape) for s in (truth.loss, found.surfaces["subset_loss"]))
    log = record.scale == "log"
    estimate = levels.corrected(true, few, log=log)[levels.held_out]
    off = relative_error(estimate, true[levels.held_out], record.floor)
    assert record.largest_error == pytest.approx(off.max(), rel=1e-12)
    assert record.held_out == levels.held_out.sum()
    assert (record.method, record.samples, record.tolerance) == ("two-level", 40, None)
    assert record.evaluated == found.evaluated.sum()
    assert record.interpolated == (~found.evaluated).sum()
    assert set(record.errors) == {"accuracy"}


def test_no_sample_is_evaluated_twice_or_for_nothing(whole, request_of, recorder, monkeypatch):
    counts, add = [], Collector.add

    def counting(collector, results, count, rows):
        counts.append(count)
        add(collector, results, count, rows)

    monkeypatch.setattr(Collector, "add", counting)
    landscape = run_in_memory(request_of("17x15", **TWO), recorder()).landscape
    assert sum(counts) == landscape.surfaces["samples_used"].sum()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("after", [5, 60, -3])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    run, whole, recorder, surface, grid, after, identical
):
    undisturbed = whole(grid, **TWO)
    count = undisturbed.loss.size + (grid == "18x18")
    after = after if after > 0 else count + after
    with pytest.raises(EvaluationInterrupted) as stop:
        run(recorder(after), grid=grid, **TWO)
    partial = stop.value.report.landscape
    assert partial.interpolation is None
    assert not partial.complete
    assert np.isnan(partial.loss[~partial.evaluated]).all()
    assert not ox.load(surface).complete
    report = run(grid=grid, **TWO)
    assert (report.computed, report.reused) == (count - after, after)
    identical(report.landscape, undisturbed)
    identical(ox.load(surface), undisturbed)
    assert not PointStore.location(surface).exists()


def test_a_partial_surface_gives_back_its_points_on_all_samples(
    run, whole, recorder, surface, identical
):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(150), grid="17x15", **TWO)
    PointStore.location(surface).unlink()
    report = run(grid="17x15", **TWO)
    assert report.reused == whole(**TWO).evaluated.sum()
    identical(report.landscape, whole(**TWO))


def test_a_finished_landscape_is_not_computed_again(run, recorder):
    first = run(grid="17x15", **TWO)
    observer = recorder()
    again = run(observer, grid="17x15", **TWO)
    assert (again.computed, again.reused) == (0, first.computed)
    assert "255 points, nothing to compute" in observer.notes[0]


def test_points_side_by_side_give_the_same_bits(whole, identical):
    identical(whole(threads=2, workers=2, **TWO), whole(threads=2, workers=1, **TWO))


@pytest.mark.parametrize("strategy", ["resident", "overriding"])
def test_strategies_agree(whole, strategy):
    found, other = whole(**TWO), whole(strategy=strategy, **TWO)
    assert np.array_equal(found.evaluated, other.evaluated)
    for name, values in found.surfaces.items():
        np.testing.assert_allclose(other.surfaces[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("batch", [16, 64, 256])
def test_no_batch_reaches_over_the_end_of_the_few(whole, batch):
    found, other = whole(**TWO), whole(**TWO | {"batch_size": batch})
    np.testing.assert_allclose(other.loss, found.loss, rtol=1e-5)


def test_all_samples_come_in_the_order_of_the_few(whole):
    found = whole(**TWO | {"samples": "all"})
    few = whole(**ALL | {"samples": 40})
    assert np.array_equal(found.surfaces["subset_loss"], few.loss)
    assert (found.loss_stderr[found.evaluated] == 0).all()


def test_a_finished_file_tells_what_was_estimated(run, surface):
    report = run(grid="17x15", **TWO)
    with h5py.File(surface) as file:
        assert file.attrs["complete"]
        assert np.array_equal(file["evaluated"][()].astype(bool), report.landscape.evaluated)
        told = json.loads(file.attrs["interpolation"])
    assert told["method"] == "two-level"
    assert (told["samples"], told["tolerance"]) == (40, None)
    assert Interpolation.from_dict(told) == report.landscape.interpolation
    evaluated = int(report.landscape.evaluated.sum())
    assert str(report.landscape.interpolation).startswith(
        f"{evaluated} on all samples, {255 - evaluated} estimated from 40; largest error "
    )


def test_the_outline_says_how_many_samples_points_take(request_of, recorder):
    observer = recorder()
    landscape = run_in_memory(request_of("17x15", **TWO), observer).landscape
    assert observer.outlines[0].two_level == (landscape.evaluated.sum(), 40)
    places = [(point.row, point.column) for point, *_ in observer.points]
    assert len(set(places)) == len(places) == 255
    assert places[0] == (7, 8)
    assert [done for *_, done, _ in observer.points] == list(range(1, 256))
    assert {total for *_, total in observer.points} == {255}


@pytest.fixture(scope="module")
def regression(dense_model):
    """A linear model, and data that it does not fit exactly."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 2)).astype(np.float32)
    x = random.normal(size=(60, 6)).astype(np.float32)
    targets = (x @ weight + random.normal(size=(60, 2))).astype(np.float32)
    return dense_model(weight, np.zeros(2)), weight.astype(np.float64), x, targets


def test_squared_errors_of_a_linear_model_are_those_of_the_closed_form(regression, tmp_path):
    model, weight, x, targets = regression
    found = ox.evaluate(
        model,
        (x, targets),
        loss="mse",
        samples="all",
        two_level=7,
        x="-1:1:21",
        y="-2:1:18",
        out=tmp_path / "s.h5",
        save_directions=tmp_path / "d.h5",
    )
    directions = load_directions(tmp_path / "d.h5")
    delta, eta = (
        next(t.array.astype(np.float64) for t in direction if t.name == "weight")
        for direction in (directions.x, directions.y)
    )
    assert (~found.evaluated).sum() > 250
    assert found.interpolation.scale == "linear"
    for row, beta in enumerate(found.betas):
        for column, alpha in enumerate(found.alphas):
            moved = weight + alpha * delta + beta * eta
            true = ((x.astype(np.float64) @ moved - targets) ** 2).mean()
            assert found.loss[row, column] == pytest.approx(true, rel=1e-5)
    assert found.interpolation.largest_error < 1e-5


def test_around_losses_that_are_not_finite_all_samples_are_taken(
    regression, tmp_path, identical
):
    model, _, x, targets = regression
    options = {"loss": "mse", "x": "-1e39:1e39:65", "samples": "all", "batch_size": 7}
    found = ox.evaluate(model, (x, targets), two_level=7, out=tmp_path / "s.h5", **options)
    truth = ox.evaluate(model, (x, targets), **options)
    finite = np.isfinite(truth.loss)
    assert 0 < finite.sum() < 64
    assert np.array_equal(np.isfinite(found.loss), finite)
    assert found.evaluated[~finite].any()
    assert found.complete
    identical(ox.load(tmp_path / "s.h5"), found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"two_level": 0.5}, "as a number of samples such as 100, got 0.5"),
        ({"two_level": 0}, "from 1 to 199, fewer than the 200 of this run, got 0"),
        ({"two_level": 200}, "from 1 to 199, fewer than the 200 of this run, got 200"),
        ({"adaptive": True}, "one of --two-level and --adaptive, got both"),
        (
            {"samples": "auto", "stderr": 0.1},
            "of --two-level and --samples auto, got both",
        ),
    ],
)
def test_options_without_sense_are_refused(request_of, recorder, options, message):
    with pytest.raises(UsageError, match=message):
        run_in_memory(request_of(**TWO | options), recorder())


def test_a_few_samples_without_weight_are_refused(reference, digits_arrays):
    x, y = digits_arrays
    weight = np.zeros(len(x))
    weight[-1] = 1.0  # wherever it comes in the permutation
    data = {"x": x, "y": y, "sample_weight": weight}
    with pytest.raises(UsageError, match="of which one counts, got 1, all of weight 0"):
        ox.evaluate(reference / "model.onnx", data, grid=3, samples="all", two_level=1)


def test_another_number_of_samples_is_another_landscape(run, recorder):
    with pytest.raises(EvaluationInterrupted):
        run(recorder(3), grid="17x15", **TWO)
    with pytest.raises(SpecConflictError, match=r"two_level \(40, not 50\)"):
        run(grid="17x15", **TWO | {"two_level": 50})
    with pytest.raises(SpecConflictError, match=r"two_level \(40, not none\)"):
        run(grid="17x15", **ALL)


@pytest.fixture
def finished(whole):
    """Finishes surfaces [n_beta, n_alpha] that a run with two levels might have evaluated."""

    def landscape(**surfaces):
        spec = dataclasses.replace(whole(**TWO).spec, grid=Grid.parse("33x33"))
        at = TwoLevels.of(spec.grid).whole
        found = dataclasses.replace(
            whole(**TWO), spec=spec, grid=spec.grid, surfaces=surfaces, evaluated=at
        )
        return TwoLevel(spec).finished(found)

    return landscape


def test_a_loss_that_was_nowhere_below_zero_is_not_estimated_to_be(finished):
    zero, bump = np.zeros((33, 33)), np.zeros((33, 33))
    bump[16, 16] = 1.0  # cubics through it swing below
    found = finished(loss=bump, subset_loss=zero)
    assert found.loss.min() == 0.0
    assert found.loss.max() == 1.0
    found = finished(loss=bump - 1e-9, subset_loss=zero)
    assert found.loss.min() < -0.01


def test_numbers_of_samples_are_brought_to_all_samples(finished):
    ones = np.ones((33, 33))
    found = finished(loss=ones, subset_loss=ones, clamped=15 * ones, subset_clamped=3 * ones)
    np.testing.assert_allclose(found.surfaces["clamped"], 15.0)
    found = finished(loss=ones, subset_loss=ones, clamped=200 * ones, subset_clamped=39 * ones)
    np.testing.assert_allclose(found.surfaces["clamped"], 200.0)


def test_an_infinite_error_at_a_held_out_point_is_told(finished, tmp_path):
    ones = np.ones((33, 33))
    loss = np.where(TwoLevels.of(Grid.parse("33x33")).held_out, np.inf, 1.0)
    found = finished(loss=loss, subset_loss=ones)
    assert found.interpolation.largest_error == np.inf
    found.save(tmp_path / "s.h5")
    assert ox.load(tmp_path / "s.h5").interpolation == found.interpolation
