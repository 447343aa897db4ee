"""The coordinator: from orders in the store to points on slots to surfaces, whatever happens.

Everything that lasts is in the store; what is in memory follows from it. So a coordinator that
is started on a store goes on where the one before was killed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from onnxscape.errors import OnnxscapeError, UsageError
from onnxscape.jobs.configuration import CoordinatorConfig
from onnxscape.jobs.courses import Courses
from onnxscape.jobs.endings import PATIENCE, Endings
from onnxscape.jobs.estimates import Load, completion
from onnxscape.jobs.ledger import Ledger
from onnxscape.jobs.live_job import LiveJob
from onnxscape.jobs.records import JobFailure
from onnxscape.jobs.scheduler import Scheduler
from onnxscape.jobs.states import FINISHED, JobEvent, JobState
from onnxscape.jobs.surfaces import surface_path, sweep
from onnxscape.jobs.tally import Tally
from onnxscape.jobs.tasks import Tasks
from onnxscape.jobs.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnxscape.jobs.executor import Executor
    from onnxscape.jobs.job_store import JobStore
    from onnxscape.jobs.records import Job

__all__ = ["Coordinator", "CoordinatorConfig"]


class Coordinator:
    """Computes the jobs of a store on the slots of an executor.

    For one event loop, which it never blocks. It starts and closes the executor, but the store
    is its maker's to close.

    Attributes:
        tally: What was done, for operators.
        draining: Whether nothing is leased any more.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        *,
        surfaces: Path,
        config: CoordinatorConfig | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what it works with; nothing happens before `start`.

        Args:
            store: Where jobs and points are; nobody else moves jobs or stores points.
            executor: Evaluates chunks.
            surfaces: Folder of the surfaces; made if it is missing.
            config: Times and numbers.
            clock: The time, in Unix seconds.
        """
        self._store, self._executor, self._surfaces = store, executor, surfaces
        self._config, self._clock = config or CoordinatorConfig(), clock
        self._ledger = Ledger(self._config.retry_seconds)
        self._tasks = Tasks()
        self._scheduler = Scheduler(self._config.turns)
        self._weights: dict[str, float] = {}
        self._moving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._begun: tuple[Courses, Turns] | None = None
        self._running: asyncio.Task[None] | None = None
        self.tally = Tally()
        self.draining = False

    @property
    def trouble(self) -> str | None:
        """Why nothing can be stored just now; None if it can."""
        return self._ledger.trouble

    @property
    def leases_under_way(self) -> int:
        """Number of chunks that are being computed; may be asked by any thread."""
        return 0 if self._begun is None else len(self._turns.leases())

    @property
    def _courses(self) -> Courses:
        return self._parts()[0]

    @property
    def _turns(self) -> Turns:
        return self._parts()[1]

    def _parts(self) -> tuple[Courses, Turns]:
        if self._begun is None:
            raise RuntimeError("expected a coordinator that was started: call start first")
        return self._begun

    async def start(self) -> int:
        """Start the executor, and go on with every job that is not finished.

        Returns:
            How many these are.

        Raises:
            StorageError: If the store cannot be read or written.
        """
        call, now = self._ledger.call, self._clock()
        await call(sweep, self._surfaces, self._exists)
        epoch = await call(self._store.begin_epoch)
        used = await call(self._store.decayed_usage, self._config.turns.half_life, now)
        self._scheduler = Scheduler(self._config.turns, used=used)
        await self._executor.start()
        self._begun = self._assembled(epoch)
        await self._read_weights()
        jobs = await call(self._store.unfinished)
        for job in jobs:
            await self._admit(job)
        self._running = asyncio.create_task(self._turns.go_on(), name="turns")
        return len(jobs)

    def _assembled(self, epoch: int) -> tuple[Courses, Turns]:
        endings = Endings(
            self._store,
            self._executor,
            self._ledger,
            surfaces=self._surfaces,
            strikes=self._config.strikes,
            patience=self._config.stop_seconds,
            clock=self._clock,
        )
        courses = Courses(
            self._store,
            self._executor,
            self._ledger,
            self._scheduler,
            endings,
            tally=self.tally,
            tasks=self._tasks,
            clock=self._clock,
        )
        turns = Turns(
            courses,
            self._executor,
            self._scheduler,
            epoch=epoch,
            config=self._config,
            clock=self._clock,
        )
        return courses, turns

    def _exists(self, job_id: str) -> bool:
        return self._store.job(job_id) is not None

    async def submit(self, job_id: str) -> None:
        """Take on a job that was stored; one that is known or finished changes nothing.

        Args:
            job_id: ID of the job.

        Raises:
            StorageError: If it cannot be read; it is taken on at the next start then.
        """
        async with self._lock(job_id):
            # Asked before the store is: what is live may end before the store has answered.
            if job_id in self._courses.live:
                return
            await self._read_weights()
            job = await self._ledger.call(self._store.job, job_id)
            if job is not None and job.state not in FINISHED:
                await self._admit(job)

    def _lock(self, job_id: str) -> asyncio.Lock:
        """Return what is held to take on a job, or to cancel one that was not taken on."""
        return self._moving.setdefault(job_id, asyncio.Lock())

    async def _read_weights(self) -> None:
        weights = await self._ledger.call(self._store.weights)
        for user in {*weights, *self._weights}:
            self._scheduler.set_weight(user, weights.get(user, 1.0), self._clock())
        self._weights = dict(weights)

    async def _admit(self, job: Job) -> None:
        write, now = self._ledger.write, self._clock()
        if job.state is JobState.CANCELLING:  # its chunks ended with the server before
            await write(self._store.move, job.id, JobEvent.CHUNKS_ENDED, now=now)
            return
        try:
            live = LiveJob.of(job)
        except OnnxscapeError as error:
            failure = JobFailure(type(error).__name__, str(error))
            await write(self._store.move, job.id, JobEvent.ERROR, failure=failure, now=now)
            return
        self._courses.admit(live)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; of one that is ending or finished nothing is changed.

        Args:
            job_id: ID of the job.

        Returns:
            The job, cancelled or being so.

        Raises:
            UsageError: If there is no such job.
            StorageError: If it cannot be stored; it goes on then.
        """
        live = self._courses.live.get(job_id)
        if live is None:
            async with self._ledger.holding(self._lock(job_id), PATIENCE):
                live = self._courses.live.get(job_id)  # it may have been taken on meanwhile
                if live is None:
                    return await self._cancel_stored(job_id)
        await self._courses.endings.cancel(live)
        self._courses.update(live)
        return live.job

    async def _cancel_stored(self, job_id: str) -> Job:
        """Cancel a job that was not taken on.

        Returns:
            The job after that.

        Raises:
            UsageError: If there is no such job.
        """
        job = await self._ledger.call(self._store.job, job_id)
        if job is None:
            raise UsageError(_no_job(job_id))
        if job.state is JobState.QUEUED:
            now = self._clock()
            job = await self._ledger.call(self._store.move, job_id, JobEvent.CANCEL, now=now)
            self._ledger.changes.forget(job_id)
        return job

    async def delete(self, job_id: str) -> None:
        """Delete a finished job with its points and its surface.

        Args:
            job_id: ID of the job; nothing happens if there is none.

        Raises:
            UsageError: If it is not finished.
            StorageError: If it cannot be deleted.
        """
        job = await self._ledger.call(self._store.job, job_id)
        if job is None:
            return
        if job.state not in FINISHED:
            raise UsageError(f"job {job_id} is {job.state}; cancel it before it is deleted")
        live = self._courses.live.get(job_id)
        if live is not None:
            seconds = self._config.stop_seconds + PATIENCE
            async with self._ledger.patience(seconds, "its last points have been ending"):
                await live.gone.wait()
        await self._ledger.call(self._store.delete_job, job_id)
        path = surface_path(self._surfaces, job_id)
        await self._ledger.call(path.unlink, missing_ok=True)
        self._ledger.changes.forget(job_id)

    async def changed(self, job_id: str, revision: int, timeout: float) -> bool:
        """Wait until a job has changed.

        Args:
            job_id: ID of the job.
            revision: The last one that was seen.
            timeout: Seconds to wait at most.

        Returns:
            Whether its revision is above that, or it is deleted; False after the timeout.
        """

        async def look() -> int | None:
            job = await self._ledger.call(self._store.job, job_id)
            return None if job is None else job.revision

        return await self._ledger.changes.above(job_id, revision, timeout, look)

    def estimate_completion(self, job: Job) -> float:
        """Estimate when a job is finished, with what waits before it.

        Args:
            job: The job; stored, or only thought of.

        Returns:
            Seconds from now; 0 if it is finished.
        """
        if job.state in FINISHED:
            return 0.0
        slots, live = self._executor.slots, self._courses.live
        own = live.get(job.id) or LiveJob.of(job)
        age = self._scheduler.age(own.ticket(slots))
        seconds: dict[str, float] = {job.user: own.seconds_left}
        for other in live.values():
            user = other.job.user
            before = self._scheduler.age(other.ticket(slots)) < age
            if other is not own and (user != job.user or before):
                seconds[user] = seconds.get(user, 0.0) + other.seconds_left
        loads = {
            user: Load(left, self._weights.get(user, 1.0)) for user, left in seconds.items()
        }
        return completion(loads.pop(job.user), loads.values(), len(slots))

    async def drain(self, seconds: float) -> None:
        """Lease nothing any more, and wait for what is under way.

        Chunks end after the point under way; those that do not in time are given up. Every
        job is then as it is after a restart.

        Args:
            seconds: How long to wait at most.
        """
        self.draining = self._turns.paused = True
        for lease in self._turns.leases():
            lease.returning = True
            self._executor.give_back(lease.slot)
        await self._tasks.wait(seconds)
        for lease in self._turns.leases():
            if lease.task is not None:
                lease.task.cancel()

    async def close(self) -> None:
        """Stop at once; what is not stored is computed again after the next start."""
        self.draining = True
        if self._begun is not None:
            self._turns.paused = True
            if self._running is not None:
                self._running.cancel()
                await asyncio.wait([self._running])
            await self._tasks.cancel()
            await self._executor.close()
        await self._ledger.close()


def _no_job(job_id: str) -> str:
    return f"there is no job {job_id!r}"
