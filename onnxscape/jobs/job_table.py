"""The jobs of all users: ordered, found, listed, forgotten."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from onnxscape.errors import RequestIdConflictError
from onnxscape.jobs.failpoints import reach
from onnxscape.jobs.job_file import JOBS, job_of
from onnxscape.jobs.job_rows import insert, job_in
from onnxscape.jobs.states import FINISHED, JobState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from onnxscape.jobs.order import Order
    from onnxscape.jobs.records import Estimate, Job
    from onnxscape.storage.database import Database

_ENDED = tuple(sorted(FINISHED))

_USELESS = (JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING)
"""Jobs in these states are no answer to an equal order."""

_EQUAL = (
    "WHERE user = ? AND digest = ? AND state NOT IN (?, ?, ?) ORDER BY number DESC LIMIT 1"
)

_JOB = JOBS + "WHERE id = ?"

_ACTIVE = (
    "SELECT count(*), total(seconds * max(total - done - failed, 0) / max(total, 1)) FROM jobs"
)

_REQUEST = "SELECT job, digest FROM requests WHERE user = ? AND request_id = ?"


class JobTable:
    """The jobs as they are ordered and looked for.

    Args:
        database: The jobs' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

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
            identifier = secrets.token_hex(16)  # never like an option of a command line
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
            insert(connection, row)
            connection.executemany(
                "INSERT INTO job_blobs (user, sha256, job) VALUES (?, ?, ?)",
                [(user, sha256, identifier) for sha256 in sorted(order.blobs)],
            )
            if request_id is not None:
                _remember(connection, user, request_id, identifier, digest)
            made = job_in(connection, identifier)
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
        rows = self._database.rows(_REQUEST, (user, request_id))
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
            connection.execute("DELETE FROM job_blobs WHERE job = ?", (job_id,))
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
        return _of_user(self._database.rows(_JOB, (job_id,)), user)

    def job_now(self, job_id: str, user: str | None = None) -> Job | None:
        """Return a job without waiting for others who read.

        Args:
            job_id: Which.
            user: Whose it must be; None for anybody's.

        Returns:
            The job; None if `job` would return None, or would have to wait.
        """
        return _of_user(self._database.rows_now(_JOB, (job_id,)) or (), user)

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

    def active(self, user: str) -> tuple[int, float]:
        """Return how much of a user's jobs is still to come.

        Args:
            user: Whose.

        Returns:
            How many have not ended; and the device-seconds that the points they lack were
            expected to take.
        """
        marks = ", ".join("?" * len(_ENDED))
        query = f"{_ACTIVE} WHERE user = ? AND state NOT IN ({marks})"
        count, seconds = self._database.rows(query, (user, *_ENDED))[0]
        return int(count), float(seconds)

    def ended_before(self, moment: float, limit: int = 100) -> list[Job]:
        """Return jobs that ended before a moment, the oldest first.

        Args:
            moment: Unix seconds.
            limit: How many at most.

        Returns:
            The jobs.
        """
        query = JOBS + "WHERE ended < ? ORDER BY ended LIMIT ?"
        return [job_of(row) for row in self._database.rows(query, (moment, limit))]

    def kept_count(self, user: str) -> int:
        """Return how many jobs of a user there are, ended or not.

        Args:
            user: Whose.
        """
        query = "SELECT count(*) FROM jobs WHERE user = ?"
        return int(self._database.rows(query, (user,))[0][0])

    def counts_by_state(self) -> dict[JobState, int]:
        """Return how many jobs are in each state; states without any are 0."""
        rows = self._database.rows("SELECT state, count(*) FROM jobs GROUP BY state")
        found = {JobState(state): int(count) for state, count in rows}
        return {state: found.get(state, 0) for state in JobState}

    def referenced_blobs(self, user: str | None = None) -> set[str]:
        """Return the blobs that jobs, ended or not, were made of.

        Args:
            user: Whose jobs; None for everybody's.

        Returns:
            sha256 (hex) of each.
        """
        query, values = "SELECT DISTINCT sha256 FROM job_blobs", list[str]()
        if user is not None:
            query, values = query + " WHERE user = ?", [user]
        return {sha256 for (sha256,) in self._database.rows(query, values)}


def _of_user(rows: Sequence[tuple[Any, ...]], user: str | None) -> Job | None:
    found = job_of(rows[0]) if rows else None
    return found if found is None or user in {None, found.user} else None


def _found(
    connection: sqlite3.Connection, user: str, digest: str, request_id: str | None
) -> Job | None:
    """Return the job of the same request, or else of an equal order.

    Raises:
        RequestIdConflictError: If the request was for another order.
    """
    if request_id is not None:
        row = connection.execute(_REQUEST, (user, request_id)).fetchone()
        if row is not None:
            if row[1] != digest:
                raise RequestIdConflictError(
                    f"expected a new request_id for another order, got {request_id!r}, which "
                    f"has made jobs/{row[0]}"
                )
            return job_in(connection, row[0])
    row = connection.execute(JOBS + _EQUAL, (user, digest, *_USELESS)).fetchone()
    return None if row is None else job_of(row)


def _remember(
    connection: sqlite3.Connection, user: str, request_id: str, job_id: str, digest: str
) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO requests (user, request_id, job, digest) VALUES (?, ?, ?, ?)",
        (user, request_id, job_id, digest),
    )
