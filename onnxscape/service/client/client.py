"""The client for programs that wait: the same as the asynchronous one, on its own loop."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxscape.evaluation.arguments import make_request
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.files.closing import Closing
from onnxscape.service.client.async_client import AsyncClient
from onnxscape.service.client.event_loop import iterate, run
from onnxscape.service.client.following import Following
from onnxscape.service.client.remote_jobs import job_line
from onnxscape.service.client.request_messages import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import Data, EvalRequest, Model
    from onnxscape.jobs.states import JobState
    from onnxscape.service.client.address import Address
    from onnxscape.service.client.job_info import JobInfo, ServerInfo
    from onnxscape.service.client.remote_jobs import AsyncRemoteJob
    from onnxscape.service.client.request_messages import Offered, Parcel
    from onnxscape.service.client.uploads import Progress
    from onnxscape.service.client.watching import WatchEvent


class RemoteJob:
    """A job of the caller's on a server."""

    def __init__(self, job: AsyncRemoteJob) -> None:
        """Wrap a job; made by `Client`.

        Args:
            job: The job.
        """
        self._job = job

    def __repr__(self) -> str:
        return job_line(self.info)

    @property
    def id(self) -> str:
        """Its ID."""
        return self._job.id

    @property
    def info(self) -> JobInfo:
        """The job when it was last looked at."""
        return self._job.info

    def refresh(self) -> JobInfo:
        """Look at the job again.

        Returns:
            The job now.

        Raises:
            OnnxscapeError: If it is gone, or the server is not reached.
        """
        return run(self._job.refresh)

    def watch(
        self, after_revision: int = 0, *, told: Callable[[str], None] | None = None
    ) -> Generator[WatchEvent]:
        """Tell what happens until the job is finished: its changes, and every point once.

        Lost connections are made again.

        Args:
            after_revision: Of the last event that was seen; 0 for everything.
            told: Told, in words, when the server is lost and found, on another thread; by
                default who the client tells.

        Returns:
            Yields `JobChanged` and `PointsDone`.

        Raises:
            OnnxscapeError: If the job is gone, or the server is not reached for too long.
        """
        return iterate(lambda: self._job.watch(after_revision, told=told))

    def wait(self) -> JobInfo:
        """Wait until the job is finished.

        Returns:
            The job then.

        Raises:
            OnnxscapeError: As `watch`.
        """
        return run(self._job.wait)

    def landscape(self, *, partial: bool = False) -> Landscape:
        """Fetch the result.

        Args:
            partial: Take what is there now, instead of waiting for the job to succeed.

        Returns:
            The landscape.

        Raises:
            JobFailedError: If the job failed or was cancelled.
            OnnxscapeError: As `watch`; or if nothing is there yet.
        """
        return run(lambda: self._job.landscape(partial=partial))

    def cancel(self) -> JobInfo:
        """Ask the job to stop; its points are kept.

        Returns:
            The job then, which may still be cancelling.

        Raises:
            OnnxscapeError: If it is gone, or the server is not reached.
        """
        return run(self._job.cancel)

    def delete(self) -> None:
        """Delete the job, which must be finished, with its points and surface.

        Raises:
            OnnxscapeError: If it is not finished, gone before, or the server is not reached.
        """
        run(self._job.delete)


