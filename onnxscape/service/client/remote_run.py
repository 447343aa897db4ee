"""The remote run: evaluated by a server, with the output and the rules of a run here."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxscape.errors import (
    JobFailedError,
    OnnxscapeError,
    ServerError,
    ServerUnreachableError,
    UsageError,
)
from onnxscape.evaluation.output import (
    check_outputs,
    existing_landscape,
    refuse_other_choices,
    refuse_other_spec,
)
from onnxscape.evaluation.report import Report, evaluated_points, warn_of_clamping
from onnxscape.service.client.following import Following
from onnxscape.service.client.remote_jobs import refuse_failure
from onnxscape.service.client.request_messages import refuse_local
from onnxscape.storage import PointStore, WriterLock, save_landscape, save_without_loss

if TYPE_CHECKING:
    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest, OutputOptions
    from onnxscape.service.client.client import Client, RemoteJob
    from onnxscape.service.client.job_info import JobInfo
    from onnxscape.service.client.request_messages import Parcel
    from onnxscape.service.client.uploads import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RemoteReport:
    """What a remote run did.

    Attributes:
        report: As of a run here; its points are those that came while it was watched.
        job: The job; None if the output was finished before.
    """

    report: Report
    job: JobInfo | None


class EvaluationDetached(KeyboardInterrupt):
    """The user interrupted the watching of a job, which goes on."""

    def __init__(self, job: JobInfo, done: int) -> None:
        """Carry what is known of it.

        Args:
            job: The job.
            done: Points that have been told.
        """
        super().__init__("detached")
        self.job = job
        self.done = done


def run_remotely(
    request: EvalRequest,
    output: OutputOptions,
    observer: Observer,
    client: Client,
    *,
    uploaded: Progress | None = None,
) -> RemoteReport:
    """Have a landscape evaluated into a surface file here.

    Args:
        request: What to evaluate.
        output: Where it goes.
        observer: Told what happens.
        client: Of the server.
        uploaded: Told the bytes that are uploaded, and how many there are; on another thread.

    Returns:
        The report. A finished landscape of the same spec is returned as it is.

    Raises:
        UsageError: If something is asked for that only a run here does.
        SpecConflictError: If the output holds a landscape of another spec or plan.
        OutputError: If the output cannot be written, or is being written.
        JobFailedError: If the job fails; what there is of it is written.
        EvaluationDetached: On an interrupt once the job is made: it goes on.
        KeyboardInterrupt: On an interrupt before.
        OnnxscapeError: If the request cannot be carried out, or the server is not reached.
    """
    started = time.perf_counter()
    refuse_local(request)
    if output.store is not None or output.save_directions is not None:
        raise UsageError(
            "points and directions of a remote run are kept by the server; leave out --store "
            "and --save-directions with --server"
        )
    check_outputs(request, output)
    with (
        WriterLock(output.path),
        tempfile.TemporaryDirectory(prefix="onnxscape-") as folder,
    ):
        observer.note(f"{'server':<10}  {client.address}: reads and checks the order first")
        parcel = client.pack(request, Path(folder), observer)
        existing = None if output.restart else _existing(output.path, client, parcel, uploaded)
        if existing is not None and existing.complete:
            return _nothing_to_do(request, output, existing, observer, started)
        job = client.deliver(parcel, uploaded=uploaded)
        shared = ", made before by an equal order" if job.info.shared else ""
        observer.note(f"{'job':<10}  {job.id}{shared}")
        run = _Run(request, output, observer, job, client, started)
        try:
            report = run.to_the_end()
        except KeyboardInterrupt:
            told = run.following
            raise EvaluationDetached(job.info, told.reused + told.computed) from None
    warn_of_clamping(report.landscape, _samples(report.landscape), observer)
    return RemoteReport(report=report, job=job.info)


def _existing(
    path: Path, client: Client, parcel: Parcel, uploaded: Progress | None
) -> Landscape | None:
    """Return the landscape of the same spec that is in the way, finished or not.

    Raises:
        ServerError: If the server does not tell the spec.
        OnnxscapeError: If something else is in the way.
    """
    live = PointStore.location(path)
    if not path.exists() and not live.exists():
        return None
    spec = client.validate(parcel, uploaded=uploaded).spec
    if spec is None:
        raise ServerError(f"{client.address} does not say what the order would evaluate")
    existing = existing_landscape(path, spec)
    if live.exists():
        with contextlib.closing(PointStore.open(path)) as store:
            if store.spec is not None:
                refuse_other_spec(store.spec, spec, store.path)
    return existing


def _nothing_to_do(
    request: EvalRequest,
    output: OutputOptions,
    existing: Landscape,
    observer: Observer,
    started: float,
) -> RemoteReport:
    refuse_other_choices(request, existing.plan)
    _remove_live_points(output.path)
    count = evaluated_points(existing)
    observer.note(f"{output.path} is finished: {count} points, nothing to compute")
    warn_of_clamping(existing, _samples(existing), observer)
    seconds = {"start": time.perf_counter() - started}
    report = Report(landscape=existing, computed=0, reused=count, seconds=seconds)
    return RemoteReport(report=report, job=None)


def _samples(landscape: Landscape) -> int:
    return 1 if landscape.spec is None else landscape.spec.samples


def _remove_live_points(path: Path) -> None:
    """Remove the store of an interrupted run here: all of its points are in the file."""
    if PointStore.location(path).exists():
        with contextlib.closing(PointStore.open(path, restart=True)) as store:
            store.remove()


class _Run:
    """A job that is watched to its end and fetched.

    Attributes:
        following: Tells the observer.
    """

    def __init__(
        self,
        request: EvalRequest,
        output: OutputOptions,
        observer: Observer,
        job: RemoteJob,
        client: Client,
        started: float,
    ) -> None:
        self._output, self._observer, self._job = output, observer, job
        self._client = client
        directions = None if request.directions is None else str(request.directions)
        self.following = Following(observer, directions=directions)
        self._marks = [started, time.perf_counter()]

    def to_the_end(self) -> Report:
        """Watch the job, fetch its surface, write it.

        Returns:
            The report.

        Raises:
            JobFailedError: If it fails.
            ServerUnreachableError: If the server is away for too long.
            ServerError: If what comes is another landscape, or not all of it.
        """
        following, job = self.following, self._job
        following.changed(job.info)
        try:
            for event in job.watch():
                following.take(event)
                if len(self._marks) == 2 and following.outlined:
                    self._marks.append(time.perf_counter())
            following.finish()
            if not job.info.finished:
                job.refresh()
            refuse_failure(job.info)
            landscape = job.landscape()
        except JobFailedError as error:
            raise JobFailedError(f"{error}{self._kept()}") from None
        except ServerUnreachableError as error:
            raise ServerUnreachableError(
                f"{error}; job {job.id} is kept there: the same command attaches to it again"
            ) from error
        if landscape.spec != job.info.spec or not landscape.complete:
            raise ServerError(
                f"expected the whole landscape of job {job.id} from {self._client.address}, "
                "got another one, or a part; ask its administrator"
            )
        save_landscape(landscape, self._output.path)
        _remove_live_points(self._output.path)
        return Report(
            landscape=landscape,
            computed=following.computed,
            reused=following.reused,
            seconds=self._seconds(),
        )

    def _seconds(self) -> dict[str, float]:
        """Return seconds by phase; a job that has no outline was never waited for."""
        marks = [*self._marks, time.perf_counter()]
        if len(marks) == 3:
            marks.insert(2, marks[1])
        phases = ("start", "waiting", "evaluation")
        return {phase: marks[at + 1] - marks[at] for at, phase in enumerate(phases)}

    def _kept(self) -> str:
        """Write what there is of a job that failed.

        Returns:
            Where it is, for the message.
        """
        if not self._job.info.done:
            return ""
        path = self._output.path
        with contextlib.suppress(OnnxscapeError):
            landscape = self._job.landscape(partial=True)
            save_without_loss(landscape, path, overwrite=self._output.restart)
            return f", and in {path}"
        return ""
