"""The run: every point once, stored at once, and never lost."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from onnxscape.errors import (
    OnnxscapeError,
    OutputError,
    SpecConflictError,
    SurfaceFileError,
    UsageError,
)
from onnxscape.evaluation.directions import write_directions
from onnxscape.evaluation.engine import start_engine
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.report import (
    EvaluationInterrupted,
    Report,
    Results,
    assembled,
    outline,
    point_count,
    provenance,
)
from onnxscape.storage import (
    PointStore,
    WriterLock,
    check_writable,
    load_landscape,
    save_landscape,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from onnxscape.core.grid import Point
    from onnxscape.core.landscape import Landscape
    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest, OutputOptions


_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class PointSink(Protocol):
    """Where finished points go."""

    def put(self, point: Point, metrics: Mapping[str, float]) -> None:
        """Keep a point."""

    def results(self) -> Results:
        """Return all points kept."""


class _Memory:
    """Points of a run without an output."""

    def __init__(self) -> None:
        self._results: Results = {}

    def put(self, point: Point, metrics: Mapping[str, float]) -> None:
        self._results[point.row, point.column] = metrics

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
    return _evaluate(inputs, None, _Memory(), clock, observer, kept=False)


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
        OnnxscapeError: If the request cannot be carried out.
    """
    clock = _Clock()
    _check_outputs(output)
    with WriterLock(output.path):
        inputs = resolve(request, observer)
        if output.save_directions is not None:
            write_directions(
                output.save_directions, inputs.parameters, inputs.delta, inputs.eta
            )
        existing = None if output.restart else _existing(output.path, inputs)
        clock.lap("start")
        if existing is not None and existing.complete:
            _leftover_store(output)
            count = point_count(inputs)
            observer.note(f"{output.path} is finished: {count} points, nothing to compute")
            return Report(
                landscape=existing, computed=0, reused=count, seconds=dict(clock.seconds)
            )
        opened = PointStore.open(output.path, store_dir=output.store, restart=output.restart)
        with contextlib.closing(opened) as store:
            recorded = _recorded(store, existing, inputs)
            try:
                report = _evaluate(inputs, recorded, store, clock, observer, kept=True)
            except EvaluationInterrupted as interrupt:
                save_landscape(interrupt.report.landscape, output.path)
                raise
            except OnnxscapeError:
                # What went wrong first is what the user must hear of; the points are safe.
                with contextlib.suppress(OnnxscapeError):
                    if store.spec is None:
                        store.remove()  # it did not come to a first point
                    else:
                        _save_what_there_is(inputs, recorded, store, output.path)
                raise
            save_landscape(report.landscape, output.path)
            store.remove()
    return report


def _check_outputs(output: OutputOptions) -> None:
    """Refuse early what could not be written in the end.

    Raises:
        UsageError: If two outputs are one file.
        OutputError: If one of them cannot be written.
    """
    for path in (output.path, output.save_directions):
        if path is not None:
            check_writable(path)
            _refuse_other_kinds(path)
    if output.save_directions is None:
        return
    if output.save_directions.resolve() == output.path.resolve():
        raise UsageError(
            f"expected two files for the surface and the directions, got {output.path} for "
            "both; choose another --save-directions"
        )


def _refuse_other_kinds(path: Path) -> None:
    """Keep a slip, such as `--out model.onnx --restart`, from destroying another file.

    Raises:
        OutputError: If the file is there and is no HDF5 file.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        if file.read(len(_HDF5_SIGNATURE)) != _HDF5_SIGNATURE:
            raise OutputError(
                f"{path} exists and is no HDF5 file; choose another name, or remove it first"
            )


def _existing(path: Path, inputs: EvalInputs) -> Landscape | None:
    """Return the landscape that is in the way; refuse if it is another one.

    Raises:
        OutputError: If the file is no landscape.
        SpecConflictError: If it has another spec.
    """
    if not path.exists():
        return None
    try:
        landscape = load_landscape(path)
    except SurfaceFileError as error:
        raise OutputError(
            f"{path} exists and is not a landscape this version reads ({error}); choose "
            "another --out, or --restart to replace it"
        ) from error
    if landscape.spec is None:
        raise OutputError(
            f"{path} exists and was not made by onnxscape; choose another --out, or --restart "
            "to replace it"
        )
    _refuse_other_spec(landscape.spec, inputs, path)
    return landscape


def _refuse_other_spec(found: EvalSpec, inputs: EvalInputs, where: Path) -> None:
    differences = found.differences(inputs.spec)
    if differences:
        raise SpecConflictError(
            f"{where} holds another landscape; it differs in {'; '.join(differences)}; choose "
            "another --out, or --restart to replace it"
        )


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
        _refuse_other_spec(store.spec, inputs, store.path)
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
    plan = plan or store.plan
    if results and plan is not None:
        save_landscape(assembled(inputs, results, plan, provenance(inputs, None)), path)


def _evaluate(
    inputs: EvalInputs,
    recorded: Plan | None,
    sink: PointSink,
    clock: _Clock,
    observer: Observer,
    *,
    kept: bool,
) -> Report:
    """Return the report after evaluating all points that the sink does not have.

    Raises:
        EvaluationInterrupted: On an interrupt.
    """
    engine = start_engine(inputs, recorded, observer)
    seconds_per_point = engine.evaluator.estimate()
    clock.lap("self_test")
    if isinstance(sink, PointStore) and sink.spec is None:
        sink.begin(inputs.spec, engine.plan, provenance(inputs, engine))
    done = set(sink.results())
    reused = len(done)
    observer.outline(outline(inputs, engine, reused, seconds_per_point))
    total = point_count(inputs)

    def report() -> Report:
        clock.lap("evaluation")
        results = sink.results()  # may hold one more than `done`: interrupts come anywhere
        landscape = assembled(inputs, results, engine.plan, provenance(inputs, engine))
        return Report(
            landscape=landscape,
            computed=len(results) - reused,
            reused=reused,
            seconds=dict(clock.seconds),
        )

    try:
        for point in _points(inputs):
            key = (point.row, point.column)
            if key in done:
                continue
            metrics = engine.evaluator.evaluate(point.alpha, point.beta)
            sink.put(point, metrics)
            done.add(key)
            observer.point(point, metrics, len(done), total)
    except KeyboardInterrupt:
        raise EvaluationInterrupted(report(), kept=kept) from None
    return report()


def _points(inputs: EvalInputs) -> Iterator[Point]:
    """Yield the center, then the grid from coarse to fine."""
    center = inputs.spec.grid.center()
    yield center
    for point in inputs.spec.grid.points():
        if (point.row, point.column) != (center.row, center.column):
            yield point


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now
