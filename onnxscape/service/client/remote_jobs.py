"""A job on a server: looked at, watched, cancelled, fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from onnxscape.errors import JobFailedError, ServerError
from onnxscape.jobs.states import JobState
from onnxscape.service.client.connection import SHORT
from onnxscape.service.client.job_info import JobInfo, job_info
from onnxscape.service.client.surfaces import read_surface
from onnxscape.service.client.watching import JobChanged, WatchEvent, watch
from onnxscape.v1.jobs_pb2 import CancelJobRequest, DeleteJobRequest, GetJobRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from onnxscape.core.landscape import Landscape
    from onnxscape.service.client.connection import Connection


class AsyncRemoteJob:
    """A job of the caller's on a server.

    Attributes:
        info: The job when it was last looked at.
    """

    def __init__(self, connection: Connection, info: JobInfo) -> None:
        """Take what the server said; made by `AsyncClient`.

        Args:
            connection: To the server.
            info: The job.
        """
        self._connection = connection
        self.info = info

    def __repr__(self) -> str:
        return job_line(self.info)

    @property
    def id(self) -> str:
        """Its ID."""
        return self.info.id

    @property
    def _name(self) -> str:
        return f"jobs/{self.info.id}"

    async def refresh(self) -> JobInfo:
        """Look at the job again.

        Returns:
            The job now.

        Raises:
            OnnxscapeError: If it is gone, or the server is not reached.
        """
        connection = self._connection
        response = await connection.call(
            connection.jobs.GetJob, GetJobRequest(name=self._name)
        )
        self.info = job_info(response.job)
        return self.info

    async def watch(
        self, after_revision: int = 0, *, told: Callable[[str], None] | None = None
    ) -> AsyncGenerator[WatchEvent]:
        """Tell what happens until the job is finished: its changes, and every point once.

        Lost connections are made again.

        Args:
            after_revision: Of the last event that was seen; 0 for everything.
            told: Told, in words, when the server is lost and found; by default who the client
                tells.

        Yields:
            `JobChanged` and `PointsDone`.

        Raises:
            OnnxscapeError: If the job is gone, or the server is not reached for too long.
        """
        events = watch(self._connection, self._name, after_revision, told=told)
        try:
            async for event in events:
                if isinstance(event, JobChanged):
                    self.info = event.job
                yield event
        finally:
            await events.aclose()

    async def wait(self) -> JobInfo:
        """Wait until the job is finished.

        Returns:
            The job then.

        Raises:
            OnnxscapeError: As `watch`.
        """
        await self.refresh()
        if not self.info.finished:
            async for _ in self.watch(self.info.revision):
                pass
        return self.info

    async def landscape(self, *, partial: bool = False) -> Landscape:
        """Fetch the result.

        Args:
            partial: Take what is there now, instead of waiting for the job to succeed.

        Returns:
            The landscape.

        Raises:
            JobFailedError: If the job failed or was cancelled.
            OnnxscapeError: As `watch`; or if nothing is there yet.
        """
        if not partial:
            refuse_failure(await self.wait())
        return await read_surface(self._connection, self._name)

    async def cancel(self) -> JobInfo:
        """Ask the job to stop; its points are kept.

        Returns:
            The job then, which may still be cancelling.

        Raises:
            OnnxscapeError: If it is gone, or the server is not reached.
        """
        connection = self._connection
        response = await connection.call(
            connection.jobs.CancelJob, CancelJobRequest(name=self._name)
        )
        self.info = job_info(response.job)
        return self.info

    async def delete(self) -> None:
        """Delete the job, which must be finished, with its points and surface.

        Raises:
            OnnxscapeError: If it is not finished, gone before, or the server is not reached.
        """
        connection = self._connection
        tries = 0

        async def once(
            request: DeleteJobRequest,
            *,
            timeout: float,
            metadata: Sequence[tuple[str, str]],
        ) -> None:
            nonlocal tries
            tries += 1
            try:
                await connection.jobs.DeleteJob(request, timeout=timeout, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                # An earlier try may have done it without its response coming back.
                if tries == 1 or error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise

        await connection.call(once, DeleteJobRequest(name=self._name), seconds=SHORT)


def refuse_failure(info: JobInfo) -> None:
    """Raise what a job that did not succeed ended with.

    Args:
        info: A finished job.

    Raises:
        JobFailedError: If it failed or was cancelled.
        ServerError: If it is not finished.
    """
    if info.state is JobState.SUCCEEDED:
        return
    if info.state is JobState.CANCELLED:
        raise JobFailedError(f"job {info.id} was cancelled; {counted(info)}")
    if info.state is JobState.FAILED:
        raise JobFailedError(
            f"job {info.id} failed: {info.reason}: {info.message}; {counted(info)}"
        )
    raise ServerError(f"expected job {info.id} to be finished, but it is {info.state}")


def counted(info: JobInfo) -> str:
    """Return how far a job is, for people.

    Args:
        info: The job.
    """
    failed = f", {info.failed} failed" if info.failed else ""
    return f"{info.done} of {info.total} points are there{failed}"


def job_line(info: JobInfo) -> str:
    """Return a job in one line, for people.

    Args:
        info: The job.
    """
    return f"RemoteJob({info.id}: {info.display_name}, {info.state}, {counted(info)})"