class Client(Closing):
    """Orders landscapes from a server.

    Example:
        with ox.Client("gpu-box:50051", token=token) as client:
            job = client.submit("model.onnx", "digits", grid="51x51")
            for event in job.watch():
                print(event)
            landscape = job.landscape()
    """

    def __init__(self, address: str, **options: Any) -> None:
        """Say where the server is; it is reached when it is first asked for something.

        Args:
            address: `HOST:PORT`.
            **options: As for `AsyncClient`: `token`, `tls_ca`, `tls_cert`, `tls_key`,
                `insecure`, `patience`, `told` (which is called on another thread).

        Raises:
            UsageError: If the address is none, or credentials do not go together.
        """
        self._client = AsyncClient(address, **options)

    @property
    def address(self) -> Address:
        """Where the server is."""
        return self._client.address

    def close(self) -> None:
        """End all calls and the connection."""
        run(self._client.close)

    def server_info(self) -> ServerInfo:
        """Ask what the server is, and what the caller may ask of it.

        Returns:
            Its version, devices, limits, and the caller's quota.

        Raises:
            OnnxscapeError: If the server is not reached, or refuses.
        """
        return run(self._client.server_info)

    def offered(self) -> dict[str, Offered]:
        """Ask which data the server offers, so that they need not be uploaded.

        Returns:
            By the names that users write.

        Raises:
            OnnxscapeError: If the server is not reached, or refuses.
        """
        return run(self._client.offered)

    def submit(
        self,
        model: Model,
        data: Data,
        *,
        display_name: str | None = None,
        priority: int = 0,
        observer: Observer | None = None,
        uploaded: Progress | None = None,
        **options: Any,
    ) -> RemoteJob:
        """Order a landscape. An equal order made before is the same job.

        Args:
            model: As for `AsyncClient.submit`.
            data: Likewise.
            display_name: Likewise.
            priority: Likewise.
            observer: Likewise.
            uploaded: Likewise; it is called on another thread.
            **options: Likewise.

        Returns:
            The job; it is durable.

        Raises:
            OnnxscapeError: If something cannot be read, the server refuses it, or is not
                reached.
        """
        request = make_request(model, data, **options)
        with tempfile.TemporaryDirectory(prefix="onnxscape-") as folder:
            parcel = self.pack(request, Path(folder), observer or QuietObserver())
            return self.deliver(
                parcel, display_name=display_name, priority=priority, uploaded=uploaded
            )

    def estimate(
        self, model: Model, data: Data, *, uploaded: Progress | None = None, **options: Any
    ) -> JobInfo:
        """Check an order, and ask what it would take, without making it.

        Args:
            model: As for `AsyncClient.estimate`.
            data: Likewise.
            uploaded: Likewise; it is called on another thread.
            **options: Likewise.

        Returns:
            A job without an ID, with its spec and its estimate.

        Raises:
            OnnxscapeError: As `submit`.
        """
        request = make_request(model, data, **options)
        with tempfile.TemporaryDirectory(prefix="onnxscape-") as folder:
            parcel = self.pack(request, Path(folder), QuietObserver())
            return self.validate(parcel, uploaded=uploaded)

    def evaluate(
        self, model: Model, data: Data, *, observer: Observer | None = None, **options: Any
    ) -> Landscape:
        """Order a landscape, wait for it, and fetch it.

        An interrupt leaves the job to the server: the same call finds it again.

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
        job = self.submit(model, data, observer=observer, **options)
        following = Following(observer)
        following.changed(job.info)
        for event in job.watch(told=observer.note):
            following.take(event)
        following.finish()
        return job.landscape()

    def job(self, job_id: str) -> RemoteJob:
        """Find a job.

        Args:
            job_id: Its ID.

        Returns:
            The job.

        Raises:
            OnnxscapeError: If the caller has none of that ID, or the server is not reached.
        """
        return RemoteJob(run(lambda: self._client.job(job_id)))

    def jobs(self, states: Iterable[JobState | str] = ()) -> Generator[RemoteJob]:
        """List the caller's jobs, the newest first.

        Args:
            states: Only jobs in one of these; none for all.

        Yields:
            The jobs, fetched page by page.

        Raises:
            OnnxscapeError: If the server is not reached, or refuses.
        """
        for job in iterate(lambda: self._client.jobs(states)):
            yield RemoteJob(job)

    def pack(self, request: EvalRequest, folder: Path, observer: Observer) -> Parcel:
        """Make an order of a request: everything that stands in files here is read.

        Args:
            request: What to evaluate.
            folder: Where files for the upload are made; it must stay until that is done.
            observer: Told of downloads.

        Returns:
            The order.

        Raises:
            OnnxscapeError: If something cannot be read, or the server is not reached.
        """
        offered = self.offered() if isinstance(request.data, str) else {}
        return pack(request, folder, offered, observer)

    def deliver(
        self,
        parcel: Parcel,
        *,
        display_name: str | None = None,
        priority: int = 0,
        uploaded: Progress | None = None,
    ) -> RemoteJob:
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
        job = run(
            lambda: self._client.deliver(
                parcel, display_name=display_name, priority=priority, uploaded=uploaded
            )
        )
        return RemoteJob(job)

    def validate(self, parcel: Parcel, *, uploaded: Progress | None = None) -> JobInfo:
        """Upload what the server lacks of an order, and have it checked.

        Args:
            parcel: The order.
            uploaded: As for `submit`.

        Returns:
            A job without an ID.

        Raises:
            OnnxscapeError: As `submit`.
        """
        return run(lambda: self._client.validate(parcel, uploaded=uploaded))
