"""Turns: free slots take points of the job whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from onnxscape.jobs.executor import Chunk, Failed, Finished, Lost
from onnxscape.jobs.failpoints import reach
from onnxscape.jobs.leases import Broken, follow
from onnxscape.jobs.live_job import Lease
from onnxscape.jobs.records import JobFailure
from onnxscape.jobs.scheduler import chunk_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxscape.jobs.configuration import CoordinatorConfig
    from onnxscape.jobs.courses import Courses
    from onnxscape.jobs.executor import Executor, Slot
    from onnxscape.jobs.leases import Ending
    from onnxscape.jobs.live_job import LiveJob
    from onnxscape.jobs.scheduler import Scheduler

_FIRST = 1.0
"""Seconds of a job's first chunk: until it is ready nobody else can help."""

_OPENING = 2
"""Jobs that may be opened at a time beyond one for each slot: a large one takes its time."""

_log = logging.getLogger(__name__)


class Turns:
    """Gives slots to jobs and points to slots.

    Attributes:
        paused: Whether nothing is leased any more.
    """

    def __init__(
        self,
        courses: Courses,
        executor: Executor,
        scheduler: Scheduler,
        *,
        epoch: int,
        config: CoordinatorConfig,
        clock: Callable[[], float],
    ) -> None:
        """Start with all slots free.

        Args:
            courses: Of the jobs.
            executor: Evaluates chunks.
            scheduler: Says whose turn it is.
            epoch: Number of this start of the server, so that no lease is numbered twice.
            config: Times and numbers.
            clock: The time.
        """
        self._courses, self._executor, self._scheduler = courses, executor, scheduler
        self._config, self._clock = config, clock
        self._lease_number = epoch << 32
        self._busy: dict[str, Lease] = {}
        self._rests: dict[str, float] = {}
        self.paused = False

    def leases(self) -> list[Lease]:
        """Return all leases under way."""
        return list(self._busy.values())

    async def go_on(self) -> None:
        """Lease points to free slots, for ever."""
        changed = self._courses.changed
        while True:
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: up to Python 3.11 it may lose that it is cancelled.
                async with asyncio.timeout(self._config.look_seconds):
                    await changed.wait()
            changed.clear()
            try:
                self._lease_all()
            except Exception:  # noqa: BLE001 - no job may stop the server
                _log.exception("no leases")
                await asyncio.sleep(self._config.look_seconds)

    def _lease_all(self) -> None:
        """Give every free slot something to do."""
        if self.paused or self._courses.trouble is not None:
            return
        now, slots = self._clock(), self._executor.slots
        self._scheduler.slots = len(slots)
        for slot in slots:
            if slot.name not in self._busy and not self._is_resting(slot):
                self._lease_one(slot, now)

    def _rest(self, slot: Slot) -> None:
        now = asyncio.get_running_loop().time()
        self._rests[slot.name] = now + self._config.rest_seconds

    def _is_resting(self, slot: Slot) -> bool:
        return asyncio.get_running_loop().time() < self._rests.get(slot.name, 0.0)

    def _lease_one(self, slot: Slot, now: float) -> None:
        """Give a free slot something to do, if there is anything."""
        loaded, live = self._executor.loaded(slot), self._courses.live
        while (turn := self._scheduler.pick(slot, loaded, now)) is not None:
            # What is due is opened in time, also while the slot goes on with something else.
            closed = [job for job in (turn.due, turn.job) if live[job].rounds is None]
            if closed and self._may_open():
                self._courses.open(live[closed[0]])
                continue
            if turn.job not in closed:
                self._lease(live[turn.job], slot, now)
            return

    def _may_open(self) -> bool:
        opening = sum(live.opening for live in self._courses.live.values())
        return opening < self._scheduler.slots + _OPENING

    def _lease(self, live: LiveJob, slot: Slot, now: float) -> None:
        assert live.rounds is not None  # noqa: S101 - the caller has looked
        seconds = self._config.turns.chunk
        if live.job.plan is None:
            seconds = min(_FIRST, seconds)
        size = chunk_size(live.seconds_per_point, seconds, self._config.chunk_points)
        points = tuple(live.rounds.take(size))
        self._lease_number += 1
        chunk = Chunk(
            job=live.job.id,
            lease=self._lease_number,
            order=live.job.order,
            plan=live.job.plan,
            spec=live.digest,
            points=points,
            total=live.rounds.total,
        )
        lease = Lease(
            live=live,
            slot=slot,
            chunk=chunk,
            since=now,
            expected=len(points) * max(live.seconds_per_point, 0.0),
            missing={(point.row, point.column): point for point in points},
        )
        live.leases[chunk.lease] = self._busy[slot.name] = lease
        self._scheduler.charge(live.job.user, lease.expected, now)
        self._courses.update(live)
        self._scheduler.took(live.job.id, slot, now)
        self._courses.tally.leases += 1
        lease.task = self._courses.tasks.spawn(self._run(lease), f"lease {chunk.lease}")

    async def _run(self, lease: Lease) -> None:
        try:
            ending: Ending = Finished()
            if await self._courses.begin(lease.live):
                reach("lease.after")
                ending = await follow(
                    lease,
                    self._executor,
                    self._courses,
                    silence=self._config.lease_seconds,
                    longest=self._config.longest_chunk,
                    clock=self._clock,
                )
            await self._ended(lease, ending)
        except Exception:  # noqa: BLE001 - or the next lease would end in the same way
            self._rest(lease.slot)
            await self._courses.endings.fail_by_mistake(lease.live)
        finally:
            self._free(lease)

    async def _ended(self, lease: Lease, ending: Ending) -> None:
        """Do what the end of a lease asks for."""
        match ending:
            case Failed(reason, message):
                await self._courses.endings.fail(lease.live, JobFailure(reason, message))
            case Broken():
                self._courses.tally.lost["broken"] += 1
                self._rest(lease.slot)
            case Lost():
                await self._lost(lease, ending)
            case Finished() if lease.missing and not lease.returning:
                text = f"it left out {len(lease.missing)} points"
                await self._lost(lease, Lost("crashed", text))
            case Finished():
                pass

    async def _lost(self, lease: Lease, lost: Lost) -> None:
        if self.paused or lease.live.stopping:
            return  # workers are ended
        courses, live = self._courses, lease.live
        courses.tally.lost[lost.reason] += 1
        text = "a worker was lost on %s: %s (%s)"
        extra = {"job": lease.chunk.job, "lease": lease.chunk.lease}
        _log.warning(text, lease.slot.name, lost.reason, lost.message, extra=extra)
        before = live.job.failed
        await courses.endings.lost(lease, lost)
        courses.tally.points_failed += live.job.failed - before

    def _free(self, lease: Lease) -> None:
        """Take back the slot, and the points that did not come."""
        live = lease.live
        self._courses.charge(lease, max(self._clock() - lease.since, 0.0))
        if live.rounds is not None:
            live.rounds.give_back(list(lease.missing.values()))
        del live.leases[lease.chunk.lease], self._busy[lease.slot.name]
        self._courses.update(live)
