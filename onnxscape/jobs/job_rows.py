"""Rows of jobs within a transaction: found, made, changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from onnxscape.jobs.job_file import JOBS, job_of
from onnxscape.jobs.states import FINISHED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from onnxscape.jobs.records import Job


def job_in(connection: sqlite3.Connection, job_id: str) -> Job:
    """Return a job.

    Args:
        connection: From `Database.writing`.
        job_id: Which.

    Returns:
        The job.

    Raises:
        LookupError: If there is none: a mistake of the caller.
    """
    row = connection.execute(JOBS + "WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no job {job_id!r}")
    return job_of(row)


def insert(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Insert a row into the table of jobs.

    Args:
        connection: From `Database.writing`.
        values: Name of the column to value.
    """
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    query = f"INSERT INTO jobs ({names}) VALUES ({marks})"  # noqa: S608 - our own names
    connection.execute(query, tuple(values.values()))


def change(connection: sqlite3.Connection, job: Job, changes: Mapping[str, Any]) -> Job:
    """Change a job, and its revision with it.

    A job that has ended stays as it is: who has seen its end has seen all of it.

    Args:
        connection: From `Database.writing`.
        job: The job.
        changes: Name of the column to its new value; none for no change.

    Returns:
        The job afterwards.
    """
    if not changes or job.state in FINISHED:
        return job
    names = ", ".join(f'"{name}" = ?' for name in changes)
    query = f"UPDATE jobs SET revision = revision + 1, {names} WHERE id = ?"  # noqa: S608
    connection.execute(query, (*changes.values(), job.id))
    return job_in(connection, job.id)


def merged(old: Iterable[str], new: Iterable[str]) -> str:
    """Return lines for people as the column holds them, without repeats.

    Args:
        old: What is there.
        new: What comes to it.

    Returns:
        JSON.
    """
    return json.dumps(list(dict.fromkeys([*old, *new])))
