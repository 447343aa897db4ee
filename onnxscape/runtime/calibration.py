"""Calibration: trying what is possible on this machine, and taking the fastest.

On a processor only what leaves every bit alone is tried: how many points are under way at
once, and how many threads each has. On a GPU strategy and batch are tried; the plan records
them.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.errors import OnnxscapeError, OutOfMemoryError
from onnxscape.runtime.self_test import PERTURBED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from onnxscape.runtime.constant_sessions import ConstantSessions
    from onnxscape.runtime.evaluator import PointEvaluator

ROUNDS = 2
"""How often each choice is timed: the best time counts, the others were disturbed."""

WORTH = 0.05
"""Share of the whole run that trying may take."""


SHORT = 20.0
"""Seconds of a run on a GPU below which nothing but the rule's choice is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A way to run.

    Attributes:
        strategy: How weights reach ONNX Runtime.
        batch: Samples per forward pass.
        workers: Points under way at the same time.
        threads: Threads within one operator, of each of them.
    """

    strategy: str
    batch: int
    workers: int = 1
    threads: int

    def __str__(self) -> str:
        return f"{self.strategy} weights, batches of {self.batch}, {self.sharing}"

    @property
    def sharing(self) -> str:
        """How threads are shared out among points, for people."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return (
            f"{self.workers} points at a time, {threads} each" if self.workers > 1 else threads
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What trying a choice gave.

    Attributes:
        choice: What was tried.
        seconds: Per point, all workers together; NaN if it cannot be used.
        refusal: Why it cannot be used; empty if it can.
    """

    choice: Choice
    seconds: float
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Which way to run, and why.

    Attributes:
        chosen: The way.
        reason: Why, for people.
        trials: What was tried; the chosen one among them, if any.
    """

    chosen: Choice
    reason: str
    trials: tuple[Trial, ...] = ()

    @property
    def seconds(self) -> float:
        """Time per point of the chosen way when it was tried; NaN if it was not."""
        times = [trial.seconds for trial in self.trials if trial.choice == self.chosen]
        return times[0] if times else math.nan

    def table(self) -> list[str]:
        """Return the choices and their times, a line each, for people."""
        lines = [f"{self.chosen}: {self.reason}"]
        for trial in self.trials:
            time = trial.refusal or f"{trial.seconds:.4g} s per point"
            mark = "  <- taken" if trial.choice == self.chosen else ""
            lines.append(f"  {trial.choice}: {time}{mark}")
        return lines


