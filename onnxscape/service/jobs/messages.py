"""Jobs and their points as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.jobs.states import JobState
from onnxscape.service.answers.names import JOBS
from onnxscape.service.answers.times import duration, timestamp
from onnxscape.service.orders.messages import execution_of
from onnxscape.v1 import jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnxscape.jobs.records import Estimate, Job, StoredPoint

STATES: Mapping[JobState, jobs_pb2.JobState] = {
    JobState.QUEUED: jobs_pb2.JOB_STATE_QUEUED,
    JobState.RUNNING: jobs_pb2.JOB_STATE_RUNNING,
    JobState.FINISHING: jobs_pb2.JOB_STATE_FINISHING,
    JobState.CANCELLING: jobs_pb2.JOB_STATE_CANCELLING,
    JobState.SUCCEEDED: jobs_pb2.JOB_STATE_SUCCEEDED,
    JobState.FAILED: jobs_pb2.JOB_STATE_FAILED,
    JobState.CANCELLED: jobs_pb2.JOB_STATE_CANCELLED,
}
"""Every state has its number; a test proves it."""


def job_message(
    job: Job,
    spec: jobs_pb2.JobSpec,
    *,
    completion: float | None = None,
    shared: bool = False,
) -> jobs_pb2.Job:
    """Return what a caller is told of a job.

    Args:
        job: Its record.
        spec: Its spec.
        completion: Seconds until it is finished; None if that is not known.
        shared: Whether an order was answered with it that came later than its own.

    Returns:
        The message.
    """
    message = jobs_pb2.Job(
        name=f"{JOBS}/{job.id}",
        spec=spec,
        execution=execution_of(job.order),
        display_name=job.display_name,
        priority=job.priority,
        state=STATES[job.state],
        revision=job.revision,
        point_total=job.total,
        point_count=job.done,
        failed_count=job.failed,
        estimate=estimate_message(job.estimate, completion),
        spec_json=job.spec,
        plan_json=job.plan or "",
        outline_json=job.outline or "",
        notes=job.notes,
        warnings=job.warnings,
        create_time=timestamp(job.created),
        device_time=duration(job.device_seconds),
        shared=shared,
    )
    if job.failure is not None:
        message.error.reason, message.error.message = job.failure.reason, job.failure.message
    if job.started is not None:
        message.start_time.CopyFrom(timestamp(job.started))
    if job.ended is not None:
        message.end_time.CopyFrom(timestamp(job.ended))
    return message


def estimate_message(estimate: Estimate, completion: float | None) -> jobs_pb2.CostEstimate:
    """Return what a job costs.

    Args:
        estimate: What the job itself takes.
        completion: Seconds until it is finished, with what waits before it; None if that is
            not known.

    Returns:
        The message.
    """
    message = jobs_pb2.CostEstimate(
        points=estimate.points,
        device_time=duration(estimate.device_seconds),
        memory=estimate.memory,
    )
    if completion is not None:
        message.completion.CopyFrom(duration(completion))
    return message


def point_batches(
    points: Sequence[StoredPoint],
) -> Iterable[tuple[int, jobs_pb2.PointBatch]]:
    """Put points in batches whose points have the same metrics.

    Args:
        points: In the order of their revisions.

    Yields:
        The revision of a batch, that of its last point; and the batch.
    """
    batch, names, revision = jobs_pb2.PointBatch(), None, 0
    for stored in points:
        metrics = stored.metrics
        if metrics is not None and names is not None and names != tuple(metrics):
            yield revision, batch
            batch, names = jobs_pb2.PointBatch(), None
        if metrics is not None and names is None:
            names = tuple(metrics)
            batch.metrics.extend(names)
        batch.points.append(_point(stored))
        revision = stored.revision
    if batch.points:
        yield revision, batch


def _point(stored: StoredPoint) -> jobs_pb2.Point:
    point = stored.point
    return jobs_pb2.Point(
        row=point.row,
        column=point.column,
        alpha=point.alpha,
        beta=point.beta,
        values=() if stored.metrics is None else stored.metrics.values(),
        failure=stored.failure or "",
    )
