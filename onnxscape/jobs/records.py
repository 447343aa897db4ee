"""What the store knows of a job and of its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.grid import Point
    from onnxscape.jobs.order import Order
    from onnxscape.jobs.states import JobState


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job is going to take, as far as could be told when it was ordered.

    Attributes:
        points: Points to evaluate.
        device_seconds: Time of one device.
        memory: Of a worker, in bytes.
    """

    points: int
    device_seconds: float
    memory: int


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job failed.

    Attributes:
        reason: Name of an error's class, `WORKER_LOST` or `POINTS_FAILED`.
        message: For people.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is stored.

    Attributes:
        id: 32 characters that cannot be guessed.
        user: Whose it is.
        order: What is evaluated.
        display_name: For people.
        priority: 0 to 100, among the user's own.
        state: Where it stands.
        failure: Why it failed; None if it did not.
        revision: Grows with every change and every point.
        spec: JSON of the spec.
        plan: JSON of the plan; None before the first chunk.
        outline: JSON of what is going to happen, for people; likewise.
        provenance: JSON of where the numbers come from; likewise.
        notes: For people.
        warnings: For people.
        total: Points to evaluate, as far as known.
        done: Points that are there.
        failed: Points that could not be evaluated.
        estimate: What it was expected to take.
        created: Unix seconds.
        started: Unix seconds of its first chunk; None before.
        ended: Unix seconds; None before.
        device_seconds: What it has taken so far.
        number: Grows with every job of the server; 0 before it is stored.
    """

    id: str
    user: str
    order: Order
    display_name: str
    priority: int
    state: JobState
    failure: JobFailure | None
    revision: int
    spec: str
    plan: str | None
    outline: str | None
    provenance: str | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    total: int
    done: int
    failed: int
    estimate: Estimate
    created: float
    started: float | None
    ended: float | None
    device_seconds: float
    number: int = 0


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point that is there, or failed for good.

    Attributes:
        point: Which.
        metrics: Metric name to value; None if it failed.
        failure: Why it failed; None if it did not.
        revision: The job's when it came.
    """

    point: Point
    metrics: Mapping[str, float] | None
    failure: str | None
    revision: int
