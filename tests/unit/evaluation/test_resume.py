"""Interrupts, and the runs that go on: never a point twice, never another bit."""

from __future__ import annotations

import contextlib
import dataclasses

import h5py
import numpy as np
import pytest

from onnxscape import load
from onnxscape.core.plan import Plan
from onnxscape.errors import (
    OutputError,
    SpecConflictError,
    StorageError,
    SurfaceFileError,
    UsageError,
)
from onnxscape.evaluation.output import refuse_other_choices
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.evaluation.run import run_in_memory
from onnxscape.storage import PointStore


@pytest.fixture
def surface(tmp_path):
    return tmp_path / "surface.h5"


@pytest.fixture
def interrupted(run, recorder):
    """Interrupts a run after some points and returns its report."""

    def start(after, **options):
        with pytest.raises(EvaluationInterrupted) as interrupt:
            run(recorder(after), **options)
        return interrupt.value.report

    return start


@pytest.fixture
def whole(request_of, recorder):
    """Evaluates a request without interruption."""
    return lambda grid="3x3", **options: (
        run_in_memory(request_of(grid, **options), recorder()).landscape
    )


def identical(a, b):
    assert a.surfaces.keys() == b.surfaces.keys()
    for name, surface in a.surfaces.items():
        assert np.array_equal(surface, b.surfaces[name], equal_nan=True), name
    assert np.array_equal(a.evaluated, b.evaluated)
    assert a.center == b.center


@pytest.mark.parametrize("after", [1, 4, 8])
@pytest.mark.parametrize(("grid", "total"), [("3x3", 9), ("4x3", 13), ("9", 9)])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    run, interrupted, whole, surface, recorder, after, grid, total
):
    report = interrupted(after, grid=grid)
    assert (report.computed, report.reused) == (after, 0)
    kept = load(surface)
    assert not kept.complete
    off_grid = total - kept.evaluated.size
    assert np.count_nonzero(kept.evaluated) == after - off_grid
    assert np.isnan(kept.loss[~kept.evaluated]).all()
    assert kept.center["loss"] == report.landscape.center["loss"]

    observer = recorder()
    report = run(observer, grid=grid)
    assert (report.computed, report.reused) == (total - after, after)
    assert len(observer.points) == total - after
    assert observer.outlines[0].reused == after
    assert observer.points[-1][2:] == (total, total)
    identical(report.landscape, whole(grid))
    identical(load(surface), report.landscape)
    assert load(surface).complete


def test_many_interrupts_cost_no_point(run, interrupted, whole):
    for _ in range(8):
        assert interrupted(1).computed == 1
    report = run()
    assert (report.computed, report.reused) == (1, 8)
    identical(report.landscape, whole())


def test_a_finished_run_leaves_only_the_surface(run, interrupted, surface):
    interrupted(3)
    store = PointStore.location(surface)
    assert store.exists()
    run()
    assert sorted(path.name for path in surface.parent.iterdir()) == [surface.name]


def test_a_finished_surface_is_not_computed_again(run, surface, recorder):
    first = run()
    before = surface.read_bytes()
    observer = recorder()
    report = run(observer)
    assert (report.computed, report.reused) == (0, 9)
    assert observer.points == observer.outlines == []
    assert "nothing to compute" in observer.notes[0]
    assert surface.read_bytes() == before
    identical(report.landscape, first.landscape)


