"""What a server says of a job, a device, a quota, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from onnxscape.core.grid import Point
from onnxscape.core.plan import Plan
from onnxscape.core.spec import EvalSpec
from onnxscape.errors import ServerError
from onnxscape.evaluation.observer import Outline
from onnxscape.jobs.states import FINISHED, JobState
from onnxscape.v1 import jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

    from onnxscape.v1 import server_pb2

_STATES: Mapping[int, JobState] = {
    value: JobState(name.removeprefix("JOB_STATE_").lower())
    for name, value in jobs_pb2.JobState.items()
    if value
}
"""Number on the wire to state: the names are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a job is going to take.

    Attributes:
        points: Points to evaluate.
        device_seconds: Time of one device.
        memory: Bytes of a worker.
        completion_seconds: Until it is finished, with what waits before it; None if that is
            not known.
    """

    points: int
    device_seconds: float
    memory: int
    completion_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job at one moment.

    Attributes:
        id: Its ID; empty if it was only validated.
        display_name: For people.
        state: Where it stands.
        priority: Among the user's own jobs.
        reason: Why it failed, for programs; None if it did not.
        message: Why it failed, for people; None likewise.
        revision: Grows with every change.
        total: Points to evaluate, as far as known.
        done: Points that are there.
        failed: Points that could not be evaluated.
        estimate: What it takes.
        spec: What defines the numbers; None if it is not known yet.
        plan: What defines their bits; None likewise.
        outline: What it is going to do; None likewise.
        notes: For people.
        warnings: For people.
        created: When it was ordered.
        started: When its first point was begun; None if it was not.
        ended: When it was finished; None if it is not.
        device_seconds: Time that devices spent on it.
        shared: Whether the order was answered by an earlier job.
    """

    id: str
    display_name: str
    state: JobState
    priority: int
    reason: str | None
    message: str | None
    revision: int
    total: int
    done: int
    failed: int
    estimate: Estimate
    spec: EvalSpec | None
    plan: Plan | None
    outline: Outline | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    device_seconds: float
    shared: bool

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True)
class PointResult:
    """A point of a job that is finished.

    Attributes:
        point: Which.
        metrics: Metric name to value; empty if it failed.
        failure: Why it could not be evaluated; None if it was.
    """

    point: Point
    metrics: Mapping[str, float]
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A device of a server.

    Attributes:
        name: `cpu`, `cuda:0`.
        description: For people.
        slots: Workers on it.
    """

    name: str
    description: str
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What a server is, and what the caller may ask of it.

    Attributes:
        version: Of onnxscape.
        devices: Its devices.
        user: What it calls the caller.
        limits: Of any request, by the names of the protocol; seconds and bytes. 0 for none.
        quota: What the caller may use, and uses, likewise.
    """

    version: str
    devices: tuple[DeviceInfo, ...]
    user: str
    limits: Mapping[str, float]
    quota: Mapping[str, float]


def job_info(job: jobs_pb2.Job) -> JobInfo:
    """Read a job.

    Args:
        job: The message.

    Returns:
        The same as plain values.

    Raises:
        ServerError: If it makes no sense to this version.
    """
    state = _STATES.get(job.state, JobState.QUEUED)
    if job.state not in _STATES and job.name:
        raise ServerError(
            f"{job.name} is in state {job.state}, which this version does not know; update it"
        )
    failure = job.error if job.HasField("error") else None
    return JobInfo(
        id=job.name.removeprefix("jobs/"),
        display_name=job.display_name,
        state=state,
        priority=job.priority,
        reason=None if failure is None else failure.reason,
        message=None if failure is None else failure.message,
        revision=job.revision,
        total=job.point_total,
        done=job.point_count,
        failed=job.failed_count,
        estimate=_estimate(job.estimate),
        spec=_spec(job.spec_json),
        plan=_plan(job.plan_json),
        outline=_outline(job.outline_json),
        notes=tuple(job.notes),
        warnings=tuple(job.warnings),
        created=_time(job, "create_time"),
        started=_time(job, "start_time"),
        ended=_time(job, "end_time"),
        device_seconds=_seconds(job.device_time),
        shared=job.shared,
    )


def _estimate(estimate: jobs_pb2.CostEstimate) -> Estimate:
    known = estimate.HasField("completion")
    return Estimate(
        points=estimate.points,
        device_seconds=_seconds(estimate.device_time),
        memory=estimate.memory,
        completion_seconds=_seconds(estimate.completion) if known else None,
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def point_results(batch: jobs_pb2.PointBatch) -> tuple[PointResult, ...]:
    """Read points.

    Args:
        batch: The message.

    Returns:
        The same as plain values.

    Raises:
        ServerError: If a point has another number of values than there are metrics.
    """
    found = []
    for point in batch.points:
        metrics: dict[str, float] = {}
        if not point.failure:
            if len(point.values) != len(batch.metrics):
                raise ServerError(
                    f"expected {len(batch.metrics)} values of a point, got {len(point.values)}"
                )
            metrics = dict(zip(batch.metrics, point.values, strict=True))
        place = Point(point.row, point.column, point.alpha, point.beta)
        found.append(PointResult(place, metrics, point.failure or None))
    return tuple(found)


def server_info(response: server_pb2.GetServerInfoResponse) -> ServerInfo:
    """Read what a server says of itself.

    Args:
        response: The message.

    Returns:
        The same as plain values.
    """
    devices = tuple(
        DeviceInfo(name=d.name, description=d.description, slots=d.slots)
        for d in response.devices
    )
    return ServerInfo(
        version=response.version,
        devices=devices,
        user=response.quota.user,
        limits=_numbers(response.limits),
        quota=_numbers(response.quota),
    )


def _numbers(message: Any) -> dict[str, float]:
    """Return the fields that are numbers or durations."""
    found: dict[str, float] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None:
            found[field.name] = _seconds(value)
        elif not isinstance(value, str):
            found[field.name] = value
    return found


def _time(job: jobs_pb2.Job, name: str) -> datetime | None:
    if not job.HasField(name):
        return None
    stamp: Timestamp = getattr(job, name)
    return stamp.ToDatetime(tzinfo=UTC)


def _spec(text: str) -> EvalSpec | None:
    return EvalSpec.from_dict(_values(text, "spec")) if text else None


def _plan(text: str) -> Plan | None:
    return Plan.from_dict(_values(text, "plan")) if text else None


def _outline(text: str) -> Outline | None:
    """Return an outline; None if there is none that this version understands."""
    if not text:
        return None
    values = _values(text, "outline")
    known = {f.name: values[f.name] for f in fields(Outline) if f.name in values}
    for name in ("two_level", "known", "calibration"):
        if known.get(name) is not None:
            known[name] = tuple(known[name])
    try:
        return Outline(**known)
    except TypeError:
        return None


def _values(text: str, what: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ServerError(f"expected the {what} of a job as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ServerError(f"expected the {what} of a job as a JSON object, got {text[:80]!r}")
    return values
