"""A job that is not finished, as the coordinator holds it in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxscape.jobs.scheduler import Ticket
from onnxscape.jobs.states import JobState
from onnxscape.jobs.surfaces import spec_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnxscape.core.grid import Point
    from onnxscape.core.spec import EvalSpec
    from onnxscape.jobs.executor import Chunk, Slot
    from onnxscape.jobs.records import Job
    from onnxscape.jobs.rounds import Rounds

_NEWS = 0.3
"""Weight of the newest point in the running mean of seconds per point."""


@dataclass(slots=True, eq=False)
class Lease:
    """Points given to a slot.

    Attributes:
        live: Of which job.
        slot: Where.
        chunk: What.
        since: When.
        expected: Device-seconds that its user was charged for in advance.
        missing: (row, column) to those of its points that have not come, in their order.
        ready: When the worker was; None before that.
        returning: Whether the worker was asked to end.
        task: What follows it.
    """

    live: LiveJob
    slot: Slot
    chunk: Chunk
    since: float
    expected: float
    missing: dict[tuple[int, int], Point]
    ready: float | None = None
    returning: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class LiveJob:
    """A job that is not finished.

    Attributes:
        job: As it was stored last.
        spec: What it evaluates.
        digest: sha256 (hex) of the spec.
        rounds: Its points; None until its first turn.
        leases: By their numbers.
        unsaved: Points with metrics and seconds that are not stored yet.
        stopping: Whether it is being cancelled, or has failed: nothing is leased any more.
        opening: Whether its points are being read.
        seconds_per_point: As far as known; 0 if it is not.
        lock: Held by who changes its state.
        saving: What stores its points.
        advancing: What makes its points ready, or ends it.
        charging: What counts the time of its leases.
        gone: Set as soon as nothing is done for it any more.
    """

    job: Job
    spec: EvalSpec
    digest: str
    rounds: Rounds | None = None
    leases: dict[int, Lease] = field(default_factory=dict)
    unsaved: list[tuple[Point, Mapping[str, float], float]] = field(default_factory=list)
    stopping: bool = False
    opening: bool = False
    seconds_per_point: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    saving: asyncio.Task[None] | None = None
    advancing: asyncio.Task[None] | None = None
    charging: list[asyncio.Task[None]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, job: Job) -> LiveJob:
        """Take a job from the store.

        Args:
            job: The job.

        Returns:
            It, without its points.

        Raises:
            SurfaceFileError: If another version wrote its spec, which this one cannot read.
        """
        estimate = job.estimate
        seconds = estimate.device_seconds / estimate.points if estimate.points > 0 else 0.0
        if job.done > 0 and job.device_seconds > 0:
            seconds = job.device_seconds / job.done
        spec = spec_of(job)
        return cls(job=job, spec=spec, digest=spec.digest(), seconds_per_point=seconds)

    @property
    def may_be_leased(self) -> bool:
        """Whether points can be given to a slot now, or could after they are read.

        Before the plan is known only one slot has points: the others would choose their own.
        """
        if self.stopping or self.opening or self.job.state is JobState.FINISHING:
            return False
        if self.rounds is None:
            return True
        return self.rounds.ready > 0 and (self.job.plan is not None or not self.leases)

    @property
    def may_advance(self) -> bool:
        """Whether more points can be made ready, or all are there."""
        rounds = self.rounds
        if rounds is None:
            return False
        return rounds.waits_for_ahead or (rounds.over and not self.leases)

    @property
    def seconds_left(self) -> float:
        """Device-seconds until all its points are there, as far as known."""
        if self.stopping:
            return 0.0
        left = self.job.total - self.job.done - self.job.failed
        return max(left, 0) * self.seconds_per_point

    def ticket(self, slots: Sequence[Slot]) -> Ticket:
        """Return what its turn depends on.

        Args:
            slots: All there are.
        """
        return Ticket(
            job=self.job.id,
            user=self.job.user,
            created=self.job.created,
            priority=self.job.priority,
            seconds=self.job.estimate.device_seconds,
            affinity=self.job.order.affinity,
            kind=self._kind(slots),
        )

    def _kind(self, slots: Sequence[Slot]) -> str | None:
        """Return the kind of device it must run on: that of the points that are there."""
        if self.job.plan is not None:
            return "cuda" if '"CUDAExecutionProvider"' in self.job.plan else "cpu"
        if self.job.order.device != "auto":
            return self.job.order.device
        kinds = {slot.device.partition(":")[0] for slot in slots}
        return "cuda" if "cuda" in kinds else None

    def stored(self, job: Job) -> None:
        """Take the job as it is stored now.

        Args:
            job: It, or what it was before another change that has come already.
        """
        if job.revision >= self.job.revision:
            self.job = job

    async def saved(self) -> None:
        """Wait until all points that came are stored."""
        while self.saving is not None and not self.saving.done():
            if self.saving is asyncio.current_task():
                return
            await asyncio.wait([self.saving])

    async def charged(self) -> None:
        """Wait until the time of all leases that ended is counted."""
        while self.charging:
            await asyncio.wait([self.charging.pop()])

    def saw(self, seconds: float) -> None:
        """Learn from a point.

        Args:
            seconds: What it took.
        """
        if self.seconds_per_point <= 0:
            self.seconds_per_point = seconds
        self.seconds_per_point += _NEWS * (seconds - self.seconds_per_point)
