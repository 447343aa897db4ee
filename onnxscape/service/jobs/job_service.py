"""JobService: orders become jobs, which are told, watched, cancelled; surfaces are sent."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from onnxscape.errors import StorageError, SurfaceFileError
from onnxscape.jobs.states import FINISHED
from onnxscape.service.answers.findings import Findings
from onnxscape.service.answers.names import JOBS
from onnxscape.service.answers.pages import after_token, page_size, page_token
from onnxscape.service.answers.rich_errors import FailedPreconditionError, NotFoundError
from onnxscape.service.caller import current_user
from onnxscape.service.jobs.completions import Completions
from onnxscape.service.jobs.known_specs import KnownSpecs
from onnxscape.service.jobs.messages import job_message
from onnxscape.service.jobs.requests import (
    job_id_of,
    states_of,
    wants_arrays,
)
from onnxscape.service.jobs.surface_messages import open_surface
from onnxscape.service.jobs.surface_readings import SurfaceReadings
from onnxscape.service.jobs.watching import BATCH, SharedLooks, Sight, Watch, Watchers
from onnxscape.service.monitoring import logs
from onnxscape.service.orders.checks import OrderLimits, refuse_violations
from onnxscape.service.orders.ordering import Ordering
from onnxscape.service.orders.placing import Placing
from onnxscape.storage.blob_folder import BlobFolder
from onnxscape.v1 import jobs_pb2, jobs_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc.aio

    from onnxscape.jobs.coordinator import Coordinator
    from onnxscape.jobs.job_store import JobStore
    from onnxscape.jobs.records import Job, StoredPoint
    from onnxscape.jobs.states import JobState
    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.service.jobs.surface_messages import Reading
    from onnxscape.service.orders.placing import OrderValidator
    from onnxscape.service.settings.config import ServerConfig

    Context = grpc.aio.ServicerContext[Any, Any]
    _P = ParamSpec("_P")
    _T = TypeVar("_T")

_log = logging.getLogger(__name__)

HEARTBEAT = 15.0
"""Seconds of silence after which watchers are told that all is well."""

_PAGE_BYTES = 2 << 20
# A page ends early where its jobs would not fit into a message of 4 MiB.


class JobServicer(jobs_pb2_grpc.JobServiceServicer):
    """Answers the calls of JobService.

    The store is asked in threads of two kinds: questions about one job never wait behind the
    reading of a whole surface. A job that was asked for lately is read at once where nobody
    has to be waited for.

    Attributes:
        watchers: Who watches how many jobs.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        coordinator: Coordinator,
        validator: OrderValidator,
        catalog: CatalogStore,
        config: ServerConfig,
        devices: frozenset[str] = frozenset({"cpu"}),
        heartbeat: float = HEARTBEAT,
    ) -> None:
        """Put the parts together.

        Args:
            store: The jobs.
            coordinator: Has them computed.
            validator: Finds out what an order means and costs.
            catalog: Models, data sets and blobs of users.
            config: Limits and quotas, and the folder of blobs and surfaces.
            devices: Kinds of devices that the server has.
            heartbeat: Seconds of silence after which watchers are told that all is well.
        """
        self._store, self._coordinator, self._config = store, coordinator, config
        self._limits = OrderLimits(grid_points=config.grid_points, devices=devices)
        folder = BlobFolder(config.data_dir / "blobs", free_kept=config.free_kept)
        self._catalog, self._folder = catalog, folder
        self._ordering = Ordering(catalog, folder.size)
        self._check_disk = folder.check_disk
        self._surfaces = config.data_dir / "surfaces"
        self._heartbeat = heartbeat
        self._completions = Completions(coordinator.estimate_completion)
        self._quick = ThreadPoolExecutor(4, thread_name_prefix="onnxscape-calls")
        self._readings = SurfaceReadings()
        self._placing = Placing(
            store=store,
            coordinator=coordinator,
            validator=validator,
            config=config,
            call=self._call,
        )
        self._specs = KnownSpecs()
        self._looks = SharedLooks(self._sight)
        self.watchers = Watchers()

    def drain(self) -> None:
        """Take no more orders, and send all watchers away."""
        self.watchers.leaving.set()

    async def close(self) -> None:
        """Wait for orders that are being placed, and end the threads."""
        await self._placing.settle()
        await self._readings.close()
        await asyncio.to_thread(self._quick.shutdown)

    async def CreateJob(
        self, request: jobs_pb2.CreateJobRequest, context: Context
    ) -> jobs_pb2.CreateJobResponse:
        """Order a landscape.

        Args:
            request: What.
            context: The call's.

        Returns:
            The job; without a name if it is only validated and new.
        """
        del context
        user = current_user()
        self.watchers.refuse_leaving()
        refuse_violations(request, self._limits)
        order = await self._call(self._ordering.order_of, user, request)
        job, shared = await self._placing.place(user, order, request)
        logs.bind(job=job.id or None)
        spec = await self._call(self._ordering.spec_of, order)
        message = self._message(job, spec, shared=shared, new=True)
        if not job.id:
            message.ClearField("name")
        return jobs_pb2.CreateJobResponse(job=message)

    async def GetJob(
        self, request: jobs_pb2.GetJobRequest, context: Context
    ) -> jobs_pb2.GetJobResponse:
        """Tell of a job.

        Args:
            request: Which.
            context: The call's.

        Returns:
            The job.
        """
        del context
        job, spec = await self._own_job(request.name)
        return jobs_pb2.GetJobResponse(job=self._message(job, spec))

    async def ListJobs(
        self, request: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        """Tell of the caller's jobs, the newest first.

        Args:
            request: Which of them.
            context: The call's.

        Returns:
            A page of them.
        """
        del context
        states, size = states_of(request.states), page_size(request.page_size)
        after = after_token(JOBS, request.page_token)
        found = await self._call(self._list, current_user(), states, size + 1, after)
        response, room = jobs_pb2.ListJobsResponse(), _PAGE_BYTES
        for job, spec in found[:size]:
            message = self._message(job, spec)
            room -= message.ByteSize()
            if room < 0 and response.jobs:
                break
            response.jobs.append(message)
        if len(response.jobs) < len(found):
            last, _ = found[len(response.jobs) - 1]
            response.next_page_token = page_token(JOBS, last.number)
        return response

    async def CancelJob(
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.CancelJobResponse:
        """Ask for a job to stop.

        Args:
            request: Which.
            context: The call's.

        Returns:
            The job, cancelled or about to be; or as it was if it is finished.
        """
        del context
        job, spec = await self._own_job(request.name)
        if job.state not in FINISHED:
            job = await self._coordinator.cancel(job.id)
        return jobs_pb2.CancelJobResponse(job=self._message(job, spec))

    async def DeleteJob(
        self, request: jobs_pb2.DeleteJobRequest, context: Context
    ) -> jobs_pb2.DeleteJobResponse:
        """Delete a finished job with all that belongs to it.

        Args:
            request: Which.
            context: The call's.

        Returns:
            Nothing.

        Raises:
            FailedPreconditionError: If it is not finished.
        """
        del context
        job, _ = await self._own_job(request.name)
        if job.state not in FINISHED:
            raise FailedPreconditionError(
                "JOB_NOT_FINISHED",
                f"expected a finished job, got {request.name}, which is {job.state}; cancel "
                "it first",
            )
        await self._delete(job)
        return jobs_pb2.DeleteJobResponse()

    async def expire(self, before: float) -> int:
        """Delete jobs that ended before a moment.

        Args:
            before: Unix seconds.

        Returns:
            How many are gone; what cannot be deleted now is logged, and left.
        """
        count = 0
        while jobs := await self._call(self._store.ended_before, before):
            done = 0
            for job in jobs:
                try:
                    await self._delete(job)
                    done += 1
                except StorageError:
                    _log.warning("cannot delete a job", extra={"job": job.id}, exc_info=True)
            count += done
            if done < len(jobs):
                break  # the others have their turn the next time
        return count

    async def _delete(self, job: Job) -> None:
        await self._coordinator.delete(job.id)
        with contextlib.suppress(StorageError):  # the job is gone; what is unused goes later
            await self._call(self._release, job)

    async def WatchJob(self, request: jobs_pb2.WatchJobRequest, context: Context) -> None:
        """Tell what happens to a job.

        Responses are written here, not yielded: only so is a call that breaks off in the
        middle of a write left at once.

        Args:
            request: Which job, and after which revision.
            context: The call's.
        """
        user = current_user()
        findings = Findings()
        if request.after_revision < 0:
            findings.add("after_revision", "a revision, or 0", request.after_revision)
        findings.refuse()
        job, spec = await self._own_job(request.name)

        watch = Watch(
            job.id,
            request.after_revision,
            look=functools.partial(self._looks.at, job.id),
            changed=functools.partial(self._coordinator.changed, job.id),
            message=functools.partial(self._message, spec=spec),
            watchers=self.watchers,
            heartbeat=self._heartbeat,
        )
        with self.watchers.place(user, self._config.quota_of(user).watchers):
            async with contextlib.aclosing(watch.responses()) as responses:
                async for response in responses:
                    await context.write(response)

    async def ReadSurface(
        self, request: jobs_pb2.ReadSurfaceRequest, context: Context
    ) -> None:
        """Send a surface, as far as it is evaluated.

        Args:
            request: Of which job, and in what form.
            context: The call's.
        """
        arrays = wants_arrays(request)
        job, _ = await self._own_job(request.name)
        opening = functools.partial(self._open, job, arrays=arrays)
        async with self._readings.opened(current_user(), opening) as reading:
            responses = reading.responses()
            while (response := await self._call(next, responses, None)) is not None:
                await context.write(response)

    def _open(self, job: Job, *, arrays: bool) -> Reading:
        try:
            return open_surface(
                job,
                self._store.results,
                self._surfaces,
                arrays=arrays,
                check_disk=self._check_disk,
            )
        except (OSError, SurfaceFileError):
            self._read(job.user, job.id)  # it may have been deleted meanwhile
            raise

    async def _call(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call a function that waits for the disk, in a thread.

        Returns:
            What it returns.
        """
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._quick, call)

    async def _own_job(self, name: str) -> tuple[Job, jobs_pb2.JobSpec]:
        job_id = job_id_of(name)
        logs.bind(job=job_id)
        user, spec = current_user(), self._specs.get(job_id)
        if spec is not None:
            # Here, not in a thread: one row that is in memory takes less than the way to one.
            job = self._store.job_now(job_id, user)
            if job is not None:
                return job, spec
        return await self._call(self._read, user, job_id)

    def _read(self, user: str, job_id: str) -> tuple[Job, jobs_pb2.JobSpec]:
        job = self._store.job(job_id, user)
        if job is None:
            raise NotFoundError("job", f"{JOBS}/{job_id}")
        spec = self._ordering.spec_of(job.order)
        self._specs.add(job_id, spec)
        return job, spec

    def _release(self, job: Job) -> None:
        """Let go of the blobs of a deleted job that nothing else of its user needs."""
        needed = self._store.referenced_blobs(job.user)
        for sha256 in job.order.blobs:
            if self._catalog.grants.release(job.user, sha256, needed=needed):
                self._folder.touch(sha256)  # another order with it may be on its way

    def _list(
        self, user: str, states: frozenset[JobState], limit: int, after: int | None
    ) -> list[tuple[Job, jobs_pb2.JobSpec]]:
        jobs = self._store.jobs(user, states=states, limit=limit, after=after)
        return [(job, self._ordering.spec_of(job.order)) for job in jobs]

    async def _sight(self, job_id: str, revision: int) -> Sight | None:
        """Return what comes after a revision of a job that is known to be the caller's."""
        found = await self._call(self._look, job_id, revision)
        return None if found is None else Sight.of(*found)

    def _look(self, job_id: str, revision: int) -> tuple[Job, Sequence[StoredPoint]] | None:
        job = self._store.job(job_id)
        if job is None:
            return None
        return job, self._store.points_after(job_id, revision, BATCH)

    def _message(
        self, job: Job, spec: jobs_pb2.JobSpec, *, shared: bool = False, new: bool = False
    ) -> jobs_pb2.Job:
        completion = self._completions.of(job, needed=new)
        return job_message(job, spec, completion=completion, shared=shared)
