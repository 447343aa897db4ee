"""The border between turns and computing: what evaluates chunks, wherever that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from onnxscape.core.grid import Point
    from onnxscape.jobs.order import Order


@dataclass(frozen=True, slots=True)
class Slot:
    """A device's place for one worker.

    Attributes:
        name: Unique, such as `cpu/0` or `cuda:0/0`.
        device: What the worker is told to use: `cpu`, `cuda:0`.
    """

    name: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A run of points of one job, to be computed under one lease.

    Attributes:
        job: ID of the job.
        lease: Number of the lease; grows with every lease of the server.
        order: What the job evaluates.
        plan: JSON of the plan of the points that are there; None for the first chunk.
        spec: sha256 (hex) of the spec; a worker that comes to another one fails.
        points: Which; none to get ready only.
        total: Points of the whole job, as far as known.
    """

    job: str
    lease: int
    order: Order
    plan: str | None
    spec: str
    points: Sequence[Point]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The worker has loaded the job and is going to evaluate points.

    Comes first, also where it was loaded before.

    Attributes:
        plan: JSON of the plan.
        provenance: For people: device, threads, versions.
        outline: What is going to happen, for people: fields of `Outline`.
        seconds_per_point: Estimate.
        notes: For people.
        warnings: For people.
    """

    plan: str
    provenance: Mapping[str, Any]
    outline: Mapping[str, Any]
    seconds_per_point: float
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PointDone:
    """A point is finished.

    Attributes:
        point: Which.
        metrics: Metric name to value.
        seconds: What it took.
    """

    point: Point
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Beat:
    """The worker lives.

    Attributes:
        memory: Its resident memory in bytes.
    """

    memory: int


@dataclass(frozen=True, slots=True)
class Replanned:
    """The points to come have another plan: memory was short.

    Attributes:
        plan: Its JSON.
        warning: For people.
    """

    plan: str
    warning: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All points of the chunk have come, or all until it was asked to return."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The job cannot be computed; trying again would not help.

    Attributes:
        reason: Name of the error's class, such as `SelfTestError`.
        message: For people.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker is gone, and what it had not sent with it.

    Attributes:
        reason: `crashed`, `killed`, `memory` or `time`.
        message: For people.
        loading: Whether it was lost before it was ready.
    """

    reason: str
    message: str
    loading: bool = False


ChunkEvent = Ready | PointDone | Beat | Replanned | Finished | Failed | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """What a worker may use.

    Attributes:
        memory: Resident bytes.
        loading_seconds: Until it is ready.
        point_seconds: For one point.
        threads: On the CPU.
        niceness: Added to the scheduling priority of its process.
        cache: Jobs that it keeps loaded.
    """

    memory: int = 8 << 30
    loading_seconds: float = 600.0
    point_seconds: float = 3600.0
    threads: int = 1
    niceness: int = 10
    cache: int = 2


class Executor(Protocol):
    """Evaluates chunks on slots. What it must do is written down in its conformance suite."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Where chunks can be computed; may change over time."""

    async def start(self) -> None:
        """Get ready; workers may be started now or when they are needed."""

    def run(self, slot: Slot, chunk: Chunk) -> AsyncGenerator[ChunkEvent]:
        """Compute a chunk.

        Args:
            slot: Where; no other chunk may run there meanwhile.
            chunk: What.

        Returns:
            Yields what happens; the last event is `Finished`, `Failed` or `Lost`, and comes
            always. Each point comes at most once. Leaving the iteration gives the chunk up:
            the slot is free for another one afterwards.
        """

    def give_back(self, slot: Slot) -> None:
        """Ask for the chunk of a slot to end after the point under way.

        Args:
            slot: Where; nothing happens if it is free.
        """

    def loaded(self, slot: Slot) -> Sequence[tuple[str, str]]:
        """Return what the worker of a slot has loaded: job ID and affinity of each."""

    async def close(self) -> None:
        """End all workers, whatever they do."""


@dataclass(slots=True)
class Counters:
    """What an executor has seen, for operators.

    Attributes:
        started: Workers started.
        lost: Reason to the number of workers lost.
    """

    started: int = 0
    lost: dict[str, int] = field(default_factory=dict)
