"""The run: every point once, stored at once, and never lost."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from onnxscape.errors import OnnxscapeError, OutOfMemoryError
from onnxscape.evaluation.assembly import Results, assembled
from onnxscape.evaluation.engine import start_engine
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.output import (
    check_outputs,
    existing_landscape,
    refuse_other_choices,
    refuse_other_spec,
    save_directions,
)
from onnxscape.evaluation.progress import Progress
from onnxscape.evaluation.report import (
    EvaluationInterrupted,
    Report,
    evaluated_points,
    outline,
    point_count,
    provenance,
    warn_of_clamping,
)
from onnxscape.evaluation.schedule import make_schedule
from onnxscape.storage import (
    PointStore,
    WriterLock,
    save_landscape,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from onnxscape.core.grid import Point
    from onnxscape.core.landscape import Landscape
    from onnxscape.core.plan import Plan
    from onnxscape.evaluation.engine import Engine
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest, OutputOptions


class PointSink(Protocol):
    """Where finished points go."""

    def put(self, point: Point, metrics: Mapping[str, float]) -> None:
        """Keep a point."""

    def replan(self, plan: Plan) -> None:
        """Record the plan of the points to come."""

    def results(self) -> Results:
        """Return all points kept."""


class _Memory:
    """Points of a run without an output."""

    def __init__(self) -> None:
        self._results: Results = {}

    def put(self, point: Point, metrics: Mapping[str, float]) -> None:
        self._results[point.row, point.column] = metrics

    def replan(self, plan: Plan) -> None:
        """Nothing is recorded."""

    def results(self) -> Results:
        return self._results


def run_in_memory(request: EvalRequest, observer: Observer) -> Report:
    """Evaluate a landscape without writing anything.

    Args:
        request: What to evaluate.
        observer: Told what happens.

    Returns:
        The report.

    Raises:
        EvaluationInterrupted: On an interrupt, with the points so far.
        OnnxscapeError: If the request cannot be carried out.
    """
    clock = _Clock()
    inputs = resolve(request, observer)
    clock.lap("start")
    report = _evaluate(inputs, None, _Memory(), clock, observer)
    warn_of_clamping(report.landscape, len(inputs.samples), observer)
    return report


def run_to_file(request: EvalRequest, output: OutputOptions, observer: Observer) -> Report:
    """Evaluate a landscape into a surface file, going on where an earlier run stopped.

    Args:
        request: What to evaluate.
        output: Where it goes.
        observer: Told what happens.

    Returns:
        The report. A finished landscape of the same spec is returned as it is.

    Raises:
        UsageError: If the surface and the directions would be one file.
        SpecConflictError: If the output holds a landscape of another spec or plan.
        OutputError: If the output cannot be written, or is being written.
        StorageError: If storage fails on the way; finished points are kept.
        EvaluationInterrupted: On an interrupt; the surface so far is written.
        KeyboardInterrupt: On an interrupt before the first point.
        OnnxscapeError: If the request cannot be carried out.
    """
    clock = _Clock()
    check_outputs(request, output)
    with WriterLock(output.path):
        inputs = resolve(request, observer)
        existing = None if output.restart else existing_landscape(output.path, inputs.spec)
        target = output.save_directions
        if target is not None and save_directions(target, inputs):
            observer.note(f"wrote the directions to {target}")
        clock.lap("start")
        if existing is not None and existing.complete:
            refuse_other_choices(request, existing.plan)
            _leftover_store(output)
            count = evaluated_points(existing)
            observer.note(f"{output.path} is finished: {count} points, nothing to compute")
            warn_of_clamping(existing, len(inputs.samples), observer)
            return Report(
                landscape=existing, computed=0, reused=count, seconds=dict(clock.seconds)
            )
        opened = PointStore.open(output.path, store_dir=output.store, restart=output.restart)
        with contextlib.closing(opened) as store:
            recorded = _recorded(store, existing, inputs)
            try:
                old = output.path if output.restart else None
                report = _evaluate(inputs, recorded, store, clock, observer, replaced=old)
            except (KeyboardInterrupt, OnnxscapeError) as stop:
                # What stopped the run is what the user must hear of; the points are safe.
                with contextlib.suppress(OnnxscapeError):
                    if not store.results():
                        store.remove()  # it did not come to a first point
                    elif isinstance(stop, EvaluationInterrupted):
                        save_landscape(stop.report.landscape, output.path)
                    else:
                        _save_what_there_is(inputs, recorded, store, output.path)
                raise
            save_landscape(report.landscape, output.path)
            store.remove()
    warn_of_clamping(report.landscape, len(inputs.samples), observer)
    return report


def _leftover_store(output: OutputOptions) -> None:
    """Remove the store of a run that died between its last two steps."""
    if PointStore.location(output.path, output.store).exists():
        with contextlib.closing(PointStore.open(output.path, store_dir=output.store)) as store:
            store.remove()


def _recorded(
    store: PointStore, existing: Landscape | None, inputs: EvalInputs
) -> Plan | None:
    """Return the plan of the points that are there, all of them now in the store."""
    if store.spec is not None:
        refuse_other_spec(store.spec, inputs.spec, store.path)
        return store.plan
    if existing is None or existing.plan is None:
        return None
    # The store is gone but a partial surface is there: its points count as well.
    store.begin(inputs.spec, existing.plan, {})
    for point in inputs.spec.grid.points():
        index = inputs.spec.grid.index(point)
        if existing.evaluated[index]:
            store.put(point, {name: float(s[index]) for name, s in existing.surfaces.items()})
    return existing.plan


def _save_what_there_is(
    inputs: EvalInputs, plan: Plan | None, store: PointStore, path: Path
) -> None:
    results = store.results()
    plan = store.plan or plan  # it may have changed on the way
    if results and plan is not None:
        save_landscape(assembled(inputs.spec, results, plan, provenance(inputs, None)), path)


def _evaluate(
    inputs: EvalInputs,
    recorded: Plan | None,
    sink: PointSink,
    clock: _Clock,
    observer: Observer,
    *,
    replaced: Path | None = None,
) -> Report:
    """Return the report after evaluating all points that the sink does not have.

    Args:
        inputs: What to evaluate.
        recorded: The plan of the points that are there.
        sink: Where points go.
        clock: Told of the phases.
        observer: Told of the points.
        replaced: An old surface to remove as soon as the new landscape has begun: beside a
            store that has begun it would be in the way of going on.

    Raises:
        EvaluationInterrupted: On an interrupt.
    """
    found = sink.results()
    progress, schedule = Progress(inputs.spec.grid), make_schedule(inputs.spec)
    for (row, column), metrics in found.items():
        progress.add(row, column, metrics["loss"])
    engine = start_engine(inputs, recorded, observer, point_count(inputs) - len(found))
    clock.lap("self_test")
    if recorded is not None and engine.plan != recorded:
        sink.replan(engine.plan)
    if isinstance(sink, PointStore) and sink.spec is None:
        sink.begin(inputs.spec, engine.plan, provenance(inputs, engine))
        if replaced is not None:
            replaced.unlink(missing_ok=True)
    reused = len(found)
    observer.outline(outline(inputs, engine, found))

    def report(*, finished: bool) -> Report:
        clock.lap("evaluation")
        results = sink.results()  # may hold one more than `found`: interrupts come anywhere
        landscape = assembled(inputs.spec, results, engine.plan, provenance(inputs, engine))
        return Report(
            landscape=schedule.finished(landscape) if finished else landscape,
            computed=len(results) - reused,
            reused=reused,
            seconds=dict(clock.seconds),
        )

    def tell(point: Point, metrics: Mapping[str, float]) -> None:
        observer.point(point, metrics, progress.count, schedule.total)

    try:
        for points in schedule.rounds(progress):
            _finish(points, engine, sink, progress, tell, observer)
    except KeyboardInterrupt:
        raise EvaluationInterrupted(report(finished=False)) from None
    return report(finished=True)


def _finish(
    points: Iterable[Point],
    engine: Engine,
    sink: PointSink,
    progress: Progress,
    tell: Callable[[Point, Mapping[str, float]], None],
    observer: Observer,
) -> None:
    """Evaluate all points of a round that are not there.

    Args:
        points: The round; may be gone through again.
        engine: Evaluates them.
        sink: Where they go.
        progress: Knows which are there.
        tell: Told of each point.
        observer: Told of what goes wrong without ending the run.
    """

    def keep(point: Point, metrics: Mapping[str, float]) -> None:
        sink.put(point, metrics)
        progress.add(point.row, point.column, metrics["loss"])

    while True:
        missing = progress.missing(points)
        try:
            with contextlib.closing(engine.evaluate(missing, keep)) as evaluated:
                for point, metrics in evaluated:
                    keep(point, metrics)
                    tell(point, metrics)
        except OutOfMemoryError as error:
            short = str(error)
        else:
            return
        # Others take memory of a shared GPU, too. (Here the error holds nothing any more.)
        engine.shrink()
        sink.replan(engine.plan)
        observer.warning(
            f"{short}: going on with batches of {engine.plan.batch}; the last bits of new "
            "points may differ"
        )


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now
