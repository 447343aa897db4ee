"""The engine of a run: a device, a plan, and an evaluator that passed the self-test."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnxscape.errors import SpecConflictError, UsageError
from onnxscape.graph.prepared import prepare
from onnxscape.runtime.devices import Device, find_device, usable_cores
from onnxscape.runtime.planning import make_evaluator, make_plan
from onnxscape.runtime.self_test import self_test
from onnxscape.runtime.user_model import UserModel

if TYPE_CHECKING:
    from onnxscape.core.plan import Plan
    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.evaluator import PointEvaluator

_TESTED_SAMPLES = 32
"""Samples of the self-test where the user's file is slow."""

_PROVIDER_DEVICES = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """What evaluates the points of a run.

    Attributes:
        evaluator: Evaluates one point; its self-test has passed.
        plan: What defines the bits.
        device: Where it runs.
        threads: Threads within one operator.
    """

    evaluator: PointEvaluator
    plan: Plan
    device: Device
    threads: int


def start_engine(inputs: EvalInputs, recorded: Plan | None, observer: Observer) -> Engine:
    """Prepare the model, choose or take over a plan, and prove that the evaluation is right.

    Args:
        inputs: What to evaluate.
        recorded: The plan of the points that are there already; None for a new landscape.
        observer: Told of warnings.

    Returns:
        The engine.

    Raises:
        SpecConflictError: If an explicit choice contradicts the recorded plan.
        UsageError: If a choice is not possible.
        DeviceError: If the device is not there.
        SelfTestError: If the prepared model differs from the user's file.
        UnsupportedModelError: If the model cannot be run.
    """
    device = find_device(_wanted_device(inputs.request, recorded))
    threads = _threads(inputs.request)
    prepared = prepare(
        inputs.file,
        inputs.parameters,
        moved=inputs.moved,
        loss=inputs.objective.loss,
        custom=inputs.objective.custom,
        precision=inputs.request.precision,
        exact_softmax=device.exact_softmax,
    )
    plan = _plan(inputs, prepared, device, recorded, observer)
    if prepared.batch is not None:
        observer.note(f"the model was {prepared.batch}")

    def evaluator_of(samples: Samples, batch: int) -> PointEvaluator:
        return make_evaluator(
            replace(plan, batch=batch),
            prepared,
            samples,
            inputs.delta,
            inputs.eta,
            device=device,
            threads=threads,
            pad=prepared.demanded_batch is not None,
        )

    evaluator = evaluator_of(inputs.samples, plan.batch)
    user = _user_model(inputs, prepared, threads, observer)
    few = _few(inputs.samples, plan.batch, user, device)
    tested = evaluator
    if device.kind != "cpu":
        # A CPU is slow with a GPU's batch, and some models look at the batch as a whole.
        tested = evaluator_of(few, prepared.demanded_batch or len(few))
    self_test(
        tested,
        user,
        inputs.parameters,
        inputs.delta,
        inputs.eta,
        {**few.inputs, **few.constants},
        elsewhere=device.kind != "cpu",
    )
    return Engine(evaluator, plan, device, threads)


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


def _wanted_device(request: EvalRequest, recorded: Plan | None) -> str:
    """Return the device to look for: the recorded one, unless the user names another."""
    if recorded is None or request.device != "auto":
        return request.device
    return _PROVIDER_DEVICES.get(recorded.provider, "auto")


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


def _few(samples: Samples, size: int, user: UserModel, device: Device) -> Samples:
    """Return the samples of the self-test: the first batch, or enough of it."""
    if device.kind != "cpu":
        size = user.pieces or min(size, _TESTED_SAMPLES)
    elif user.pieces is not None:
        size = min(size, max(user.pieces, _TESTED_SAMPLES))
    return replace(
        samples,
        inputs={name: array[:size] for name, array in samples.inputs.items()},
        labels=None if samples.labels is None else samples.labels[:size],
        weights=None if samples.weights is None else samples.weights[:size],
    )
