"""Where evaluators are made, tested, and compared with one another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from onnxscape.errors import OutOfMemoryError, UsageError
from onnxscape.runtime.bound_batches import BoundEvaluator
from onnxscape.runtime.calibration import (
    Calibration,
    Choice,
    calibrate_cpu,
    calibrate_gpu,
    cpu_choices,
    other_bits,
    tried_on_gpu,
)
from onnxscape.runtime.calibration_cache import remembered
from onnxscape.runtime.constant_sessions import ConstantSessions
from onnxscape.runtime.device_memory import available_memory
from onnxscape.runtime.devices import usable_cores
from onnxscape.runtime.planning import make_evaluator
from onnxscape.runtime.self_test import replay_test, self_test
from onnxscape.version import __version__

if TYPE_CHECKING:
    from onnxscape.core.plan import Plan
    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.inputs import EvalInputs
    from onnxscape.evaluation.observer import Observer
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device
    from onnxscape.runtime.evaluator import PointEvaluator
    from onnxscape.runtime.user_model import UserModel

_TESTED_SAMPLES = 32
"""Samples of the self-test where the user's file is slow."""

_ACTIVATIONS = 2**28
"""Bytes that a worker may need besides its weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Makes evaluators and tests them.

    Attributes:
        inputs: What is evaluated.
        prepared: The model.
        plan: Strategy and batch aside, the plan of all of them.
        device: Where they run.
        user: The user's file, which they are compared with.
        observer: Told what memory has no room for.
    """

    inputs: EvalInputs
    prepared: PreparedModel
    plan: Plan
    device: Device
    user: UserModel
    observer: Observer

    def make(self, choice: Choice) -> PointEvaluator:
        """Return an evaluator that has passed the self-test.

        Args:
            choice: The way to run.

        Returns:
            The evaluator.

        Raises:
            SelfTestError: If the prepared model differs from the user's file.
        """
        few = _few(self.inputs.samples, choice.batch, self.user, self.device)
        evaluator = None
        if self.device.kind != "cuda":
            tested = evaluator = self._evaluator(choice, self.inputs.samples)
        else:
            # A CPU is slow with a GPU's batch, and some models look at the batch as a whole.
            size = self.prepared.demanded_batch or len(few)
            tested = self._evaluator(replace(choice, batch=size), few)
        self_test(
            tested,
            self.user,
            self.inputs.parameters,
            self.inputs.delta,
            self.inputs.eta,
            {**few.inputs, **few.constants},
            elsewhere=self.device.kind != "cpu",
        )
        if evaluator is None:
            evaluator = self._evaluator(choice, self.inputs.samples)
            if isinstance(evaluator, BoundEvaluator) and isinstance(tested, BoundEvaluator):
                replay_test(
                    evaluator,
                    tested,
                    precision=self.inputs.request.precision,
                    mixing=self.inputs.mixing,
                )
        return evaluator

    def fitting(self, choice: Choice) -> tuple[PointEvaluator, Choice]:
        """Return an evaluator for which there is memory.

        Args:
            choice: The way to run, batch by batch smaller if need be.

        Returns:
            The evaluator, and the way that it runs.

        Raises:
            OutOfMemoryError: If there is too little, whatever the batch.
        """
        evaluator: PointEvaluator | None
        while True:
            try:
                evaluator = self.make(choice)
                evaluator.estimate()
            except OutOfMemoryError:
                evaluator = None  # its memory is wanted
                smaller = self.half_of(choice)
                self.observer.warning(
                    f"a batch of {choice.batch} does not fit into the memory of "
                    f"{self.device}; going on with {smaller.batch}"
                )
                choice = smaller
            else:
                return evaluator, choice

    def half_of(self, choice: Choice) -> Choice:
        """Return the same choice with half the batch.

        Args:
            choice: The way to run.

        Returns:
            The other way.

        Raises:
            OutOfMemoryError: If there is none, or it is not ours to change.
        """
        asked = self.inputs.request.batch_size is not None or self.device.kind != "cuda"
        if asked or choice.batch == 1 or self.prepared.demanded_batch is not None:
            raise OutOfMemoryError(
                f"{self.device} has not enough memory for a batch of {choice.batch}; free "
                "some, use a smaller --batch-size, or --device cpu"
            )
        return replace(choice, batch=choice.batch // 2)

    def _evaluator(self, choice: Choice, samples: Samples) -> PointEvaluator:
        return make_evaluator(
            replace(self.plan, strategy=choice.strategy, batch=choice.batch),
            self.prepared,
            samples,
            self.inputs.delta,
            self.inputs.eta,
            device=self.device,
            threads=choice.threads,
            pad=self.prepared.demanded_batch is not None,
        )

    def circumstances(self, base: Choice) -> dict[str, Any]:
        """Return all that the fastest choice depends on, as plain JSON values.

        Args:
            base: The choice by rule.
        """
        inputs = self.inputs
        return {
            "model": inputs.file.digest,
            "moved": sorted(inputs.moved),
            "head": repr(self.prepared.head),
            "inputs": {name: list(a.shape) for name, a in inputs.samples.inputs.items()},
            "base": repr(base),
            "precision": inputs.request.precision,
            "batch": inputs.request.batch_size,
            "device": [str(self.device), self.plan.machine, usable_cores()],
            "versions": [__version__, self.plan.runtime],
        }


def shared_out(
    bench: Bench, evaluator: PointEvaluator, base: Choice, points: int
) -> Calibration:
    """Return how the threads of a CPU are shared out among points.

    Args:
        bench: Says what is evaluated.
        evaluator: Evaluates a point.
        base: One worker with all threads.
        points: Points to evaluate.

    Returns:
        The fastest way, or the one that the user asks for.

    Raises:
        UsageError: If the user asks for what is not possible.
    """
    workers = bench.inputs.request.workers
    if workers is not None:
        most = base.threads if evaluator.concurrent else 1
        if not 1 <= workers <= most:
            why = (
                f"there are {base.threads} threads"
                if evaluator.concurrent
                else f"--strategy {base.strategy} evaluates one point at a time"
            )
            raise UsageError(f"expected --workers from 1 to {most}, got {workers}: {why}")
        shared = replace(base, workers=workers, threads=base.threads // workers)
        if isinstance(evaluator, ConstantSessions) and other_bits(evaluator, base, [shared]):
            bench.observer.warning(
                f"this model's last bits depend on the number of threads: {shared.sharing} "
                f"give others than {base.sharing}"
            )
        return Calibration(chosen=shared, reason="as asked")
    overlapping = bench.device.kind == "openvino"
    if (
        not isinstance(evaluator, ConstantSessions)
        or bench.device.kind == "provider"
        or (base.threads == 1 and not overlapping)
    ):
        return Calibration(chosen=base, reason="by rule: there is no other way")
    most = min(_room(bench.prepared), max(base.threads, 2))
    return remembered(
        bench.circumstances(base),
        lambda: calibrate_cpu(evaluator, base, points, most, overlapping=overlapping),
        points=points,
        possible=lambda tried: (
            tried == cpu_choices(base, points, most, overlapping=overlapping)
        ),
    )


def _room(prepared: PreparedModel) -> int:
    """Return how many workers fit into the machine's memory, by a cautious guess."""
    available = available_memory()
    if available is None:
        return 1
    size = prepared.proto.ByteSize()
    return max(1, int(available / 2 / (3 * size + _ACTIVATIONS)))


def fastest_on_gpu(bench: Bench, base: Choice, points: int) -> Calibration:
    """Return the fastest strategy and batch of a GPU.

    Args:
        bench: Makes evaluators.
        base: The choice by rule.
        points: Points to evaluate.

    Returns:
        The fastest way.
    """
    request = bench.inputs.request
    free = request.batch_size is None and bench.prepared.demanded_batch is None
    samples = len(bench.inputs.samples)
    return remembered(
        bench.circumstances(base),
        lambda: calibrate_gpu(bench.make, base, points, samples, batch_is_free=free),
        points=points,
        possible=lambda tried: tried_on_gpu(tried, base, samples, batch_is_free=free),
    )


def _few(samples: Samples, size: int, user: UserModel, device: Device) -> Samples:
    """Return the samples of the self-test: the first batch, or enough of it."""
    size = min(size, samples.prefixes[0])
    if device.kind == "cuda":
        size = user.pieces or min(size, _TESTED_SAMPLES)
    elif user.pieces is not None:
        size = min(size, max(user.pieces, _TESTED_SAMPLES))
    return replace(
        samples,
        inputs={name: array[:size] for name, array in samples.inputs.items()},
        labels=None if samples.labels is None else samples.labels[:size],
        weights=None if samples.weights is None else samples.weights[:size],
    )
