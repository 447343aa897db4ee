"""Turns: free slots take points of the job whose turn it is, and bring back results."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxscape.errors import OnnxscapeError
from onnxscape.jobs.endings import INTERNAL, Endings
from onnxscape.jobs.executor import Chunk, Failed, Finished, Lost
from onnxscape.jobs.failpoints import reach
from onnxscape.jobs.leases import Broken, follow
from onnxscape.jobs.live_job import Lease, LiveJob
from onnxscape.jobs.records import JobFailure
from onnxscape.jobs.rounds import Rounds
from onnxscape.jobs.scheduler import Scheduler, SchedulerConfig, chunk_size
from onnxscape.jobs.states import FINISHED, JobEvent, JobState
from onnxscape.jobs.tally import Tally
from onnxscape.jobs.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from onnxscape.core.grid import Point
    from onnxscape.jobs.executor import Executor, Ready, Replanned, Slot
    from onnxscape.jobs.job_store import JobStore
    from onnxscape.jobs.leases import Ending
    from onnxscape.jobs.ledger import Ledger

_FIRST = 1.0
"""Seconds of a job's first chunk: until it is ready nobody else can help."""

_LEFT = FINISHED | {JobState.CANCELLING}
"""States in which a job that is stopping only waits for its leases."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """How jobs are coordinated; times in seconds.

    Attributes:
        turns: How turns are given.
        lease_seconds: Without a sign of life a lease is given to others.
        longest_chunk: A chunk that takes longer is asked back after the point under way.
        chunk_points: Points of a chunk at most.
        strikes: Workers that may be lost on a point, or while loading a job.
        stop_seconds: What chunks of a stopped job have for the point under way.
        rest_seconds: How long a slot is left alone after the executor failed there.
        retry_seconds: How long to wait before a failed disk is tried again.
        look_seconds: How often to look for new slots.
    """

    turns: SchedulerConfig = field(default_factory=SchedulerConfig)
    lease_seconds: float = 30.0
    longest_chunk: float = 5.0
    chunk_points: int = 2000
    strikes: int = 3
    stop_seconds: float = 10.0
    rest_seconds: float = 5.0
    retry_seconds: float = 2.0
    look_seconds: float = 1.0


class Turns:
    """Gives slots to jobs and points to slots, and stores what comes back.

    Attributes:
        live: Jobs that are not finished, by ID.
        paused: Whether nothing is leased any more.
        tally: What was done.
        tasks: What runs.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        ledger: Ledger,
        scheduler: Scheduler,
        *,
        surfaces: Path,
        epoch: int,
        config: CoordinatorConfig,
        clock: Callable[[], float],
    ) -> None:
        """Start without jobs.

        Args:
            store: Where jobs and points are.
            executor: Evaluates chunks.
            ledger: Calls the store.
            scheduler: Says whose turn it is.
            surfaces: Folder of the surfaces.
            epoch: Number of this start of the server, so that no lease is numbered twice.
            config: Times and numbers.
            clock: The time.
        """
        self._store, self._executor, self._ledger = store, executor, ledger
        self._scheduler, self._config, self._clock = scheduler, config, clock
        self._lease_number = epoch << 32
        self._busy: dict[str, Lease] = {}
        self._rests: dict[str, float] = {}
        self._wake = asyncio.Event()
        self.live: dict[str, LiveJob] = {}
        self.paused = False
        self.tally = Tally()
        self.tasks = Tasks()
        self.endings = Endings(
            store,
            executor,
            ledger,
            surfaces=surfaces,
            strikes=config.strikes,
            patience=config.stop_seconds,
            clock=clock,
        )

    def admit(self, live: LiveJob) -> None:
        """Take on a job that is not finished.

        Args:
            live: The job, in any state but cancelling.
        """
        self.live[live.job.id] = live
        if live.job.state is JobState.FINISHING:
            self.tasks.spawn(self._finish(live), f"finish {live.job.id}")
            return
        self._scheduler.add(live.ticket(self._executor.slots), self._clock())
        self.update(live)

    def update(self, live: LiveJob) -> None:
        """Do what follows after anything has happened to a job.

        Args:
            live: The job.
        """
        if live.job.id not in self.live:
            return
        idle = live.advancing is None or live.advancing.done()
        if live.stopping:
            self._scheduler.remove(live.job.id)
            if live.job.state in _LEFT and not live.leases and idle:
                live.advancing = self.tasks.spawn(self._stopped(live), f"stop {live.job.id}")
        else:
            if idle and live.rounds is not None and live.rounds.waits_for_ahead:
                live.advancing = self.tasks.spawn(
                    self._guarded(live, self._advance), f"advance {live.job.id}"
                )
            self._scheduler.set_waiting(live.job.id, live.may_be_leased, self._clock())
        self._wake.set()

    def leases(self) -> list[Lease]:
        """Return all leases under way."""
        return list(self._busy.values())

    async def go_on(self) -> None:
        """Lease points to free slots, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._config.look_seconds)
            self._wake.clear()
            try:
                self._lease_all()
            except Exception:
                _log.exception("no leases")
                await asyncio.sleep(self._config.look_seconds)

    # --- leasing ---

    def _lease_all(self) -> None:
        """Give every free slot something to do."""
        if self.paused or self._ledger.trouble is not None:
            return
        now, slots = self._clock(), self._executor.slots
        self._scheduler.slots = len(slots)
        for slot in slots:
            if slot.name not in self._busy and not self._is_resting(slot):
                self._lease_one(slot, now)

    def _is_resting(self, slot: Slot) -> bool:
        return asyncio.get_running_loop().time() < self._rests.get(slot.name, 0.0)

    def _lease_one(self, slot: Slot, now: float) -> None:
        """Give a free slot something to do, if there is anything."""
        while True:
            job_id = self._scheduler.pick(slot, self._executor.loaded(slot), now)
            if job_id is None:
                return
            live = self.live[job_id]
            if live.rounds is not None:
                self._lease(live, slot, now)
                return
            if sum(other.opening for other in self.live.values()) >= self._scheduler.slots:
                return  # its turn comes as soon as one of them is open
            live.opening = True
            self._scheduler.set_waiting(job_id, False, now)
            self.tasks.spawn(self._guarded(live, self._open), f"open {job_id}")

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
            spec=live.spec.digest(),
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
        self._scheduler.took(live.job.id, now)
        self._scheduler.set_waiting(live.job.id, live.may_be_leased, now)
        self.tally.leases += 1
        lease.task = self.tasks.spawn(self._run(lease), f"lease {chunk.lease}")

    async def _run(self, lease: Lease) -> None:
        try:
            ending: Ending = Finished()
            if await self._begin(lease):
                ending = await follow(
                    lease,
                    self._executor,
                    self,
                    silence=self._config.lease_seconds,
                    longest=self._config.longest_chunk,
                    clock=self._clock,
                )
            await self._ended(lease, ending)
        finally:
            self._free(lease)

    async def _begin(self, lease: Lease) -> bool:
        """Return whether the lease still is to be run."""
        live = lease.live
        async with live.lock:
            if live.stopping:
                return False
            if live.job.state is JobState.QUEUED:
                now = self._clock()
                live.stored(
                    await self._ledger.write(
                        self._store.move, live.job.id, JobEvent.FIRST_CHUNK, now=now
                    )
                )
                self.tally.jobs_begun += 1
                self.tally.queue_seconds += max(now - live.job.created, 0.0)
        reach("lease.after")
        return True

    async def _ended(self, lease: Lease, ending: Ending) -> None:
        """Do what the end of a lease asks for."""
        match ending:
            case Failed(reason, message):
                await self.endings.fail(lease.live, JobFailure(reason, message))
            case Broken():
                self.tally.lost["broken"] += 1
                wait = self._config.rest_seconds
                self._rests[lease.slot.name] = asyncio.get_running_loop().time() + wait
            case Finished() if not lease.missing or lease.returning or lease.live.stopping:
                pass
            case Finished():
                missing = Lost("crashed", f"it left out {len(lease.missing)} points")
                await self._lost(lease, missing)
            case Lost():
                await self._lost(lease, ending)

    async def _lost(self, lease: Lease, lost: Lost) -> None:
        if self.paused:
            return  # workers are ended
        self.tally.lost[lost.reason] += 1
        _log.warning(
            "a worker was lost on %s: %s (%s)",
            lease.slot.name,
            lost.reason,
            lost.message,
            extra={"job": lease.chunk.job, "lease": lease.chunk.lease},
        )
        failed = lease.live.job.failed
        await self.endings.lost(lease, lost)
        self.tally.points_failed += lease.live.job.failed - failed

    def _free(self, lease: Lease) -> None:
        """Take back the slot, and the points that did not come."""
        live, now = lease.live, self._clock()
        seconds = max(now - lease.since, 0.0)
        self._scheduler.charge(live.job.user, seconds - lease.expected, now)
        self.tally.device_seconds += seconds
        self.tasks.spawn(self._charge(live, seconds, now), f"charge {live.job.id}")
        if live.rounds is not None:
            live.rounds.give_back(list(lease.missing.values()))
        del live.leases[lease.chunk.lease], self._busy[lease.slot.name]
        self.update(live)

    async def _charge(self, live: LiveJob, seconds: float, now: float) -> None:
        await self._ledger.write(self._store.charge, live.job.user, live.job.id, seconds, now)

    # --- what comes of leases (Keeper) ---

    async def ready(self, lease: Lease, ready: Ready) -> None:
        """Record what the worker says of the job, the first time.

        Args:
            lease: What it has.
            ready: What it says.
        """
        live, before = lease.live, lease.chunk.plan
        live.stored(await self._ledger.write(self._store.record_ready, live.job.id, ready))
        if before is not None and ready.plan != before:
            text = "going on with another plan than recorded; the last bits of new points may differ"
            live.stored(
                await self._ledger.write(self._store.replan, live.job.id, ready.plan, text)
            )
        if live.seconds_per_point <= 0:
            live.seconds_per_point = ready.seconds_per_point
        if before is None and not live.stopping:  # now it is known what devices go on with it
            self._scheduler.add(live.ticket(self._executor.slots), self._clock())
        self.update(live)

    async def replanned(self, lease: Lease, plan: Replanned) -> None:
        """Record the plan of the points to come.

        Args:
            lease: Whose.
            plan: The plan, and why.
        """
        live = lease.live
        live.stored(
            await self._ledger.write(self._store.replan, live.job.id, plan.plan, plan.warning)
        )

    def point(
        self, lease: Lease, point: Point, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """Have a point stored.

        Args:
            lease: Whose.
            point: Which.
            metrics: Its metrics.
            seconds: What it took.
        """
        live = lease.live
        live.saw(seconds)
        live.unsaved.append((point, metrics, seconds))
        self.tally.points += 1
        if live.saving is None or live.saving.done():
            live.saving = self.tasks.spawn(
                self._guarded(live, self._save), f"save {live.job.id}"
            )

    async def _save(self, live: LiveJob) -> None:
        """Store the points that came, those together that came while others were stored."""
        while live.unsaved:
            batch, live.unsaved = live.unsaved, []
            live.stored(await self._ledger.write(self._store.put_points, live.job.id, batch))
            if live.rounds is not None:
                for point, metrics, _ in batch:
                    live.rounds.finish(point, metrics["loss"])
            self.update(live)

    # --- jobs ---

    async def _open(self, live: LiveJob) -> None:
        """Read the points of a job, and make the first ones ready."""
        try:
            live.rounds = await self._ledger.write(self._read, live)
        finally:
            live.opening = False
        self.update(live)

    def _read(self, live: LiveJob) -> Rounds:
        job_id, rounds = live.job.id, Rounds(live.spec)
        if live.job.state is JobState.QUEUED:
            rounds.take_up({})
        else:
            rounds.take_up(
                self._store.results(job_id),
                self._store.failures(job_id),
                self._store.strikes(job_id),
            )
        rounds.ahead()
        return rounds

    async def _advance(self, live: LiveJob) -> None:
        """Make more points ready, or find that all are there."""
        rounds = live.rounds
        assert rounds is not None  # noqa: S101 - the caller has looked
        while rounds.waits_for_ahead and not live.stopping:
            await self._ledger.call(rounds.ahead)
            self._scheduler.set_waiting(live.job.id, live.may_be_leased, self._clock())
            self._wake.set()
            if rounds.total != live.job.total:
                live.stored(
                    await self._ledger.write(self._store.set_total, live.job.id, rounds.total)
                )
        if rounds.over:
            await self._all_there(live)

    async def _all_there(self, live: LiveJob) -> None:
        async with live.lock:
            if live.stopping or live.job.state is not JobState.RUNNING:
                return
            live.stored(
                await self._ledger.write(
                    self._store.move, live.job.id, JobEvent.LAST_POINT, now=self._clock()
                )
            )
        self._scheduler.remove(live.job.id)
        self.tasks.spawn(self._finish(live), f"finish {live.job.id}")

    async def _finish(self, live: LiveJob) -> None:
        await self.endings.finish(live)
        self._forget(live)

    async def _stopped(self, live: LiveJob) -> None:
        await self.endings.stopped(live)
        self._forget(live)

    def _forget(self, live: LiveJob) -> None:
        self.tally.jobs_ended[live.job.state] += 1
        self.live.pop(live.job.id, None)
        self._ledger.changes.forget(live.job.id)
        live.gone.set()

    async def _guarded(
        self, live: LiveJob, work: Callable[[LiveJob], Coroutine[None, None, None]]
    ) -> None:
        """Do something for a job; a mistake is the end of the job, not of the server."""
        try:
            await work(live)
        except OnnxscapeError as error:
            await self.endings.fail(live, JobFailure(type(error).__name__, str(error)))
        except Exception:
            _log.exception("a mistake of ours", extra={"job": live.job.id})
            text = "a mistake of the server's own; its log tells more"
            await self.endings.fail(live, JobFailure(INTERNAL, text))
        if live.advancing is asyncio.current_task():
            live.advancing = None
        self.update(live)
