"""The points of the jobs: each one once, and each with the revision at which it came."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from onnxscape.jobs.failpoints import reach
from onnxscape.jobs.job_file import POINTS, point_of
from onnxscape.jobs.job_rows import job_in
from onnxscape.jobs.states import FINISHED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.jobs.records import Job, StoredPoint
    from onnxscape.storage.database import Database

_INSERT = (
    'INSERT INTO points (job, "row", "column", alpha, beta, samples, metrics, "values",'
    " failure, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ' ON CONFLICT (job, "row", "column") DO NOTHING'
)

_PAGE = 1000
"""Points that are read at once."""

_NUMBER = "(SELECT number FROM jobs WHERE id = ?)"


class PointTable:
    """The points of all jobs, and the workers that were lost on them.

    Args:
        database: The jobs' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_points(
        self, job_id: str, points: Iterable[tuple[Point, Mapping[str, float], float]]
    ) -> Job:
        """Store points for good, all or none of them; those that are there stay as they are.

        Args:
            job_id: Whose; a job that has ended takes no more.
            points: Point, metrics, and the seconds that it took.

        Returns:
            The job afterwards; each new point has the next revision.

        Raises:
            LookupError: If there is no such job: a mistake of the caller.
            StorageError: If the disk fails; none of them is stored then.
        """
        with self._database.writing() as connection:
            job = job_in(connection, job_id)
            if job.state not in FINISHED:
                added = 0
                for point, metrics, _ in points:
                    names = _names_id(connection, tuple(metrics))
                    values = struct.pack(f"<{len(metrics)}d", *metrics.values())
                    result = (names, values, None, job.revision + added + 1)
                    row = (*_place(job, point), *result)
                    added += connection.execute(_INSERT, row).rowcount
                job = _counted(connection, job, done=added)
            reach("point.before_commit")
        reach("point.after_commit")
        return job

    def fail_point(self, job_id: str, point: Point, failure: str) -> Job:
        """Record that a point cannot be evaluated; one that is there stays.

        Args:
            job_id: Whose; nothing changes if it has ended.
            point: Which.
            failure: Why.

        Returns:
            The job afterwards.

        Raises:
            LookupError: If there is no such job: a mistake of the caller.
            StorageError: If the disk fails; nothing is changed then.
        """
        with self._database.writing() as connection:
            job = job_in(connection, job_id)
            if job.state in FINISHED:
                return job
            row = (*_place(job, point), None, None, failure, job.revision + 1)
            return _counted(connection, job, failed=connection.execute(_INSERT, row).rowcount)

    def points_after(self, job_id: str, revision: int, limit: int = 1000) -> list[StoredPoint]:
        """Return points that came after a revision of the job, in the order they came.

        Args:
            job_id: Whose.
            revision: Of the last one seen; 0 for all.
            limit: How many at most.

        Returns:
            The first points after it, failed ones included.
        """
        query = (
            f"{POINTS}WHERE p.job = {_NUMBER} AND p.revision > ? ORDER BY p.revision LIMIT ?"
        )
        return [point_of(row) for row in self._database.rows(query, (job_id, revision, limit))]

    def results(self, job_id: str) -> dict[tuple[int, int], Mapping[str, float]]:
        """Return all points that are there, in the order they came.

        Args:
            job_id: Whose.

        Returns:
            (row, column) to metrics; (-1, -1) is a center off the grid.
        """
        found: dict[tuple[int, int], Mapping[str, float]] = {}
        revision = 0
        # Page by page: nobody else's reading waits for that of a whole surface.
        while page := self.points_after(job_id, revision, _PAGE):
            for stored in page:
                if stored.metrics is not None:
                    found[stored.point.row, stored.point.column] = stored.metrics
            revision = page[-1].revision
        return found

    def failures(self, job_id: str) -> dict[tuple[int, int], str]:
        """Return all points that failed, in the order they did.

        Args:
            job_id: Whose.

        Returns:
            (row, column) to the reason.
        """
        query = (
            f'SELECT "row", "column", failure FROM points WHERE job = {_NUMBER}'  # noqa: S608
            " AND failure IS NOT NULL ORDER BY revision"
        )
        rows = self._database.rows(query, (job_id,))
        return {(row, column): failure for row, column, failure in rows}

    def strike(self, job_id: str, point: Point) -> int:
        """Count a worker that was lost on a point.

        Args:
            job_id: Whose.
            point: Which.

        Returns:
            How many it were by now.

        Raises:
            LookupError: If there is no such job: a mistake of the caller.
        """
        with self._database.writing() as connection:
            where = (job_in(connection, job_id).number, point.row, point.column)
            connection.execute(
                'INSERT INTO strikes (job, "row", "column", count) VALUES (?, ?, ?, 1)'
                ' ON CONFLICT (job, "row", "column") DO UPDATE SET count = count + 1',
                where,
            )
            query = 'SELECT count FROM strikes WHERE job = ? AND "row" = ? AND "column" = ?'
            return int(connection.execute(query, where).fetchone()[0])

    def strikes(self, job_id: str) -> dict[tuple[int, int], int]:
        """Return how many workers were lost on which points.

        Args:
            job_id: Whose.

        Returns:
            (row, column) to the number.
        """
        query = f'SELECT "row", "column", count FROM strikes WHERE job = {_NUMBER}'  # noqa: S608
        rows = self._database.rows(query, (job_id,))
        return {(row, column): count for row, column, count in rows}


def _place(job: Job, point: Point) -> tuple[int | float | None, ...]:
    """Return the columns that say which point it is."""
    return (job.number, point.row, point.column, point.alpha, point.beta, point.samples)


def _counted(
    connection: sqlite3.Connection, job: Job, *, done: int = 0, failed: int = 0
) -> Job:
    """Return a job after new points, each of which is a change of its own."""
    if done + failed == 0:
        return job
    connection.execute(
        "UPDATE jobs SET done = done + ?, failed = failed + ?, revision = revision + ?"
        " WHERE id = ?",
        (done, failed, done + failed, job.id),
    )
    return job_in(connection, job.id)


def _names_id(connection: sqlite3.Connection, names: tuple[str, ...]) -> int:
    """Return the number that stands for a set of metric names, in their order."""
    text = json.dumps(names)
    query = "SELECT id FROM metrics WHERE names = ?"
    row = connection.execute(query, (text,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO metrics (names) VALUES (?)", (text,))
        row = connection.execute(query, (text,)).fetchone()
    return int(row[0])
