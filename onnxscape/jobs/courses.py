"""The courses of jobs: points read, made ready and stored, until all are there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from onnxscape.errors import OnnxscapeError
from onnxscape.jobs.records import JobFailure
from onnxscape.jobs.rounds import Rounds
from onnxscape.jobs.states import FINISHED, JobEvent, JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.jobs.endings import Endings
    from onnxscape.jobs.executor import Executor, Ready, Replanned
    from onnxscape.jobs.job_store import JobStore
    from onnxscape.jobs.ledger import Ledger
    from onnxscape.jobs.live_job import Lease, LiveJob
    from onnxscape.jobs.scheduler import Scheduler
    from onnxscape.jobs.tally import Tally
    from onnxscape.jobs.tasks import Tasks

_LEFT = FINISHED | {JobState.CANCELLING}
"""States in which a job that is stopping only waits for its leases."""


class Courses:
    """The jobs that are not finished, and what becomes of them.

    Attributes:
        live: These jobs, by ID.
        endings: How they end.
        changed: Set when there may be something to lease.
        tally: What was done.
        tasks: What runs.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        ledger: Ledger,
        scheduler: Scheduler,
        endings: Endings,
        *,
        tally: Tally,
        tasks: Tasks,
        clock: Callable[[], float],
    ) -> None:
        """Start without jobs.

        Args:
            store: Where jobs and points are.
            executor: Knows the slots.
            ledger: Calls the store.
            scheduler: Is told which jobs wait.
            endings: End jobs.
            tally: Counts.
            tasks: Runs what takes its time.
            clock: The time.
        """
        self._store, self._executor, self._ledger = store, executor, ledger
        self._scheduler, self._clock = scheduler, clock
        self.endings, self.tally, self.tasks = endings, tally, tasks
        self.live: dict[str, LiveJob] = {}
        self.changed = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be stored just now; None if it can."""
        return self._ledger.trouble

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
        if live.job.id not in self.live or live.job.state is JobState.FINISHING:
            return
        if live.advancing is None:
            if live.stopping and live.job.state in _LEFT and not live.leases:
                self._advance_by(live, self._stopped)
            elif not live.stopping and live.may_advance:
                self._advance_by(live, self._advance)
        if live.stopping:
            self._scheduler.remove(live.job.id)
        else:
            self._scheduler.set_waiting(live.job.id, live.may_be_leased, self._clock())
        self.changed.set()

    def open(self, live: LiveJob) -> None:
        """Begin to read the points of a job; until they are there it waits for no slot.

        Args:
            live: The job; not open.
        """
        live.opening = True
        self.update(live)
        self.tasks.spawn(self._guarded(live, self._open), f"open {live.job.id}")

    async def begin(self, live: LiveJob) -> bool:
        """Begin a job, if this is its first lease.

        Args:
            live: The job.

        Returns:
            Whether the lease still is to be run.
        """
        async with live.lock:
            if live.stopping:
                return False
            if live.job.state is JobState.QUEUED:
                await self._move(live, JobEvent.FIRST_CHUNK)
                self.tally.jobs_begun += 1
                self.tally.queue_seconds += max(self._clock() - live.job.created, 0.0)
        return True

    # --- what comes of leases -------------------------------------------------------------

    async def ready(self, lease: Lease, ready: Ready) -> None:
        """Record what the worker says of the job, the first time.

        Args:
            lease: What it has.
            ready: What it says.
        """
        live, before = lease.live, lease.chunk.plan
        live.stored(await self._ledger.write(self._store.record_ready, live.job.id, ready))
        if before is not None and ready.plan != before:
            text = "the plan has changed on the way: the last bits of new points may differ"
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
        await live.saved()
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
            work = self._guarded(live, self._save)
            live.saving = self.tasks.spawn(work, f"save {live.job.id}")

    def charge(self, lease: Lease, seconds: float) -> None:
        """Have the device time of a lease counted.

        Args:
            lease: It has ended.
            seconds: How long it was.
        """
        job, now = lease.live.job, self._clock()
        self._scheduler.charge(job.user, seconds - lease.expected, now)
        self.tally.device_seconds += seconds

        async def charge() -> None:
            write, function = self._ledger.write, self._store.charge
            await write(function, job.user, job.id, seconds, now)

        under_way = [task for task in lease.live.charging if not task.done()]
        lease.live.charging = [*under_way, self.tasks.spawn(charge(), f"charge {job.id}")]

    # --- what takes its time --------------------------------------------------------------

    def _advance_by(
        self, live: LiveJob, work: Callable[[LiveJob], Coroutine[None, None, None]]
    ) -> None:
        task = self.tasks.spawn(self._guarded(live, work), f"advance {live.job.id}")
        live.advancing = task

    async def _guarded(
        self, live: LiveJob, work: Callable[[LiveJob], Coroutine[None, None, None]]
    ) -> None:
        """Do something for a job; a mistake is the end of the job, not of the server."""
        try:
            await work(live)
        except OnnxscapeError as error:
            await self.endings.fail(live, JobFailure(type(error).__name__, str(error)))
        except Exception:  # noqa: BLE001 - no job may stop the server
            await self.endings.fail_by_mistake(live)
        if live.advancing is asyncio.current_task():
            live.advancing = None
        self.update(live)

    async def _open(self, live: LiveJob) -> None:
        """Read the points of a job, and make the first ones ready."""
        try:
            rounds = await self._ledger.write(self._read, live)
            await self._ledger.think(rounds.ahead)
            live.rounds = rounds
        finally:
            live.opening = False

    def _read(self, live: LiveJob) -> Rounds:
        job_id, rounds = live.job.id, Rounds(live.spec)
        if live.job.state is not JobState.QUEUED:
            rounds.take_up(
                self._store.results(job_id),
                self._store.failures(job_id),
                self._store.strikes(job_id),
            )
        return rounds

    async def _save(self, live: LiveJob) -> None:
        """Store the points that came, those together that came while others were stored."""
        while live.unsaved:
            batch, live.unsaved = live.unsaved, []
            live.stored(await self._ledger.write(self._store.put_points, live.job.id, batch))
            if live.rounds is not None:
                for point, metrics, _ in batch:
                    live.rounds.finish(point, metrics["loss"])
            self.update(live)

    async def _advance(self, live: LiveJob) -> None:
        """Make more points ready, or go on when all are there."""
        rounds = live.rounds
        assert rounds is not None  # noqa: S101 - the caller has looked
        while rounds.waits_for_ahead and not live.stopping:
            await self._ledger.think(rounds.ahead)
            self._scheduler.set_waiting(live.job.id, live.may_be_leased, self._clock())
            self.changed.set()
            if rounds.total != live.job.total:
                write, function = self._ledger.write, self._store.set_total
                live.stored(await write(function, live.job.id, rounds.total))
        if not rounds.over or live.leases:
            return
        await live.charged()
        async with live.lock:
            if live.stopping or live.job.state is not JobState.RUNNING:
                return
            await self._move(live, JobEvent.LAST_POINT)
        self._scheduler.remove(live.job.id)
        self.tasks.spawn(self._finish(live), f"finish {live.job.id}")

    async def _finish(self, live: LiveJob) -> None:
        await self.endings.finish(live)
        self._forget(live)

    async def _stopped(self, live: LiveJob) -> None:
        await live.charged()
        await self.endings.stopped(live)
        self._forget(live)

    def _forget(self, live: LiveJob) -> None:
        self.tally.jobs_ended[live.job.state] += 1
        self.live.pop(live.job.id, None)
        self._ledger.changes.forget(live.job.id)
        live.gone.set()

    async def _move(self, live: LiveJob, event: JobEvent) -> None:
        write, move = self._ledger.write, self._store.move
        live.stored(await write(move, live.job.id, event, now=self._clock()))
