"""The store of the jobs: what it has said is done survives a kill and a power cut."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Self

from onnxscape.files.closing import Closing
from onnxscape.jobs.job_file import SCHEMA
from onnxscape.jobs.job_rows import change, job_in, merged
from onnxscape.jobs.job_table import JobTable
from onnxscape.jobs.point_table import PointTable
from onnxscape.jobs.states import FINISHED, JobEvent, next_state
from onnxscape.jobs.usage_table import UsageTable
from onnxscape.storage.database import Database

if TYPE_CHECKING:
    from pathlib import Path

    from onnxscape.jobs.executor import Ready
    from onnxscape.jobs.records import Job, JobFailure

_log = logging.getLogger(__name__)


class JobStore(JobTable, PointTable, UsageTable, Closing):
    """Jobs, their points, and what users have had of the devices, in a SQLite file.

    Every method that writes is one durable transaction: after it returns, its effect stays,
    and if it raises, there is none. May be used by several threads; reads do not wait for
    writes. A job that has ended changes no more. Made by `JobStore.open`.
    """

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file; make it if it is new.

        Args:
            path: The file, in a folder that is there.

        Returns:
            The store.

        Raises:
            OutputError: If it cannot be opened or is none of ours.
        """
        return cls(Database.open(path, SCHEMA))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def move(
        self,
        job_id: str,
        event: JobEvent,
        *,
        failure: JobFailure | None = None,
        now: float,
    ) -> Job:
        """Let an event happen to a job.

        Args:
            job_id: Which.
            event: What happens.
            failure: Why it fails, if it does.
            now: Unix seconds.

        Returns:
            The job afterwards.

        Raises:
            TransitionError: If it cannot happen in the job's state.
        """
        with self._database.writing() as connection:
            job = job_in(connection, job_id)
            state = next_state(job.state, event)
            changes: dict[str, Any] = {"state": state}
            if event is JobEvent.FIRST_CHUNK:
                changes["started"] = now
            if state in FINISHED:
                changes["ended"] = now
            if failure is not None:
                changes |= {"reason": failure.reason, "message": failure.message}
            moved = change(connection, job, changes)
        told = {"job": job_id, "user": moved.user, "state": str(moved.state)}
        _log.info("job moved", extra=told | ({"reason": failure.reason} if failure else {}))
        return moved

    def record_ready(self, job_id: str, ready: Ready) -> Job:
        """Record what a worker has found when it loaded a job.

        Args:
            job_id: Which.
            ready: The worker's report; plan, provenance and outline of the first one stay.

        Returns:
            The job afterwards.
        """
        with self._database.writing() as connection:
            job = job_in(connection, job_id)
            changes: dict[str, Any] = {}
            if job.plan is None:
                changes |= {
                    "plan": ready.plan,
                    "provenance": json.dumps(dict(ready.provenance)),
                    "outline": json.dumps(dict(ready.outline)),
                }
            if not set(ready.notes) <= set(job.notes):
                changes["notes"] = merged(job.notes, ready.notes)
            if not set(ready.warnings) <= set(job.warnings):
                changes["warnings"] = merged(job.warnings, ready.warnings)
            return change(connection, job, changes)

    def replan(self, job_id: str, plan: str, warning: str) -> Job:
        """Record that the points to come have another plan.

        Args:
            job_id: Which.
            plan: JSON of the plan.
            warning: For people.

        Returns:
            The job afterwards.
        """
        with self._database.writing() as connection:
            job = job_in(connection, job_id)
            changes = {"plan": plan, "warnings": merged(job.warnings, [warning])}
            return change(connection, job, changes)

    def set_total(self, job_id: str, total: int) -> Job:
        """Record how many points there are to evaluate, as far as known.

        Args:
            job_id: Which.
            total: The number.

        Returns:
            The job afterwards.
        """
        with self._database.writing() as connection:
            job = job_in(connection, job_id)
            return change(connection, job, {} if job.total == total else {"total": total})

    def loading_strike(self, job_id: str) -> int:
        """Count a worker that was lost while it loaded a job.

        Args:
            job_id: Which.

        Returns:
            How many it were by now.

        Raises:
            LookupError: If there is no such job: a mistake of the caller.
        """
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET loading_strikes = loading_strikes + 1 WHERE id = ?", (job_id,)
            )
            query = "SELECT loading_strikes FROM jobs WHERE id = ?"
            row = connection.execute(query, (job_id,)).fetchone()
            if row is None:
                raise LookupError(f"there is no job {job_id!r}")
            return int(row[0])

    def begin_epoch(self) -> int:
        """Count a start of the server: numbers of leases grow over starts as well.

        Returns:
            How many starts it were by now.
        """
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO counters (name, value) VALUES ('epoch', 1)"
                " ON CONFLICT (name) DO UPDATE SET value = value + 1"
            )
            query = "SELECT value FROM counters WHERE name = 'epoch'"
            return int(connection.execute(query).fetchone()[0])
