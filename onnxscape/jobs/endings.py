"""How leases and jobs end badly or well: lost workers, errors, cancelling, the surface."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from onnxscape.errors import OnnxscapeError
from onnxscape.jobs.records import JobFailure
from onnxscape.jobs.states import JobEvent, JobState, TransitionError
from onnxscape.jobs.surfaces import write_surface

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnxscape.jobs.executor import Executor, Lost
    from onnxscape.jobs.job_store import JobStore
    from onnxscape.jobs.ledger import Ledger
    from onnxscape.jobs.live_job import Lease, LiveJob
    from onnxscape.jobs.records import Job

WORKER_LOST = "WORKER_LOST"
"""Reason of a job's failure: too many workers were lost on it."""

POINTS_FAILED = "POINTS_FAILED"
"""Reason of a job's failure: its surface is there, but some points are not."""

INTERNAL = "INTERNAL"
"""Reason of a job's failure: a mistake of ours."""

PATIENCE = 5.0
"""Seconds that a user who cancels waits for what is being written."""

_log = logging.getLogger(__name__)


class Endings:
    """Moves jobs to their end, each step durable before the next one."""

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        ledger: Ledger,
        *,
        surfaces: Path,
        strikes: int,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        """Take what it works with.

        Args:
            store: Where jobs are.
            executor: Where chunks are, to be given back.
            ledger: Calls the store.
            surfaces: Folder of the surfaces.
            strikes: Workers that may be lost on a point, or while loading a job.
            patience: Seconds that the chunks of a stopped job have to end by themselves.
            clock: The time.
        """
        self._store, self._executor, self._ledger = store, executor, ledger
        self._surfaces, self._strikes, self._patience = surfaces, strikes, patience
        self._clock = clock

    async def lost(self, lease: Lease, lost: Lost) -> None:
        """Count a lost worker against what it was at.

        Args:
            lease: What it had.
            lost: How it was lost.
        """
        live = lease.live
        if live.stopping:
            return
        how = f"the last one: {lost.reason} ({lost.message})"
        if lost.loading:
            count = await self._ledger.write(self._store.loading_strike, live.job.id)
            if count >= self._strikes:
                text = f"{count} workers were lost while they loaded the job; {how}"
                await self.fail(live, JobFailure(WORKER_LOST, text))
            return
        if not lease.missing or live.rounds is None:
            return
        point = next(iter(lease.missing.values()))
        count = await self._ledger.write(self._store.strike, live.job.id, point)
        live.rounds.strike(point, count)
        if count < self._strikes:
            return
        text = f"{count} workers were lost on it; {how}"
        where = f"row {point.row}, column {point.column}"
        if not live.rounds.tolerant:
            text = f"the point in {where} is needed for the others, but {text}"
            await self.fail(live, JobFailure(WORKER_LOST, text))
            return
        live.stored(await self._ledger.write(self._store.fail_point, live.job.id, point, text))
        live.rounds.finish(point, math.nan)
        lease.missing.pop((point.row, point.column), None)
        if live.job.failed >= self._strikes and live.job.done == 0:
            text = f"none of the first {live.job.failed} points could be evaluated; {how}"
            await self.fail(live, JobFailure(WORKER_LOST, text))

    async def fail(self, live: LiveJob, failure: JobFailure) -> None:
        """End a job that cannot go on; chunks under way are given back.

        Args:
            live: The job; nothing happens if it is ending already.
            failure: Why.
        """
        if live.stopping:
            return
        live.stopping = True
        self._give_back(live)
        await live.saved()
        async with live.lock:
            live.stored(
                await self._ledger.write(
                    self._store.move,
                    live.job.id,
                    JobEvent.ERROR,
                    failure=failure,
                    now=self._clock(),
                )
            )
        _log.info("job failed: %s", failure.reason, extra={"job": live.job.id})

    async def fail_by_mistake(self, live: LiveJob) -> None:
        """End a job after an exception that nobody expected, which is logged.

        Args:
            live: The job; it is as the store has it if that lets it fail no more.
        """
        _log.exception("a mistake of ours", extra={"job": live.job.id})
        text = "a mistake of the server's own; its log tells more"
        try:
            await self.fail(live, JobFailure(INTERNAL, text))
        except TransitionError:  # it has ended, or is ending, without our knowing
            stored = await self._ledger.write(self._store.job, live.job.id)
            if stored is not None:
                live.stored(stored)

    async def cancel(self, live: LiveJob) -> Job:
        """Cancel a job; chunks under way are given back.

        Args:
            live: The job; nothing happens if it is ending already.

        Returns:
            The job after that.

        Raises:
            StorageError: If that cannot be stored, as when the disk has been full for long.
        """
        async with self._ledger.holding(live.lock, PATIENCE):
            if not live.stopping and live.job.state in {JobState.QUEUED, JobState.RUNNING}:
                job = await self._ledger.call(
                    self._store.move, live.job.id, JobEvent.CANCEL, now=self._clock()
                )
                live.stored(job)
                live.stopping = True
                self._give_back(live)
        return live.job

    async def stopped(self, live: LiveJob) -> None:
        """Do what is left after the last chunk of a job that was stopping.

        Args:
            live: The job, without leases.
        """
        await live.saved()
        async with live.lock:
            if live.job.state is JobState.CANCELLING:
                live.stored(
                    await self._ledger.write(
                        self._store.move,
                        live.job.id,
                        JobEvent.CHUNKS_ENDED,
                        now=self._clock(),
                    )
                )

    async def finish(self, live: LiveJob) -> None:
        """Write the surface of a job that is finishing, and end it.

        Args:
            live: The job; all its points are there, or failed.
        """
        failure, event = None, JobEvent.SURFACE_WRITTEN
        try:
            await self._ledger.write(self._write, live.job)
            failed = await self._ledger.write(self._store.failures, live.job.id)
        except OnnxscapeError as error:
            failure, event = JobFailure(type(error).__name__, str(error)), JobEvent.ERROR
        except Exception:  # noqa: BLE001 - no job may stop the server
            _log.exception("no surface", extra={"job": live.job.id})
            failure, event = (
                JobFailure(INTERNAL, "the surface was not written"),
                JobEvent.ERROR,
            )
        else:
            if failed:
                failure, event = _points_failed(live.job, failed), JobEvent.POINTS_FAILED
        async with live.lock:
            live.stored(
                await self._ledger.write(
                    self._store.move,
                    live.job.id,
                    event,
                    failure=failure,
                    now=self._clock(),
                )
            )

    def _write(self, job: Job) -> None:
        write_surface(self._surfaces, job, self._store.results(job.id))

    def _give_back(self, live: LiveJob) -> None:
        """Ask for all chunks of a job; those that do not end soon are left."""
        loop = asyncio.get_running_loop()
        for lease in live.leases.values():
            lease.returning = True
            self._executor.give_back(lease.slot)
            if lease.task is not None and lease.task is not asyncio.current_task():
                loop.call_later(self._patience, lease.task.cancel)


def _points_failed(job: Job, failed: dict[tuple[int, int], str]) -> JobFailure:
    (row, column), why = next(iter(failed.items()))
    text = (
        f"{len(failed)} of {job.total} points could not be evaluated, the others are there; "
        f"the first of them, in row {row} and column {column}: {why}"
    )
    return JobFailure(POINTS_FAILED, text)
