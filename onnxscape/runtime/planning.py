"""Planning: from model and device to a plan, by rule; and from a plan to an evaluator.

On the CPU nothing here looks at a clock: whatever may change bits follows from the model and
the spec alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnxruntime as ort

from onnxscape.core.plan import Plan
from onnxscape.errors import UsageError
from onnxscape.runtime.devices import HEADS_APART
from onnxscape.runtime.sessions import failures_told
from onnxscape.runtime.strategies import STRATEGIES

if TYPE_CHECKING:
    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device
    from onnxscape.runtime.evaluator import PointEvaluator

_BATCH_ELEMENTS = {"cpu": 2**18, "cuda": 2**23}
"""Elements of inputs or outputs per batch: on a CPU a batch should stay in the caches."""

_BATCH_LIMITS = {"cpu": (8, 256), "cuda": (32, 8192)}

_EVEN = 8
"""What batches of a GPU are multiples of, where there are several: kernels like it."""


def make_plan(
    samples: Samples,
    device: Device,
    *,
    strategy: str | None = None,
    batch: int | None = None,
    demanded: int | None = None,
    folded: bool = True,
    outputs: int = 1,
) -> Plan:
    """Choose what defines the bits.

    Args:
        samples: The samples.
        device: Where it runs.
        strategy: The user's choice; None for the rule (`constant`, on a GPU `resident`).
        batch: The user's choice; None for the rule.
        demanded: The only batch size that the prepared model takes; None if it takes any.
        folded: Whether normalizations may be folded.
        outputs: Values per sample of the output that the loss is computed from.

    Returns:
        The plan.

    Raises:
        UsageError: If a choice is not possible.
    """
    strategy = _strategy(strategy, device)
    if batch is not None and batch < 1:
        raise UsageError(f"expected a batch size of at least 1, got {batch}")
    if batch is not None and demanded is not None and batch != demanded:
        raise UsageError(
            f"--batch-size {batch} is not possible: the model was exported for batches of "
            f"{demanded} only"
        )
    return Plan(
        provider=device.provider,
        strategy=strategy,
        batch=batch or demanded or _batch_by_rule(samples, device, outputs),
        folded=folded,
        runtime=f"onnxruntime {ort.__version__}",
        machine=device.name,
    )


def _strategy(wanted: str | None, device: Device) -> str:
    """Return the strategy that is asked for, or that of the rule.

    Raises:
        UsageError: If there is none, or the device cannot run it.
    """
    if wanted is None:
        return "resident" if device.kind == "cuda" else "constant"
    if wanted not in STRATEGIES:
        *names, last = STRATEGIES
        raise UsageError(f"expected --strategy {', '.join(names)} or {last}, got {wanted!r}")
    if device.kind in HEADS_APART and wanted != "constant":
        raise UsageError(
            f"expected --strategy constant on {device}, got {wanted!r}: only there losses are "
            "computed apart from the model, in float64"
        )
    return wanted


def _batch_by_rule(samples: Samples, device: Device, outputs: int) -> int:
    inputs = sum(math.prod(array.shape[1:]) for array in samples.inputs.values())
    place = "cuda" if device.kind == "cuda" else "cpu"
    low, high = _BATCH_LIMITS[place]
    fitting = _BATCH_ELEMENTS[place] // max(1, inputs, outputs)
    if place == "cpu":
        return min(high, max(low, 1 << max(0, fitting.bit_length() - 1)))
    return _equal_batches(samples, low, min(high, max(low, fitting)))


def _equal_batches(samples: Samples, low: int, high: int) -> int:
    """Return a batch of which whole ones hold the samples with little to spare.

    On a GPU every batch is filled up: at the end of the samples, and wherever a point may be
    finished before.

    Args:
        samples: The samples.
        low: The least, unless there are fewer samples.
        high: The most.
    """
    count = min(len(samples), max(low, samples.prefixes[0]))
    batches = -(-count // high)
    batch = -(-count // batches)
    return batch if batches == 1 else -(-batch // _EVEN) * _EVEN


def make_evaluator(
    plan: Plan,
    prepared: PreparedModel,
    samples: Samples,
    delta: Direction | None,
    eta: Direction | None,
    *,
    device: Device,
    threads: int,
    pad: bool = False,
) -> PointEvaluator:
    """Build the evaluator that a plan names.

    Args:
        plan: The plan.
        prepared: The model.
        samples: The samples.
        delta: Direction of alpha.
        eta: Direction of beta.
        device: Where it runs; the plan's.
        threads: Threads within one operator.
        pad: Whether every batch must be full.

    Returns:
        The evaluator.
    """
    make = STRATEGIES[plan.strategy]
    with failures_told():
        return make(
            prepared,
            samples,
            delta,
            eta,
            device=device,
            batch=plan.batch,
            threads=threads,
            pad=pad,
        )