def test_a_store_left_beside_a_finished_surface_is_removed(run, surface):
    run()
    PointStore.open(surface).close()
    assert PointStore.location(surface).exists()
    run()
    assert not PointStore.location(surface).exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 7}, r"seed \(0, not 7\)"),
        ({"grid": "5x3"}, r"x \(-1:1:3, not -1:1:5\)"),
        ({"samples": 41}, r"samples \(40, not 41\)"),
        ({"seed": 7, "samples": 41}, r"samples.*; seed"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_spec_is_refused_by_its_fields(run, interrupted, changes, named, finished):
    if finished:
        run()
    else:
        interrupted(3)
    with pytest.raises(SpecConflictError, match=named):
        run(**changes)


def test_another_model_is_refused(run, interrupted, reference):
    interrupted(3)
    with pytest.raises(SpecConflictError, match=r"differs in model \("):
        run(model=reference / "model_bn_folded.onnx")


def test_a_store_alone_refuses_another_spec(run, interrupted, surface):
    interrupted(3)
    surface.unlink()
    with pytest.raises(SpecConflictError, match="seed"):
        run(seed=7)


def test_a_refused_run_leaves_everything_as_it_was(run, interrupted, surface):
    interrupted(3)
    before = surface.read_bytes()
    with pytest.raises(SpecConflictError):
        run(seed=7)
    assert surface.read_bytes() == before
    assert run().reused == 3


@pytest.mark.parametrize("finished", [True, False])
def test_restart_computes_all_points_anew(run, interrupted, whole, surface, finished):
    if finished:
        run()
    else:
        interrupted(3)
    report = run(output={"restart": True}, seed=7)
    assert (report.computed, report.reused) == (9, 0)
    identical(load(surface), whole(seed=7))


def test_restart_replaces_a_damaged_store(run, interrupted, surface):
    interrupted(3)
    PointStore.location(surface).write_bytes(b"no database")
    with pytest.raises(SurfaceFileError, match="--restart"):
        run()
    assert run(output={"restart": True}).computed == 9


def test_an_interrupted_restart_keeps_its_own_points(run, interrupted):
    run()
    assert interrupted(2, output={"restart": True}, seed=7).reused == 0
    assert run(seed=7).reused == 2


@pytest.mark.parametrize("grid", ["3x3", "9"])
def test_a_partial_surface_replaces_a_lost_store(run, interrupted, whole, surface, grid):
    interrupted(4, grid=grid)
    PointStore.location(surface).unlink()
    report = run(grid=grid)
    assert (report.computed, report.reused) == (5, 4)
    identical(report.landscape, whole(grid))


def test_a_center_off_the_grid_is_evaluated_again_if_the_store_is_lost(
    run, interrupted, whole, surface
):
    interrupted(4, grid="4x3")
    PointStore.location(surface).unlink()
    report = run(grid="4x3")
    assert (report.computed, report.reused) == (10, 3)
    identical(report.landscape, whole("4x3"))


def test_a_store_in_another_folder_is_used_again(run, interrupted, tmp_path, surface):
    folder = tmp_path / "fast"
    folder.mkdir()
    interrupted(3, output={"store": folder})
    surface.unlink()
    assert not PointStore.location(surface).exists()
    assert run(output={"store": folder}).reused == 3
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("explicit", "other", "named"),
    [
        (
            {"strategy": "overriding"},
            {"strategy": "constant"},
            r"strategy \(overriding, not constant\)",
        ),
        ({}, {"strategy": "overriding"}, r"strategy \(constant, not overriding\)"),
        ({"batch_size": 16}, {"batch_size": 8}, r"batch \(16, not 8\)"),
    ],
)
def test_an_explicit_choice_against_the_recorded_plan_is_refused(
    run, interrupted, explicit, other, named
):
    interrupted(3, **explicit)
    with pytest.raises(SpecConflictError, match=f"another plan: {named}.*--restart"):
        run(**other)
    assert run(**explicit).reused == 3


@pytest.mark.parametrize(
    ("asked", "recorded", "fits"),
    [
        ({}, "OpenVINOExecutionProvider", True),
        ({"device": "openvino"}, "OpenVINOExecutionProvider", True),
        ({"device": "cpu"}, "OpenVINOExecutionProvider", False),
        ({"device": "cuda:1"}, "CUDAExecutionProvider", True),
        ({"provider": "XnnpackExecutionProvider"}, "XnnpackExecutionProvider", True),
        ({"provider": "XnnpackExecutionProvider"}, "CPUExecutionProvider", False),
    ],
)
def test_a_finished_surface_is_compared_by_the_provider_that_is_asked_for(
    request_of, asked, recorded, fits
):
    plan = Plan(
        provider=recorded, strategy="constant", batch=40, folded=True, runtime="", machine=""
    )
    expected = contextlib.nullcontext()
    if not fits:
        expected = pytest.raises(SpecConflictError, match=rf"provider \({recorded}, not ")
    with expected:
        refuse_other_choices(dataclasses.replace(request_of(), **asked), plan)


def test_the_recorded_plan_is_used_again_without_its_flags(run, interrupted, whole):
    flags = {"strategy": "overriding", "batch_size": 16}
    interrupted(3, **flags)
    report = run()
    assert (report.landscape.plan.strategy, report.landscape.plan.batch) == ("overriding", 16)
    identical(report.landscape, whole(**flags))


def test_points_from_another_machine_are_reused_with_a_warning(
    run, interrupted, recorder, monkeypatch
):
    interrupted(3)
    monkeypatch.setattr("onnxscape.runtime.devices._processor", lambda: "another processor")
    observer = recorder()
    assert run(observer).reused == 3
    (warning,) = observer.warnings
    assert "computed elsewhere: machine (" in warning
    assert ", not another processor);" in warning


