"""Watching a job to its end, through broken connections and restarts of the server."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from onnxscape.service.client.job_info import (
    JobInfo,
    PointResult,
    job_info,
    point_results,
)
from onnxscape.service.client.retries import Backoff
from onnxscape.service.client.server_errors import away
from onnxscape.v1.jobs_pb2 import WatchJobRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from onnxscape.service.client.connection import Connection


@dataclass(frozen=True, slots=True)
class JobChanged:
    """The job has changed, or this is the first that is told of it.

    Attributes:
        job: The job now.
        revision: To watch it from here on.
    """

    job: JobInfo
    revision: int


@dataclass(frozen=True, slots=True)
class PointsDone:
    """Points are finished.

    Attributes:
        points: Each comes once.
        revision: To watch the job from here on.
    """

    points: tuple[PointResult, ...]
    revision: int


WatchEvent = JobChanged | PointsDone


class _BrokenError(grpc.aio.AioRpcError):
    """A stream that broke without a status of its own."""

    def __init__(self, why: str) -> None:
        empty = grpc.aio.Metadata()
        super().__init__(grpc.StatusCode.UNAVAILABLE, empty, empty, why)


async def watch(
    connection: Connection,
    name: str,
    after_revision: int = 0,
    *,
    told: Callable[[str], None] | None = None,
) -> AsyncGenerator[WatchEvent]:
    """Tell what happens to a job until it is finished.

    A stream that breaks is followed by another one that begins where it ended.

    Args:
        connection: To the server.
        name: `jobs/ID`.
        after_revision: Of the last event that was seen; 0 for everything.
        told: Told, in words, when the server is lost and found; by default who the connection
            tells.

    Yields:
        Changes of the job, the last of them to a state that it does not leave, and points.

    Raises:
        OnnxscapeError: If the server refuses it, or is not reached for too long.
    """
    backoff = Backoff(connection.patience, connection.patience.stream)
    revision, last, begun = after_revision, math.inf, False
    say = told or connection.told

    def tell() -> None:
        say(trouble)

    while True:
        request = WatchJobRequest(name=name, after_revision=revision)
        call = connection.jobs.WatchJob(request, metadata=connection.metadata)
        try:
            async for response in _responses(call, connection.patience.silence):
                if backoff.failing:
                    backoff.succeeded()
                    say(f"{connection.address} is back")
                event = _event(response, revision)
                if event is None:
                    continue
                if isinstance(event, JobChanged) and event.job.finished:
                    last = event.job.revision  # points before it may be still to come
                if event.revision > revision or not begun:  # else a new stream repeats it
                    revision, begun = event.revision, True
                    yield event
                if revision >= last:
                    return
        except grpc.aio.AioRpcError as error:
            trouble = away(connection.address, error)
            if not await backoff.wait(error, None if backoff.failing else tell):
                raise connection.error(error) from error
        finally:
            call.cancel()


async def _responses(call: Any, silence: float) -> AsyncGenerator[Any]:
    """Yield the responses of a stream that is to end with a finished job.

    Raises:
        _BrokenError: If nothing comes for too long, or it ends before.
    """
    while True:
        try:
            response = await asyncio.wait_for(call.read(), silence)
        except TimeoutError:
            raise _BrokenError(f"nothing came for {silence:g} s") from None
        if response is grpc.aio.EOF:
            raise _BrokenError("the stream ended before the job")
        yield response


def _event(response: Any, revision: int) -> WatchEvent | None:
    """Return what a response tells; None for a heartbeat.

    A job that has not changed since the last revision has no revision of its own.
    """
    kind = response.WhichOneof("event")
    if kind == "job":
        return JobChanged(job_info(response.job), max(response.revision, revision))
    if kind == "points":
        return PointsDone(point_results(response.points), response.revision)
    return None