def splits(threads: int, points: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the ways to share threads out among points, from one worker on.

    Args:
        threads: All threads there are.
        points: Points to evaluate.
        most: Most workers that memory has room for.

    Yields:
        Workers and threads of each: powers of two, and all threads to workers of one.
    """
    workers = 1
    while workers <= threads:
        if workers == 1 or workers <= min(points, most):
            yield workers, threads // workers
        workers = threads if workers < threads < 2 * workers else 2 * workers


def cpu_choices(
    base: Choice, points: int, most: int, *, overlapping: bool = False
) -> list[Choice]:
    """Return the ways to evaluate points at once.

    Args:
        base: One worker with all threads.
        points: Points to evaluate.
        most: Most workers that memory has room for.
        overlapping: Whether two workers with all threads each are one.

    Returns:
        The ways, `base` first.
    """
    choices = [
        replace(base, workers=workers, threads=each)
        for workers, each in splits(base.threads, points, most)
    ]
    if overlapping and min(points, most) > 1:
        choices.append(replace(base, workers=2))
    return choices


def fastest(trials: Sequence[Trial], points: int) -> Choice | None:
    """Return the choice that is done first with all points; None if none can be used.

    Args:
        trials: What was tried.
        points: Points to evaluate; the last of them may leave workers without any.
    """

    def seconds(trial: Trial) -> float:
        workers = trial.choice.workers
        return trial.seconds * workers * math.ceil(points / workers)

    usable = [trial for trial in trials if not trial.refusal]
    return min(usable, key=seconds).choice if usable else None


def calibrate_cpu(
    evaluator: ConstantSessions,
    base: Choice,
    points: int,
    most: int,
    *,
    overlapping: bool = False,
) -> Calibration:
    """Find out how many points to evaluate at once.

    Args:
        evaluator: Evaluates a point with any number of threads.
        base: One worker with all threads, which no other may differ from in a single bit.
        points: Points to evaluate.
        most: Most workers that memory has room for.
        overlapping: Whether to try two workers with all threads each as well: where making a
            session takes its time, one makes its own while the other runs.

    Returns:
        The fastest choice; `base` if the run is too short to find out.
    """
    choices = cpu_choices(base, points, most, overlapping=overlapping)
    start = time.perf_counter()
    first = evaluator.with_threads(base.threads).estimate()
    whole = points * first
    cost = (time.perf_counter() - start) * (ROUNDS + 1) * len(choices)
    if len(choices) < 2 or cost > WORTH * whole:
        why = "there is one way only" if len(choices) < 2 else "the run is too short to try"
        return Calibration(
            chosen=base, reason=f"by rule: {why}", trials=(Trial(choice=base, seconds=first),)
        )
    refusals = other_bits(evaluator, base, choices)
    times: dict[Choice, float] = {}
    for _ in range(ROUNDS):
        for choice in choices:
            if choice not in refusals:
                seconds = _seconds_per_point(evaluator, choice)
                times[choice] = min(seconds, times.get(choice, math.inf))
    trials = tuple(
        Trial(choice=c, seconds=times.get(c, math.nan), refusal=refusals.get(c, ""))
        for c in choices
    )
    chosen = fastest(trials, points) or base
    return Calibration(chosen=chosen, reason="the fastest", trials=trials)


def gpu_choices(base: Choice, samples: int, *, batch_is_free: bool) -> Iterator[Choice]:
    """Yield what is worth trying on a GPU besides the choice by rule.

    Args:
        base: The choice by rule, `resident`.
        samples: Samples of a point.
        batch_is_free: Whether other batches may be tried.

    Yields:
        Other batches, then other strategies.
    """
    whole = 1 << max(0, samples - 1).bit_length()
    if batch_is_free:
        for batch in (base.batch // 2, 2 * base.batch):
            if 1 <= batch <= whole:
                yield replace(base, batch=batch)
    for strategy in ("captured", "in-graph", "overriding"):
        yield replace(base, strategy=strategy)


def tried_on_gpu(
    choices: Sequence[Choice], base: Choice, samples: int, *, batch_is_free: bool
) -> bool:
    """Return whether `calibrate_gpu` may have tried these choices.

    Args:
        choices: The choices, in order.
        base: The choice by rule.
        samples: Samples of a point.
        batch_is_free: Whether other batches may be tried.
    """
    own = [base, *gpu_choices(base, samples, batch_is_free=batch_is_free)]
    batches = {choice.batch for choice in own}
    return len(choices) == len(own) and all(
        found == expected
        or (
            expected.strategy != base.strategy
            and found.batch in batches
            and replace(found, batch=expected.batch) == expected
        )
        for found, expected in zip(choices, own, strict=True)
    )


def calibrate_gpu(
    make: Callable[[Choice], PointEvaluator],
    base: Choice,
    points: int,
    samples: int,
    *,
    batch_is_free: bool,
) -> Calibration:
    """Find out which strategy and batch to use.

    Args:
        make: Makes an evaluator that has passed the self-test.
        base: The choice by rule.
        points: Points to evaluate.
        samples: Samples of a point.
        batch_is_free: Whether the batch may be another one.

    Returns:
        The fastest choice; that by rule if the run is too short to find out.

    Raises:
        OutOfMemoryError: If there is too little memory for the choice by rule.
        OnnxscapeError: If no choice works: what the first one said.
    """
    trials = [_trial(make, base, short=OutOfMemoryError)]
    if trials[0].seconds * points < SHORT:
        return Calibration(
            chosen=base, reason="by rule: the run is too short to try", trials=tuple(trials)
        )
    for candidate in gpu_choices(base, samples, batch_is_free=batch_is_free):
        best = fastest(trials, points) or base
        other = candidate.strategy != base.strategy
        choice = replace(candidate, batch=best.batch) if other else candidate
        trials.append(_trial(make, choice))
    chosen = fastest(trials, points)
    if chosen is None:
        make(base)  # raises what it said
    return Calibration(chosen=chosen or base, reason="the fastest", trials=tuple(trials))


def _trial(
    make: Callable[[Choice], PointEvaluator],
    choice: Choice,
    *,
    short: type[OnnxscapeError] | tuple[()] = (),
) -> Trial:
    """Return what trying a choice gave; errors of the class `short` are raised."""
    try:
        evaluator = make(choice)
        seconds = min(evaluator.estimate() for _ in range(ROUNDS))
    except short:
        raise
    except OnnxscapeError as error:
        return Trial(choice=choice, seconds=math.nan, refusal=str(error))
    return Trial(choice=choice, seconds=seconds)


def other_bits(
    evaluator: ConstantSessions, base: Choice, choices: Sequence[Choice]
) -> Mapping[Choice, str]:
    """Return the choices whose number of threads changes a bit.

    Args:
        evaluator: Evaluates a point with any number of threads.
        base: The choice to compare with.
        choices: Others.

    Returns:
        Choice to what to say of it.
    """
    expected = evaluator.with_threads(base.threads).outputs(*PERTURBED)
    refusals: dict[Choice, str] = {}
    for threads in {choice.threads for choice in choices} - {base.threads}:
        outputs = evaluator.with_threads(threads).outputs(*PERTURBED)
        if any(not np.array_equal(outputs[n], expected[n], equal_nan=True) for n in expected):
            refusals |= {c: "other bits" for c in choices if c.threads == threads}
    return refusals


def _seconds_per_point(evaluator: ConstantSessions, choice: Choice) -> float:
    """Return the time of a point while all workers are busy."""
    alike = evaluator.with_threads(choice.threads)
    if choice.workers == 1:
        return alike.estimate()
    with ThreadPoolExecutor(choice.workers) as pool:
        tasks = [pool.submit(alike.estimate) for _ in range(choice.workers)]
        return max(task.result() for task in tasks) / choice.workers
