"""The engine of a run: a device, a plan, and an evaluator that passed the self-test."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import DataError, SpecConflictError, UnsupportedModelError, UsageError
from onnxscape.graph.prepared import prepare
from onnxscape.runtime.devices import Device, find_device, usable_cores
from onnxscape.runtime.planning import make_evaluator, make_plan
from onnxscape.runtime.self_test import self_test, user_outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.plan import Plan
    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.evaluator import PointEvaluator

_TESTED_SAMPLES = 32
"""Samples of the self-test, where the user's file takes them only in small pieces."""

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
        UnsupportedModelError: If the model cannot be run, or its output fits no loss.
        DataError: If the labels do not fit the output.
    """
    request = inputs.request
    device = find_device(_wanted_device(request, recorded))
    threads = usable_cores() if request.threads is None else request.threads
    most = max(2 * (os.cpu_count() or 1), 8)
    if not 1 <= threads <= most:
        raise UsageError(f"expected from 1 to {most} threads on this machine, got {threads}")
    prepared = prepare(inputs.file, inputs.parameters, moved=inputs.moved, loss=request.loss)
    plan = make_plan(
        inputs.samples,
        device,
        strategy=request.strategy or (recorded.strategy if recorded else None),
        batch=_wanted_batch(request, recorded),
        demanded=prepared.demanded_batch,
        folded=prepared.folded > 0,
    )
    if recorded is not None:
        _check_recorded(plan, recorded, observer)
        plan = recorded
    if prepared.batch is not None:
        observer.note(f"the model was {prepared.batch}")
    feeds = _first_samples(inputs.samples, plan.batch, prepared)
    center = user_outputs(
        inputs.file, feeds, device=device, threads=threads, pieces=_pieces(prepared)
    )
    _check_output(center, inputs, observer)
    evaluator = make_evaluator(
        plan,
        prepared,
        inputs.samples,
        inputs.delta,
        inputs.eta,
        device=device,
        threads=threads,
        pad=prepared.demanded_batch is not None,
    )
    self_test(
        evaluator,
        inputs.file,
        inputs.parameters,
        inputs.delta,
        inputs.eta,
        feeds,
        center,
        device=device,
        threads=threads,
        pieces=_pieces(prepared),
    )
    return Engine(evaluator, plan, device, threads)


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
    differences = same_place.differences(recorded)
    if differences:
        raise SpecConflictError(
            f"the points so far were computed with another plan: {'; '.join(differences)}; "
            "leave out the flag, or use --restart to compute all points anew"
        )
    elsewhere = plan.differences(recorded)
    if elsewhere:
        observer.warning(
            f"the points so far were computed elsewhere: {'; '.join(elsewhere)}; "
            "the last bits of new points may differ"
        )


def _pieces(prepared: PreparedModel) -> int | None:
    """Return the number of samples that the user's own file takes at once; None for any."""
    return None if prepared.batch is None else prepared.batch.size


def _first_samples(
    samples: Samples, size: int, prepared: PreparedModel
) -> dict[str, NDArray[np.generic]]:
    """Return what the self-test feeds: the first batch, or enough of it.

    A file that takes few samples at once is slow, so it is not run on a whole large batch.
    """
    pieces = _pieces(prepared)
    if pieces is not None:
        size = min(size, max(pieces, _TESTED_SAMPLES))
    return {name: array[:size] for name, array in samples.inputs.items()}


def _check_output(output: NDArray[Any], inputs: EvalInputs, observer: Observer) -> None:
    """Check that the loss makes sense of the model's output.

    Raises:
        UnsupportedModelError: If the output has another form than the loss needs.
        DataError: If the labels do not fit it.
    """
    name = inputs.file.outputs[0].name
    labels = inputs.samples.labels
    if inputs.request.loss == "mse":
        per_sample = math.prod(output.shape[1:])
        targets = math.prod(labels.shape[1:])
        if output.ndim == 0 or per_sample != targets:
            raise DataError(
                f"expected {per_sample} target value(s) per sample for the output {name!r} "
                f"{list(output.shape)}, the data's labels have {targets}: {list(labels.shape)}"
            )
        return
    if output.ndim != 2 or output.shape[1] < 2:
        raise UnsupportedModelError(
            f"cross-entropy needs logits [batch, classes], the output {name!r} is "
            f"{list(output.shape)}; for regression use --loss mse"
        )
    worst = int(np.argmax(labels))
    if labels[worst] >= output.shape[1]:
        raise DataError(
            f"label {int(labels[worst])} of sample {worst} is out of range: the output "
            f"{name!r} has {output.shape[1]} classes, so labels go from 0 to "
            f"{output.shape[1] - 1}"
        )
    sums = output.astype(np.float64).sum(axis=1)
    if (output >= 0).all() and np.allclose(sums, 1.0, atol=1e-3):
        observer.warning(
            f"the output {name!r} looks like probabilities (rows sum to 1), cross-entropy "
            "takes logits: export the model without its last softmax"
        )
