"""The engine of a run: a device, a plan, and an evaluator that passed the self-test."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnxscape.errors import (
    OutOfMemoryError,
    SelfTestError,
    SpecConflictError,
    UnsupportedModelError,
    UsageError,
)
from onnxscape.evaluation.bench import Bench, fastest_on_gpu, shared_out
from onnxscape.graph.prepared import prepare
from onnxscape.runtime import openvino
from onnxscape.runtime.calibration import Calibration, Choice
from onnxscape.runtime.constant_sessions import ConstantSessions
from onnxscape.runtime.devices import Device, device_of, find_device, usable_cores
from onnxscape.runtime.planning import make_plan
from onnxscape.runtime.side_by_side import evaluate_points
from onnxscape.runtime.user_model import UserModel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.core.plan import Plan
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.evaluator import PointEvaluator


@dataclass(slots=True, eq=False)
class Engine:
    """What evaluates the points of a run.

    Attributes:
        evaluator: Evaluates one point; its self-test has passed.
        plan: What defines the bits.
        device: Where it runs.
        threads: Threads that all workers have together.
        calibration: How threads are shared out, and why; on a GPU strategy and batch as well.
        seconds_per_point: Estimate, all workers together.
    """

    evaluator: PointEvaluator
    plan: Plan
    device: Device
    threads: int
    calibration: Calibration
    seconds_per_point: float
    _bench: Bench

    def evaluate(
        self,
        points: Iterable[Point],
        keep: Callable[[Point, Mapping[str, float]], None] | None = None,
    ) -> Generator[tuple[Point, Mapping[str, float]]]:
        """Evaluate points, as many at a time as there are workers.

        Args:
            points: Which.
            keep: Given what is finished and has not come when the iteration is left.

        Returns:
            Yields each point and its metrics as soon as they are there.
        """
        workers = self.calibration.chosen.workers
        return evaluate_points(self.evaluator, points, workers, keep=keep)

    def shrink(self) -> None:
        """Go on with half the batch, or less if that does not fit into memory either.

        Raises:
            OutOfMemoryError: If the batch cannot be smaller: a sample by itself does not fit,
                or the user asked for this one, or the model takes no other.
        """
        half = self._bench.half_of(self.calibration.chosen)
        del self.evaluator  # its memory is wanted
        self.evaluator, choice = self._bench.fitting(half)
        self.plan = replace(self.plan, batch=choice.batch)
        self.calibration = Calibration(chosen=choice, reason="what memory has room for")
        self.seconds_per_point = self.evaluator.estimate()


def start_engine(
    inputs: EvalInputs, recorded: Plan | None, observer: Observer, points: int | None = None
) -> Engine:
    """Prepare the model, choose or take over a plan, and prove that the evaluation is right.

    Args:
        inputs: What to evaluate.
        recorded: The plan of the points that are there already; None for a new landscape.
        observer: Told of warnings.
        points: Points to evaluate; None for the whole grid.

    Returns:
        The engine.

    Raises:
        SpecConflictError: If an explicit choice contradicts the recorded plan.
        UsageError: If a choice is not possible.
        DeviceError: If the device is not there, or has not enough memory.
        SelfTestError: If the prepared model differs from the user's file.
        UnsupportedModelError: If the model cannot be run.
    """
    request = inputs.request
    points = inputs.spec.grid.size if points is None else points
    wanted, provider = _wanted_device(request, recorded)
    device = find_device(wanted, precision=request.precision, provider=provider)
    threads = _threads(request)
    prepared = prepare(
        inputs.file,
        inputs.parameters,
        moved=inputs.moved,
        loss=inputs.objective.loss,
        custom=inputs.objective.custom,
        precision=device.graph_precision,
        exact_softmax=device.exact_softmax,
    )
    plan = _plan(inputs, prepared, device, recorded, observer)
    if prepared.batch is not None:
        observer.note(f"the model was {prepared.batch}")
    user = _user_model(inputs, prepared, threads, observer)
    bench = Bench(inputs, prepared, plan, device, user, observer)
    base = Choice(strategy=plan.strategy, batch=plan.batch, threads=threads)
    settled = recorded is not None or request.strategy is not None
    if device.kind != "cuda":
        evaluator = bench.make(base)
        calibration = shared_out(bench, evaluator, base, points)
        if isinstance(evaluator, ConstantSessions):
            evaluator = evaluator.with_threads(calibration.chosen.threads)
    else:
        evaluator, calibration = _on_gpu(bench, base, points, settled=settled)
        choice = calibration.chosen
        plan = replace(plan, strategy=choice.strategy, batch=choice.batch)
    seconds = calibration.seconds
    if math.isnan(seconds):
        seconds = evaluator.estimate() / calibration.chosen.workers
    if device.kind == "cpu" and recorded is None:
        _advise(request, seconds, observer)
    return Engine(
        evaluator,
        plan,
        device,
        threads,
        calibration,
        seconds,
        bench,
    )


def _on_gpu(
    bench: Bench, base: Choice, points: int, *, settled: bool
) -> tuple[PointEvaluator, Calibration]:
    """Return the evaluator of a GPU, and why it is that one.

    Raises:
        UsageError: If the user asks for several points at a time.
        OutOfMemoryError: If there is too little memory, whatever the batch.
        SelfTestError: If what is computed differs from the user's file.
        UnsupportedModelError: If the model cannot be run.
    """
    workers = bench.inputs.request.workers
    if workers not in {None, 1}:
        raise UsageError(
            f"expected --workers 1 on {bench.device}, got {workers}: a GPU evaluates one "
            "point at a time"
        )
    calibration: Calibration | None
    calibration = Calibration(chosen=base, reason="as recorded, or as asked")
    if not settled:
        try:
            calibration = fastest_on_gpu(bench, base, points)
        except OutOfMemoryError:
            calibration = None
        if calibration is None:  # here no error holds the memory of what was tried
            base = bench.fitting(base)[1]
            calibration = fastest_on_gpu(bench, base, points)
    try:
        evaluator, choice = bench.fitting(calibration.chosen)
    except (SelfTestError, UnsupportedModelError) as error:
        if calibration.chosen == base:
            raise
        bench.observer.warning(f"what was fastest before does not work now ({error})")
        evaluator, choice = bench.fitting(base)
    return evaluator, replace(calibration, chosen=choice)


def _threads(request: EvalRequest) -> int:
    """Return the number of threads within one operator.

    Raises:
        UsageError: If so many make no sense here.
    """
    threads = usable_cores() if request.threads is None else request.threads
    most = max(2 * (os.cpu_count() or 1), 8)
    if not 1 <= threads <= most:
        raise UsageError(f"expected from 1 to {most} threads on this machine, got {threads}")
    return threads


def _plan(
    inputs: EvalInputs,
    prepared: PreparedModel,
    device: Device,
    recorded: Plan | None,
    observer: Observer,
) -> Plan:
    """Return the recorded plan, or a new one.

    Raises:
        SpecConflictError: If an explicit choice contradicts the recorded plan.
        UsageError: If a choice is not possible.
    """
    request = inputs.request
    plan = make_plan(
        inputs.samples,
        device,
        strategy=request.strategy or (recorded.strategy if recorded else None),
        batch=_wanted_batch(request, recorded),
        demanded=prepared.demanded_batch,
        folded=prepared.folded > 0,
        outputs=math.prod(inputs.objective.loss.shape),
    )
    if recorded is None:
        return plan
    _check_recorded(plan, recorded, observer)
    return recorded


def _user_model(
    inputs: EvalInputs, prepared: PreparedModel, threads: int, observer: Observer
) -> UserModel:
    """Return the user's file, which the evaluation is compared with."""
    # Another device's own mistakes would not show if the user's file ran there as well.
    user = UserModel(
        file=inputs.file,
        device=find_device("cpu"),
        threads=threads,
        precision=inputs.request.precision,
        pieces=None if prepared.batch is None else prepared.batch.size,
    )
    refusal = user.refusal()
    if refusal is not None:
        observer.warning(
            "the model cannot be run in its own half floats here, so the center is not "
            f"compared with it, but with the same model in float32 ({refusal})"
        )
    return user


