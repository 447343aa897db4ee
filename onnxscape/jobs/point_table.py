"""The points of the jobs: each one once, and each with the revision at which it came."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

from onnxscape.jobs.job_file import POINTS, point_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.jobs.records import StoredPoint
    from onnxscape.storage.database import Database

_INSERT = (
    'INSERT INTO points (job, "row", "column", alpha, beta, samples, metrics, "values",'
    " failure, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

_PAGE = 1000
"""Points that are read at once."""

_NUMBER = "(SELECT number FROM jobs WHERE id = ?)"


class PointTable:
    """The points of all jobs.

    Args:
        database: The jobs' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        connection: sqlite3.Connection,
        job_id: str,
        points: Iterable[tuple[Point, Mapping[str, float], float]],
    ) -> int:
        """Insert points within a transaction, with the revisions that follow the job's.

        Args:
            connection: From `Database.writing`.
            job_id: Whose.
            points: Point, metrics, seconds.

        Returns:
            How many of them are new.
        """
        number, revision = _place(connection, job_id)
        added = 0
        for point, metrics, _ in points:
            values = (
                number,
                point.row,
                point.column,
                point.alpha,
                point.beta,
                point.samples,
                _names_id(connection, tuple(metrics)),
                struct.pack(f"<{len(metrics)}d", *metrics.values()),
                None,
                revision + added + 1,
            )
            added += connection.execute(_INSERT, values).rowcount
        return added

    def fail(
        self, connection: sqlite3.Connection, job_id: str, point: Point, failure: str
    ) -> bool:
        """Insert a point that failed, within a transaction.

        Args:
            connection: From `Database.writing`.
            job_id: Whose.
            point: Which.
            failure: Why.

        Returns:
            Whether it is new.
        """
        number, revision = _place(connection, job_id)
        where = (number, point.row, point.column, point.alpha, point.beta, point.samples)
        values = (*where, None, None, failure, revision + 1)
        return connection.execute(_INSERT, values).rowcount > 0

    def after(self, job_id: str, revision: int, limit: int) -> list[StoredPoint]:
        """Return points in the order they came.

        Args:
            job_id: Whose.
            revision: Of the last one seen.
            limit: How many at most.
        """
        query = (
            f"{POINTS}WHERE p.job = {_NUMBER} AND p.revision > ? ORDER BY p.revision LIMIT ?"
        )
        return [point_of(row) for row in self._database.rows(query, (job_id, revision, limit))]

    def results(self, job_id: str) -> dict[tuple[int, int], Mapping[str, float]]:
        """Return the metrics of all points that are there, in the order they came.

        Args:
            job_id: Whose.
        """
        found: dict[tuple[int, int], Mapping[str, float]] = {}
        revision = 0
        # Page by page: nobody else's reading waits for that of a whole surface.
        while page := self.after(job_id, revision, _PAGE):
            for stored in page:
                if stored.metrics is not None:
                    found[stored.point.row, stored.point.column] = stored.metrics
            revision = page[-1].revision
        return found

    def failures(self, job_id: str) -> dict[tuple[int, int], str]:
        """Return why points failed, in the order they did.

        Args:
            job_id: Whose.
        """
        query = (
            f'SELECT "row", "column", failure FROM points WHERE job = {_NUMBER}'  # noqa: S608
            " AND failure IS NOT NULL ORDER BY revision"
        )
        rows = self._database.rows(query, (job_id,))
        return {(row, column): failure for row, column, failure in rows}

    def strike(self, connection: sqlite3.Connection, job_id: str, point: Point) -> int:
        """Count a lost worker within a transaction.

        Args:
            connection: From `Database.writing`.
            job_id: Whose.
            point: On which point.

        Returns:
            How many it were by now.
        """
        number, _ = _place(connection, job_id)
        where = (number, point.row, point.column)
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
        """
        query = f'SELECT "row", "column", count FROM strikes WHERE job = {_NUMBER}'  # noqa: S608
        rows = self._database.rows(query, (job_id,))
        return {(row, column): count for row, column, count in rows}


def _place(connection: sqlite3.Connection, job_id: str) -> tuple[int, int]:
    """Return number and revision of a job.

    Raises:
        LookupError: If there is none: a mistake of the caller.
    """
    query = "SELECT number, revision FROM jobs WHERE id = ?"
    row = connection.execute(query, (job_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no job {job_id!r}")
    return int(row[0]), int(row[1])


def _names_id(connection: sqlite3.Connection, names: tuple[str, ...]) -> int:
    """Return the number that stands for a set of metric names, in their order."""
    text = json.dumps(names)
    query = "SELECT id FROM metrics WHERE names = ?"
    row = connection.execute(query, (text,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO metrics (names) VALUES (?)", (text,))
        row = connection.execute(query, (text,)).fetchone()
    return int(row[0])
