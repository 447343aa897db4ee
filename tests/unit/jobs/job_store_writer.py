"""A process to be killed: it works on a store, and prints what was acknowledged."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

from onnxscape.core.grid import Point
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.states import JobEvent, JobState

SIDE = 4
"""Points of a job are a square of so many."""


def order(number: int) -> Order:
    """Returns the order of a number."""
    return Order(
        model="a" * 64, model_name="net", data=DataRef(name="digits"), options={"seed": number}
    )


def loss(number: int, row: int, column: int) -> float:
    """Returns the loss that a point of an order has."""
    return number + row / 8 + column / 64


def acknowledged(**what: object) -> None:
    """Tells what the store has returned from."""
    print(json.dumps(what), flush=True)


def work(store: JobStore, number: int) -> None:
    """Brings the job of an order to its end, from wherever it is."""
    job, _ = store.create_job(
        user="ann",
        order=order(number),
        spec="{}",
        display_name="",
        priority=0,
        estimate=Estimate(SIDE**2, 1.0, 1),
        notes=(),
        warnings=(),
        total=SIDE**2,
        request_id=f"request {number}",
        now=float(number),
    )
    acknowledged(job=job.id, number=number, revision=job.revision)
    if job.state is JobState.QUEUED:
        job = store.move(job.id, JobEvent.FIRST_CHUNK, now=1.0)
        acknowledged(job=job.id, state=job.state, revision=job.revision)
    for row in range(SIDE) if job.state is JobState.RUNNING else ():
        strikes = store.strike(job.id, Point(row, 0, 0.0, 0.0))
        acknowledged(job=job.id, strikes=strikes, row=row)
        points = [
            (Point(row, c, c / 4, row / 4), {"loss": loss(number, row, c)}, 0.1)
            for c in range(SIDE)
        ]
        job = store.put_points(job.id, points)
        acknowledged(job=job.id, stored=row, revision=job.revision)
    for state, event in (
        (JobState.RUNNING, JobEvent.LAST_POINT),
        (JobState.FINISHING, JobEvent.SURFACE_WRITTEN),
    ):
        if job.state is state:
            job = store.move(job.id, event, now=2.0)
            acknowledged(job=job.id, state=job.state, revision=job.revision)


if __name__ == "__main__":
    with JobStore.open(Path(sys.argv[1])) as opened:
        acknowledged(epoch=opened.begin_epoch())
        for unfinished in opened.unfinished():
            work(opened, unfinished.order.options["seed"])
        for unseen in itertools.count(int(sys.argv[2])):
            work(opened, unseen)
