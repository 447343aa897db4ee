"""The tables of the jobs' database, and how their rows become records."""

from __future__ import annotations

import functools
import json
import struct
from typing import TYPE_CHECKING, Any

from onnxscape.core.grid import Point
from onnxscape.jobs.order import Order
from onnxscape.jobs.records import Estimate, Job, JobFailure, StoredPoint
from onnxscape.jobs.states import JobState
from onnxscape.storage.database import Schema

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = Schema(
    what="jobs",
    application_id=0x6F786A62,  # `oxjb`
    version=1,
    tables="""
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, "order" TEXT NOT NULL, digest TEXT NOT NULL,
    display_name TEXT NOT NULL, priority INTEGER NOT NULL, state TEXT NOT NULL,
    reason TEXT, message TEXT, revision INTEGER NOT NULL,
    spec TEXT NOT NULL, "plan" TEXT, outline TEXT, provenance TEXT,
    notes TEXT NOT NULL, warnings TEXT NOT NULL,
    total INTEGER NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL,
    points INTEGER NOT NULL, seconds REAL NOT NULL, memory INTEGER NOT NULL,
    created REAL NOT NULL, started REAL, ended REAL, device_seconds REAL NOT NULL,
    loading_strikes INTEGER NOT NULL DEFAULT 0);
CREATE INDEX jobs_by_user ON jobs (user, number);
CREATE INDEX jobs_by_digest ON jobs (user, digest);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_by_end ON jobs (ended);
CREATE TABLE requests (
    user TEXT NOT NULL, request_id TEXT NOT NULL, job TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (user, request_id)) WITHOUT ROWID;
CREATE INDEX requests_by_job ON requests (job);
CREATE TABLE job_blobs (
    user TEXT NOT NULL, sha256 TEXT NOT NULL, job TEXT NOT NULL,
    PRIMARY KEY (user, sha256, job)) WITHOUT ROWID;
CREATE INDEX job_blobs_by_job ON job_blobs (job);
CREATE TABLE metrics (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE points (
    job INTEGER NOT NULL, "row" INTEGER NOT NULL, "column" INTEGER NOT NULL,
    alpha REAL NOT NULL, beta REAL NOT NULL, samples INTEGER,
    metrics INTEGER, "values" BLOB, failure TEXT, revision INTEGER NOT NULL,
    PRIMARY KEY (job, "row", "column")) WITHOUT ROWID;
CREATE UNIQUE INDEX points_by_revision ON points (job, revision);
CREATE TABLE strikes (
    job INTEGER NOT NULL, "row" INTEGER NOT NULL, "column" INTEGER NOT NULL,
    count INTEGER NOT NULL, PRIMARY KEY (job, "row", "column")) WITHOUT ROWID;
CREATE TABLE charges (
    user TEXT NOT NULL, minute INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (user, minute)) WITHOUT ROWID;
CREATE INDEX charges_by_minute ON charges (minute);
CREATE TABLE weights (user TEXT PRIMARY KEY, weight REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID
""",
)

JOBS = (
    'SELECT id, user, "order", display_name, priority, state, reason, message, revision, spec,'
    ' "plan", outline, provenance, notes, warnings, total, done, failed, points, seconds,'
    " memory, created, started, ended, device_seconds, number FROM jobs "
)
"""Selects what `job_of` reads."""

POINTS = (
    'SELECT p."row", p."column", p.alpha, p.beta, p.samples, m.names, p."values", p.failure,'
    " p.revision FROM points AS p LEFT JOIN metrics AS m ON m.id = p.metrics "
)
"""Selects what `point_of` reads."""


def job_of(row: Sequence[Any]) -> Job:
    """Return a row of `JOBS` as a record.

    Args:
        row: The row.
    """
    (
        identifier,
        user,
        order,
        display_name,
        priority,
        state,
        reason,
        message,
        revision,
        spec,
        plan,
        outline,
        provenance,
        notes,
        warnings,
        total,
        done,
        failed,
        points,
        seconds,
        memory,
        created,
        started,
        ended,
        device_seconds,
        number,
    ) = row
    return Job(
        id=identifier,
        user=user,
        order=_order(order) if len(order) <= _SHORT else Order.from_json(order),
        display_name=display_name,
        priority=priority,
        state=JobState(state),
        failure=None if reason is None else JobFailure(reason, message or ""),
        revision=revision,
        spec=spec,
        plan=plan,
        outline=outline,
        provenance=provenance,
        notes=tuple(json.loads(notes)),
        warnings=tuple(json.loads(warnings)),
        total=total,
        done=done,
        failed=failed,
        estimate=Estimate(points, seconds, memory),
        created=created,
        started=started,
        ended=ended,
        device_seconds=device_seconds,
        number=number,
    )


_SHORT = 4096
"""Characters of the JSON of orders that are remembered: all of them together stay small."""


@functools.lru_cache(maxsize=512)
def _order(text: str) -> Order:
    """Return a short order from its JSON: its job is looked at often."""
    return Order.from_json(text)


@functools.cache
def _keys(names: str) -> tuple[str, ...]:
    """Return names of metrics from their JSON: few sets of them, and many points of each."""
    return tuple(json.loads(names))


def point_of(row: Sequence[Any]) -> StoredPoint:
    """Return a row of `POINTS` as a record.

    Args:
        row: The row.
    """
    r, column, alpha, beta, samples, names, blob, failure, revision = row
    metrics = None
    if names is not None:
        keys = _keys(names)
        # Not SQLite's own REAL, which turns NaN into NULL.
        values = struct.unpack(f"<{len(keys)}d", blob)
        metrics = dict(zip(keys, values, strict=True))
    return StoredPoint(Point(r, column, alpha, beta, samples), metrics, failure, revision)
