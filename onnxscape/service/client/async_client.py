"""The client: everything that a server can be asked, without waiting in between."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc.aio

from onnxscape.errors import OnnxscapeError, UsageError
from onnxscape.evaluation.arguments import make_request
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.jobs.states import JobState
from onnxscape.service.client.address import Address, Security
from onnxscape.service.client.connection import LONG, Connection
from onnxscape.service.client.following import Following
from onnxscape.service.client.job_info import JobInfo, ServerInfo, job_info, server_info
from onnxscape.service.client.remote_jobs import AsyncRemoteJob
from onnxscape.service.client.request_messages import Offered, Parcel, Uploaded, pack
from onnxscape.service.client.retries import Patience
from onnxscape.service.client.server_errors import reason_of
from onnxscape.service.client.uploads import upload
from onnxscape.v1 import catalog_pb2, jobs_pb2, server_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from os import PathLike
    from types import TracebackType

    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import Data, EvalRequest, Model
    from onnxscape.service.client.uploads import Progress

_PAGE = 100


class AsyncClient:
    """Orders landscapes from a server, in an event loop.

    Example:
        async with ox.AsyncClient("gpu-box:50051", token=token) as client:
            job = await client.submit("model.onnx", "digits", grid="51x51")
            async for event in job.watch():
                print(event)
            landscape = await job.landscape()
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tls_ca: str | PathLike[str] | None = None,
        tls_cert: str | PathLike[str] | None = None,
        tls_key: str | PathLike[str] | None = None,
        insecure: bool = False,
        patience: Patience | float | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        """Say where the server is; it is reached when it is first asked for something.

        Args:
            address: `HOST:PORT`. Other machines are reached by TLS, this one without it, if
                nothing else is said.
            token: Shows the server who asks.
            tls_ca: PEM file of certificates that may vouch for the server.
            tls_cert: PEM file with the client's certificate, for servers that ask for one.
            tls_key: PEM file with its key.
            insecure: Reach another machine without TLS.
            patience: Seconds for which a server that is away is tried again; None for some.
            told: Told, in words, when the server is lost and found; by default nobody is.

        Raises:
            UsageError: If the address is none, or credentials do not go together.
        """
        self.address = Address.parse(address)
        self._security = Security(
            token=token, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key, insecure=insecure
        )
        if patience is None:
            patience = Patience()
        elif not isinstance(patience, Patience):
            patience = Patience(call=patience, stream=patience)
        self._patience = patience
        self._told = told or _tell_nobody
        self._opened: Connection | None = None

    @property
    def _connection(self) -> Connection:
        if self._opened is None:
            self._opened = Connection(self.address, self._security, self._patience, self._told)
        return self._opened

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and the connection."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def server_info(self) -> ServerInfo:
        """Ask what the server is, and what the caller may ask of it.

        Returns:
            Its version, devices, limits, and the caller's quota.

        Raises:
            OnnxscapeError: If the server is not reached, or refuses.
        """
        connection = self._connection
        response = await connection.call(
            connection.server.GetServerInfo, server_pb2.GetServerInfoRequest()
        )
        return server_info(response)

    async def offered(self) -> dict[str, Offered]:
        """Ask which data the server offers, so that they need not be uploaded.

        Returns:
            By the names that users write.

        Raises:
            OnnxscapeError: If the server is not reached, or refuses.
        """
        connection, found, token = self._connection, dict[str, Offered](), ""
        while True:
            request = catalog_pb2.ListDataSetsRequest(page_size=_PAGE, page_token=token)
            response = await connection.call(connection.catalog.ListDataSets, request)
            for data in response.data_sets:
                if data.public:
                    entry = Offered(data.name, tuple(data.splits))
                    found[data.name.removeprefix("dataSets/")] = entry
            token = response.next_page_token
            if not token:
                return found

    async def submit(
        self,
        model: Model,
        data: Data,
        *,
        display_name: str | None = None,
        priority: int = 0,
        observer: Observer | None = None,
        uploaded: Progress | None = None,
        **options: Any,
    ) -> AsyncRemoteJob:
        """Order a landscape. An equal order made before is the same job.

        Args:
            model: Path of an .onnx file, its bytes, or an `onnx.ModelProto`; or `models/ID`
                for one that the server has.
            data: As for `evaluate`; what the server offers by that name is not uploaded.
            display_name: For people; None for the names of model and data.
            priority: From 0 to 100, among the caller's own jobs.
            observer: Told of downloads; by default nobody is.
            uploaded: Told the bytes that are uploaded, and how many there are.
            **options: As for `evaluate`, but for those that say how to run it on this
                machine or where to put the result.

        Returns:
            The job; it is durable.

        Raises:
            OnnxscapeError: If something cannot be read, the server refuses it, or is not
                reached.
        """
        request = make_request(model, data, **options)
        with tempfile.TemporaryDirectory(prefix="onnxscape-") as folder:
            parcel = await self._packed(request, Path(folder), observer)
            return await self.deliver(
                parcel, display_name=display_name, priority=priority, uploaded=uploaded
            )

    async def estimate(
        self,
        model: Model,
        data: Data,
        *,
        uploaded: Progress | None = None,
        **options: Any,
    ) -> JobInfo:
        """Check an order, and ask what it would take, without making it.

        Args:
            model: As for `submit`.
            data: As for `submit`.
            uploaded: As for `submit`: the server has to have model and data for it.
            **options: As for `submit`.

        Returns:
            A job without an ID, with its spec and its estimate; or, `shared`, the one of an
            equal order that was made before.

        Raises:
            OnnxscapeError: As `submit`.
        """
        request = make_request(model, data, **options)
        with tempfile.TemporaryDirectory(prefix="onnxscape-") as folder:
            parcel = await self._packed(request, Path(folder), None)
            return await self.validate(parcel, uploaded=uploaded)

    async def evaluate(
        self, model: Model, data: Data, *, observer: Observer | None = None, **options: Any
    ) -> Landscape:
        """Order a landscape, wait for it, and fetch it.

        Args:
            model: As for `submit`.
            data: As for `submit`.
            observer: Told what happens; by default warnings become Python warnings, and
                nothing else is said.
            **options: As for `submit`.

        Returns:
            The landscape.

        Raises:
            JobFailedError: If the job fails.
            OnnxscapeError: As `submit`.
        """
        observer = observer or QuietObserver()
        job = await self.submit(model, data, observer=observer, **options)
        following = Following(observer)
        following.changed(job.info)
        async for event in job.watch(told=observer.note):
            following.take(event)
        following.finish()
        return await job.landscape()

    async def job(self, job_id: str) -> AsyncRemoteJob:
        """Find a job.

        Args:
            job_id: Its ID.

        Returns:
            The job.

        Raises:
            OnnxscapeError: If the caller has none of that ID, or the server is not reached.
        """
        connection = self._connection
        request = jobs_pb2.GetJobRequest(name=f"jobs/{job_id.removeprefix('jobs/')}")
        response = await connection.call(connection.jobs.GetJob, request)
        return AsyncRemoteJob(connection, job_info(response.job))

    async def jobs(
        self, states: Iterable[JobState | str] = ()
    ) -> AsyncGenerator[AsyncRemoteJob]:
        """List the caller's jobs, the newest first.

        Args:
            states: Only jobs in one of these; none for all.

        Yields:
            The jobs, fetched page by page.

        Raises:
            OnnxscapeError: If the server is not reached, or refuses.
        """
        connection, token = self._connection, ""
        wanted = [f"JOB_STATE_{_state(state).upper()}" for state in states]
        while True:
            request = jobs_pb2.ListJobsRequest(
                page_size=_PAGE, page_token=token, states=wanted
            )
            response = await connection.call(connection.jobs.ListJobs, request)
            for job in response.jobs:
                yield AsyncRemoteJob(connection, job_info(job))
            token = response.next_page_token
            if not token:
                return

    async def deliver(
        self,
        parcel: Parcel,
        *,
        display_name: str | None = None,
        priority: int = 0,
        uploaded: Progress | None = None,
    ) -> AsyncRemoteJob:
        """Upload what the server lacks of an order, and make it.

        Args:
            parcel: The order.
            display_name: As for `submit`.
            priority: As for `submit`.
            uploaded: As for `submit`.

        Returns:
            The job.

        Raises:
            OnnxscapeError: As `submit`.
        """
        job = await self._created(
            parcel, uploaded, display_name=display_name or parcel.title, priority=priority
        )
        return AsyncRemoteJob(self._connection, job)

    async def validate(self, parcel: Parcel, *, uploaded: Progress | None = None) -> JobInfo:
        """Upload what the server lacks of an order, and have it checked.

        Args:
            parcel: The order.
            uploaded: As for `submit`.

        Returns:
            A job without an ID, or the one of an equal order that was made before.

        Raises:
            OnnxscapeError: As `submit`.
        """
        return await self._created(parcel, uploaded, validate_only=True)

    async def _packed(
        self, request: EvalRequest, folder: Path, observer: Observer | None
    ) -> Parcel:
        offered = await self.offered() if isinstance(request.data, str) else {}
        told = observer or QuietObserver()
        return await asyncio.to_thread(pack, request, folder, offered, told)

    async def _created(
        self, parcel: Parcel, uploaded: Progress | None, **fields: Any
    ) -> JobInfo:
        connection = self._connection
        # The same for all tries: a response that is lost does not make a second job.
        fields["request_id"] = secrets.token_hex(16)
        again = True
        while True:
            await upload(connection, parcel.blobs, uploaded)
            spec = jobs_pb2.JobSpec()
            spec.CopyFrom(parcel.spec)
            try:
                spec.model = await self._model_name(parcel.model)
                spec.data = await self._data_name(parcel.data)
                request = jobs_pb2.CreateJobRequest(
                    spec=spec, execution=parcel.execution, **fields
                )
                response = await connection.call(
                    connection.jobs.CreateJob, request, seconds=LONG
                )
            except OnnxscapeError as error:
                if not (again and _blobs_are_gone(error)):
                    raise
                again = False  # what was there was removed just now
                continue
            return job_info(response.job)

    async def _model_name(self, model: Uploaded | str) -> str:
        if isinstance(model, str):
            return model
        connection = self._connection
        request = catalog_pb2.CreateModelRequest(
            blob=model.blob.digest, display_name=model.name
        )
        response = await connection.call(connection.catalog.CreateModel, request, seconds=LONG)
        return str(response.model.name)

    async def _data_name(self, data: Uploaded | str) -> str:
        if isinstance(data, str):
            return data
        connection = self._connection
        request = catalog_pb2.CreateDataSetRequest(
            blob=data.blob.digest, display_name=data.name, format=data.format
        )
        response = await connection.call(
            connection.catalog.CreateDataSet, request, seconds=LONG
        )
        return str(response.data_set.name)


def _state(name: JobState | str) -> JobState:
    """Return a state by its name.

    Raises:
        UsageError: If there is none of that name.
    """
    try:
        return JobState(name)
    except ValueError:
        known = ", ".join(state.value for state in JobState)
        raise UsageError(f"expected the state of a job ({known}), got {name!r}") from None


def _tell_nobody(text: str) -> None:
    """Keep it back."""


def _blobs_are_gone(error: OnnxscapeError) -> bool:
    """Return whether the server lacks blobs that were there when it was asked."""
    cause = error.__cause__
    return isinstance(cause, grpc.aio.AioRpcError) and reason_of(cause) == "BLOBS_MISSING"