def _advise(request: EvalRequest, seconds: float, observer: Observer) -> None:
    """Say what would be faster, where the user leaves the choice to us."""
    if request.device == "auto" and request.precision == "fp32":
        text = openvino.advice(seconds)
        if text is not None:
            observer.note(text)


def _wanted_device(request: EvalRequest, recorded: Plan | None) -> tuple[str, str | None]:
    """Return the device, or provider, to look for.

    The recorded one, unless the user names another.
    """
    if recorded is None or request.device != "auto" or request.provider is not None:
        return request.device, request.provider
    return device_of(recorded.provider)


def _wanted_batch(request: EvalRequest, recorded: Plan | None) -> int | None:
    if request.batch_size is not None:
        return request.batch_size
    return None if recorded is None else recorded.batch


def _check_recorded(plan: Plan, recorded: Plan, observer: Observer) -> None:
    """Refuse to mix points of two plans in one landscape.

    Raises:
        SpecConflictError: If the plans differ in what the user can choose.
    """
    same_place = replace(plan, runtime=recorded.runtime, machine=recorded.machine)
    differences = recorded.differences(same_place)
    if differences:
        raise SpecConflictError(
            f"the points so far were computed with another plan: {'; '.join(differences)}; "
            "leave out the flag, or use --restart to compute all points anew"
        )
    elsewhere = recorded.differences(plan)
    if elsewhere:
        observer.warning(
            f"the points so far were computed elsewhere: {'; '.join(elsewhere)}; "
            "the last bits of new points may differ"
        )