def test_threads_are_no_part_of_spec_or_plan(run, interrupted, whole):
    interrupted(3, threads=1)
    report = run(threads=2)
    assert report.reused == 3
    identical(report.landscape, whole(threads=1))


@pytest.mark.parametrize("content", [b"", b"no HDF5 file at all"])
def test_a_file_that_is_no_surface_is_not_overwritten(run, surface, content):
    surface.write_bytes(content)
    with pytest.raises(OutputError, match="exists and is not a landscape"):
        run()
    assert surface.read_bytes() == content


def test_not_even_restart_overwrites_a_file_of_another_kind(run, surface, reference):
    content = (reference / "model.onnx").read_bytes()
    surface.write_bytes(content)
    with pytest.raises(OutputError, match="so not even --restart replaces it"):
        run(output={"restart": True})
    assert surface.read_bytes() == content


def test_a_surface_of_the_reference_is_not_overwritten(run, surface, reference):
    content = (reference / "surface_2d.h5").read_bytes()
    surface.write_bytes(content)
    with pytest.raises(OutputError, match="not made by onnxscape"):
        run()
    assert surface.read_bytes() == content


def test_failing_storage_keeps_the_points_before_it(run, whole, surface, monkeypatch):
    put, calls = PointStore.put, []

    def failing(store, point, metrics):
        calls.append(point)
        if len(calls) == 5:
            raise StorageError("the disk is full")
        put(store, point, metrics)

    monkeypatch.setattr(PointStore, "put", failing)
    with pytest.raises(StorageError, match="the disk is full"):
        run()
    assert np.count_nonzero(load(surface).evaluated) == 4
    monkeypatch.undo()
    report = run()
    assert (report.computed, report.reused) == (5, 4)
    identical(report.landscape, whole())


def test_an_interrupt_in_memory_hands_over_what_there_is(request_of, recorder, whole):
    with pytest.raises(EvaluationInterrupted) as interrupt:
        run_in_memory(request_of("3x3"), recorder(5))
    landscape = interrupt.value.report.landscape
    assert np.count_nonzero(landscape.evaluated) == 5
    expected = whole()
    assert np.array_equal(
        landscape.loss[landscape.evaluated], expected.loss[landscape.evaluated]
    )


def test_the_first_points_are_the_center_and_the_corners(run, recorder):
    observer = recorder()
    run(observer, grid="5x5")
    first = [(point.alpha, point.beta) for point, *_ in observer.points[:9]]
    assert first[0] == (0.0, 0.0)
    assert set(first) == {(a, b) for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0)}
    assert [done for *_, done, _ in observer.points] == list(range(1, 26))


def test_a_restart_that_is_killed_goes_on_without_restarting_again(run, surface, recorder):
    run(seed=1)

    class Killed(BaseException):
        """Ends the run as kill -9 would: nothing is saved on the way out."""

    class Killer(recorder):
        def point(self, point, metrics, done, total):
            if done == 4:
                raise Killed

    with pytest.raises(Killed):
        run(Killer(), seed=2, output={"restart": True})
    report = run(seed=2)
    assert (report.computed, report.reused) == (5, 4)


def test_an_interrupt_before_the_first_point_leaves_nothing(run, surface, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxscape.evaluation.run.start_engine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(surface.parent.iterdir()) == []


def test_a_finished_surface_refuses_a_conflicting_choice(run):
    run()
    for choice in ({"strategy": "overriding"}, {"batch_size": 7}, {"device": "cuda"}):
        with pytest.raises(SpecConflictError, match="another plan"):
            run(**choice)


def test_files_that_a_run_reads_are_never_written(run, surface, tmp_path, reference):
    data = tmp_path / "data.h5"
    with h5py.File(data, "w") as file:
        file["x"] = np.zeros((4, 1, 8, 8), dtype=np.float32)
        file["y"] = np.zeros(4, dtype=np.int64)
    before = data.read_bytes()
    with pytest.raises(UsageError, match="is read by this run"):
        run(data=data, samples="all", output={"save_directions": data})
    run()
    with pytest.raises(OutputError, match="does not hold these directions"):
        run(output={"save_directions": data})
    assert data.read_bytes() == before
    target = {"save_directions": tmp_path / "d.h5"}
    run(output=target)
    run(output=target)  # the same directions may stay
    with pytest.raises(OutputError, match="does not hold these directions"):
        run(seed=5, output={**target, "restart": True})
