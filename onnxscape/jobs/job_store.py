"""The store of the jobs: what it has said is done survives a kill and a power cut."""

from __future__ import annotations

import json
import logging
import secrets
from typing import TYPE_CHECKING, Any, Self

from onnxscape.errors import RequestIdConflictError
from onnxscape.jobs.failpoints import reach
from onnxscape.jobs.job_file import JOBS, SCHEMA, job_of
from onnxscape.jobs.point_table import PointTable
from onnxscape.jobs.states import FINISHED, JobEvent, JobState, next_state
from onnxscape.jobs.usage import add_charge, decayed_usage, usage_since
from onnxscape.storage.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from onnxscape.core.grid import Point
    from onnxscape.jobs.executor import Ready
    from onnxscape.jobs.order import Order
    from onnxscape.jobs.records import Estimate, Job, JobFailure, StoredPoint

_log = logging.getLogger(__name__)

_ENDED = tuple(sorted(FINISHED))
_USELESS = (JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING)
"""Jobs in these states are no answer to an equal order."""


class JobStore:
    """Jobs, their points, and what users have had of the devices, in a SQLite file.

    Every method that writes is one durable transaction: after it returns, its effect stays,
    and if it raises, there is none. May be used by several threads; reads do not wait for
    writes. Made by `JobStore.open`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._points = PointTable(database)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- orders ---------------------------------------------------------------------------

    def create_job(
        self,
        *,
        user: str,
        order: Order,
        spec: str,
        display_name: str,
        priority: int,
        estimate: Estimate,
        notes: Sequence[str],
        warnings: Sequence[str],
        total: int,
        request_id: str | None,
        now: float,
    ) -> tuple[Job, bool]:
        """Make a job, or find the one that the order has made before.

        Args:
            user: Whose.
            order: What to evaluate.
            spec: JSON of the spec.
            display_name: For people.
            priority: Among the user's own.
            estimate: What it is going to take.
            notes: For people.
            warnings: For people.
            total: Points to evaluate, as far as known.
            request_id: The client's name for the request; None for none.
            now: Unix seconds.

        Returns:
            The job, and whether it is new. An equal order of the user that is under way, or
            has succeeded, is the same job.

        Raises:
            RequestIdConflictError: If the request's name was used for another order.
        """
        digest = order.digest()
        with self._database.writing() as connection:
            found = _found(connection, user, digest, request_id)
            if found is not None:
                if request_id is not None:
                    _remember(connection, user, request_id, found.id, digest)
                return found, False
            identifier = secrets.token_urlsafe(16)
            row = {
                "id": identifier,
                "user": user,
                "order": order.to_json(),
                "digest": digest,
                "display_name": display_name,
                "priority": priority,
                "state": JobState.QUEUED,
                "revision": 1,
                "spec": spec,
                "notes": json.dumps(list(notes)),
                "warnings": json.dumps(list(warnings)),
                "total": total,
                "done": 0,
                "failed": 0,
                "points": estimate.points,
                "seconds": estimate.device_seconds,
                "memory": estimate.memory,
                "created": now,
                "device_seconds": 0.0,
            }
            names = ", ".join(f'"{name}"' for name in row)
            marks = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO jobs ({names}) VALUES ({marks})",  # noqa: S608 - fixed names
                tuple(row.values()),
            )
            if request_id is not None:
                _remember(connection, user, request_id, identifier, digest)
            made = _job(connection, identifier)
        reach("job.after_commit")
        return made, True

    def find_request(self, user: str, request_id: str) -> tuple[str, str] | None:
        """Return what a request has made before.

        Args:
            user: Whose.
            request_id: The client's name for it.

        Returns:
            ID of the job and digest of its order; None if there was no such request.
        """
        query = "SELECT job, digest FROM requests WHERE user = ? AND request_id = ?"
        rows = self._database.rows(query, (user, request_id))
        return (rows[0][0], rows[0][1]) if rows else None

    def find_equal(self, user: str, digest: str) -> Job | None:
        """Return a job of the user with an equal order, under way or succeeded.

        Args:
            user: Whose.
            digest: Of the order.
        """
        rows = self._database.rows(JOBS + _EQUAL, (user, digest, *_USELESS))
        return job_of(rows[0]) if rows else None

    def delete_job(self, job_id: str) -> None:
        """Forget a job with its points.

        Args:
            job_id: Which; nothing happens if there is none.
        """
        with self._database.writing() as connection:
            for table in ("points", "strikes"):
                connection.execute(
                    f"DELETE FROM {table} WHERE job ="  # noqa: S608 - fixed names
                    " (SELECT number FROM jobs WHERE id = ?)",
                    (job_id,),
                )
            connection.execute("DELETE FROM requests WHERE job = ?", (job_id,))
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    # --- looking --------------------------------------------------------------------------

    def job(self, job_id: str, user: str | None = None) -> Job | None:
        """Return a job.

        Args:
            job_id: Which.
            user: Whose it must be; None for anybody's.

        Returns:
            The job; None if there is none, or it is another user's.
        """
        rows = self._database.rows(JOBS + "WHERE id = ?", (job_id,))
        found = job_of(rows[0]) if rows else None
        return found if found is None or user in {None, found.user} else None

    def jobs(
        self,
        user: str,
        *,
        states: Collection[JobState] = frozenset(),
        limit: int,
        after: int | None = None,
    ) -> list[Job]:
        """Return jobs of a user, the newest first.

        Args:
            user: Whose.
            states: Only jobs in these; empty for all.
            limit: How many at most.
            after: Number of the last one seen, which may be gone by now; None to begin.

        Returns:
            The jobs.
        """
        query, values = JOBS + "WHERE user = ?", list[str | int]([user])
        if after is not None:
            query += " AND number < ?"
            values.append(after)
        if states:
            query += f" AND state IN ({', '.join('?' * len(states))})"
            values += sorted(states)
        rows = self._database.rows(query + " ORDER BY number DESC LIMIT ?", (*values, limit))
        return [job_of(row) for row in rows]

    def unfinished(self) -> list[Job]:
        """Return all jobs that have not ended, the oldest first."""
        marks = ", ".join("?" * len(_ENDED))
        query = f"{JOBS}WHERE state NOT IN ({marks}) ORDER BY number"
        return [job_of(row) for row in self._database.rows(query, _ENDED)]

    def active_count(self, user: str) -> int:
        """Return how many jobs of a user have not ended.

        Args:
            user: Whose.
        """
        marks = ", ".join("?" * len(_ENDED))
        query = f"SELECT count(*) FROM jobs WHERE user = ? AND state NOT IN ({marks})"  # noqa: S608
        return int(self._database.rows(query, (user, *_ENDED))[0][0])

    def ended_before(self, moment: float, limit: int = 100) -> list[Job]:
        """Return jobs that ended before a moment, the oldest first.

        Args:
            moment: Unix seconds.
            limit: How many at most.
        """
        query = JOBS + "WHERE ended < ? ORDER BY number LIMIT ?"
        return [job_of(row) for row in self._database.rows(query, (moment, limit))]

    def counts_by_state(self) -> dict[JobState, int]:
        """Return how many jobs are in each state; states without any are 0."""
        rows = self._database.rows("SELECT state, count(*) FROM jobs GROUP BY state")
        found = {JobState(state): int(count) for state, count in rows}
        return {state: found.get(state, 0) for state in JobState}

    def referenced_blobs(self) -> set[str]:
        """Return the sha256 of all blobs that a job, ended or not, was made of."""
        found: set[str] = set()
        for job in (job_of(row) for row in self._database.rows(JOBS)):
            found |= job.order.blobs
        return found

    # --- what happens to a job ------------------------------------------------------------

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
            state = next_state(_job(connection, job_id).state, event)
            changes: dict[str, Any] = {"state": state}
            if event is JobEvent.FIRST_CHUNK:
                changes["started"] = now
            if state in FINISHED:
                changes["ended"] = now
            if failure is not None:
                changes |= {"reason": failure.reason, "message": failure.message}
            job = _changed(connection, job_id, changes)
        told = {"job": job_id, "user": job.user, "state": str(state)}
        _log.info("job moved", extra=told | ({"reason": failure.reason} if failure else {}))
        return job

    def record_ready(self, job_id: str, ready: Ready) -> Job:
        """Record what a worker has found when it loaded a job.

        Args:
            job_id: Which.
            ready: The worker's report; plan, provenance and outline of the first one stay.

        Returns:
            The job afterwards.
        """
        with self._database.writing() as connection:
            job = _job(connection, job_id)
            changes: dict[str, Any] = {}
            if job.plan is None:
                changes |= {
                    "plan": ready.plan,
                    "provenance": json.dumps(dict(ready.provenance)),
                    "outline": json.dumps(dict(ready.outline)),
                }
            for name, old, new in (
                ("notes", job.notes, ready.notes),
                ("warnings", job.warnings, ready.warnings),
            ):
                merged = list(dict.fromkeys([*old, *new]))
                if merged != list(old):
                    changes[name] = json.dumps(merged)
            return _changed(connection, job_id, changes) if changes else job

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
            job = _job(connection, job_id)
            warnings = list(dict.fromkeys([*job.warnings, warning]))
            changes = {"plan": plan, "warnings": json.dumps(warnings)}
            return _changed(connection, job_id, changes)

    def set_total(self, job_id: str, total: int) -> Job:
        """Record how many points there are to evaluate, as far as known.

        Args:
            job_id: Which.
            total: The number.

        Returns:
            The job afterwards.
        """
        with self._database.writing() as connection:
            job = _job(connection, job_id)
            if job.total == total:
                return job
            return _changed(connection, job_id, {"total": total})

    # --- points ---------------------------------------------------------------------------

    def put_points(
        self, job_id: str, points: Iterable[tuple[Point, Mapping[str, float], float]]
    ) -> Job:
        """Store points for good, all or none of them; those that are there stay as they are.

        Args:
            job_id: Whose.
            points: Point, metrics, and the seconds that it took.

        Returns:
            The job afterwards.
        """
        with self._database.writing() as connection:
            added = self._points.put(connection, job_id, points)
            reach("point.before_commit")
            job = _job(connection, job_id)
            if added:
                values = (added, added, job_id)
                connection.execute(
                    "UPDATE jobs SET done = done + ?, revision = revision + ? WHERE id = ?",
                    values,
                )
                job = _job(connection, job_id)
        reach("point.after_commit")
        return job

    def fail_point(self, job_id: str, point: Point, failure: str) -> Job:
        """Record that a point cannot be evaluated; one that is there stays.

        Args:
            job_id: Whose.
            point: Which.
            failure: Why.

        Returns:
            The job afterwards.
        """
        with self._database.writing() as connection:
            if self._points.fail(connection, job_id, point, failure):
                connection.execute(
                    "UPDATE jobs SET failed = failed + 1, revision = revision + 1"
                    " WHERE id = ?",
                    (job_id,),
                )
            return _job(connection, job_id)

    def points_after(self, job_id: str, revision: int, limit: int = 1000) -> list[StoredPoint]:
        """Return points that came after a revision of the job, in the order they came.

        Args:
            job_id: Whose.
            revision: Of the last one seen; 0 for all.
            limit: How many at most.
        """
        return self._points.after(job_id, revision, limit)

    def results(self, job_id: str) -> dict[tuple[int, int], Mapping[str, float]]:
        """Return all points that are there, in the order they came.

        Args:
            job_id: Whose.

        Returns:
            (row, column) to metrics; (-1, -1) is a center off the grid.
        """
        return self._points.results(job_id)

    def failures(self, job_id: str) -> dict[tuple[int, int], str]:
        """Return all points that failed.

        Args:
            job_id: Whose.

        Returns:
            (row, column) to the reason.
        """
        return self._points.failures(job_id)

    def strike(self, job_id: str, point: Point) -> int:
        """Count a worker that was lost on a point.

        Args:
            job_id: Whose.
            point: Which.

        Returns:
            How many it were by now.
        """
        with self._database.writing() as connection:
            return self._points.strike(connection, job_id, point)

    def strikes(self, job_id: str) -> dict[tuple[int, int], int]:
        """Return how many workers were lost on which points.

        Args:
            job_id: Whose.

        Returns:
            (row, column) to the number.
        """
        return self._points.strikes(job_id)

    def loading_strike(self, job_id: str) -> int:
        """Count a worker that was lost while it loaded a job.

        Args:
            job_id: Which.

        Returns:
            How many it were by now.
        """
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET loading_strikes = loading_strikes + 1 WHERE id = ?", (job_id,)
            )
            query = "SELECT loading_strikes FROM jobs WHERE id = ?"
            row = connection.execute(query, (job_id,)).fetchone()
        return 0 if row is None else int(row[0])

    # --- users ----------------------------------------------------------------------------

    def charge(self, user: str, job_id: str, seconds: float, now: float) -> None:
        """Add time of a device to what a user and a job have had.

        Args:
            user: Who.
            job_id: For which job.
            seconds: How long.
            now: Unix seconds.
        """
        with self._database.writing() as connection:
            add_charge(connection, user, seconds, now)
            connection.execute(
                "UPDATE jobs SET device_seconds = device_seconds + ? WHERE id = ?",
                (seconds, job_id),
            )

    def usage_since(self, user: str, since: float) -> float:
        """Return the device-seconds of a user since a moment, to the minute.

        Args:
            user: Who.
            since: Unix seconds.
        """
        return usage_since(self._database, user, since)

    def decayed_usage(self, half_life: float, now: float) -> dict[str, float]:
        """Return the device-seconds of all users, older ones counting less.

        Args:
            half_life: Seconds after which a second counts half.
            now: Unix seconds.

        Returns:
            User to decayed seconds; users without any are left out.
        """
        return decayed_usage(self._database, half_life, now)

    def set_weight(self, user: str, weight: float) -> None:
        """Set a user's share of the devices, relative to others'.

        Args:
            user: Who.
            weight: 1 is usual.
        """
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO weights (user, weight) VALUES (?, ?)"
                " ON CONFLICT (user) DO UPDATE SET weight = excluded.weight",
                (user, weight),
            )

    def weights(self) -> dict[str, float]:
        """Return the shares that were set."""
        return dict(self._database.rows("SELECT user, weight FROM weights"))

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


_EQUAL = (
    "WHERE user = ? AND digest = ? AND state NOT IN (?, ?, ?) ORDER BY number DESC LIMIT 1"
)


def _found(
    connection: sqlite3.Connection, user: str, digest: str, request_id: str | None
) -> Job | None:
    """Return the job of the same request, or else of an equal order.

    Raises:
        RequestIdConflictError: If the request was for another order.
    """
    if request_id is not None:
        query = "SELECT job, digest FROM requests WHERE user = ? AND request_id = ?"
        row = connection.execute(query, (user, request_id)).fetchone()
        if row is not None:
            if row[1] != digest:
                raise RequestIdConflictError(
                    f"expected a new request_id for another order, got {request_id!r}, which "
                    f"has made jobs/{row[0]}"
                )
            return _job(connection, row[0])
    row = connection.execute(JOBS + _EQUAL, (user, digest, *_USELESS)).fetchone()
    return None if row is None else job_of(row)


def _remember(
    connection: sqlite3.Connection, user: str, request_id: str, job_id: str, digest: str
) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO requests (user, request_id, job, digest) VALUES (?, ?, ?, ?)",
        (user, request_id, job_id, digest),
    )


def _job(connection: sqlite3.Connection, job_id: str) -> Job:
    """Return a job within a transaction.

    Raises:
        LookupError: If there is none: a mistake of the caller.
    """
    row = connection.execute(JOBS + "WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no job {job_id!r}")
    return job_of(row)


def _changed(connection: sqlite3.Connection, job_id: str, changes: Mapping[str, Any]) -> Job:
    sets = ", ".join(f'"{name}" = ?' for name in changes)
    connection.execute(
        f"UPDATE jobs SET revision = revision + 1, {sets} WHERE id = ?",  # noqa: S608
        (*changes.values(), job_id),
    )
    return _job(connection, job_id)
