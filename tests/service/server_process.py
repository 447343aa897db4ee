"""A server in a process of its own, as `onnxscape serve` runs it; to be asked, and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import grpc

from onnxscape.jobs.failpoints import VARIABLE
from onnxscape.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    server_pb2_grpc,
)

ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0

FINISHED = frozenset(
    {
        jobs_pb2.JOB_STATE_SUCCEEDED,
        jobs_pb2.JOB_STATE_FAILED,
        jobs_pb2.JOB_STATE_CANCELLED,
    }
)


class ServerDeadError(Exception):
    """The server has died while something was expected of it."""


class ServerProcess:
    """A server on one folder; may be killed and started again.

    Args:
        folder: Its data folder.
        *flags: Further flags of `onnxscape serve`.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.port = 0
        self.log = folder.with_suffix(".log")
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, failpoints: str = "") -> None:
        """Start it, and wait until it listens."""
        self.begin(failpoints)
        assert self.listens(), self.log.read_text()

    def begin(self, failpoints: str = "") -> None:
        """Start it without waiting."""
        port_file = self.folder.with_suffix(".port")
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "onnxscape_cli.main", "serve"]
        command += ["--port", str(self.port), "--port-file", str(port_file)]
        command += ["--data-dir", str(self.folder), "--slots", "cpu:1", "--free-kept", "0"]
        paths = [str(ROOT), str(ROOT / "cli")]
        environment = os.environ | {VARIABLE: failpoints, "PYTHONPATH": os.pathsep.join(paths)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def listens(self) -> bool:
        """Wait until it listens; False if it died before."""
        port_file = self.folder.with_suffix(".port")
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self.dead:
                return False
            if port_file.exists() and (text := port_file.read_text()).endswith("\n"):
                self.port = int(text)
                return True
            time.sleep(0.02)
        return False

    @property
    def dead(self) -> bool:
        """Whether it is not running."""
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the process ids of its children."""
        found: list[int] = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found

    def kill(self) -> None:
        """End it as the kernel would when memory is short."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for its end.

        Returns:
            Its exit status.
        """
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> int:
        """Ask it to end, and wait.

        Returns:
            Its exit status.
        """
        if self.dead:
            return self._process.returncode if self._process else 0
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def ask(self, token: str | None = None) -> Asker:
        """Return what calls it."""
        return Asker(self.port, token)


class Asker:
    """Calls a server by the generated stubs, nothing else.

    Args:
        port: Of the server, on this machine.
        token: Bearer token.
    """

    def __init__(self, port: int, token: str | None = None) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        self.blobs = blobs_pb2_grpc.BlobServiceStub(self.channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self.jobs = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.server = server_pb2_grpc.ServerServiceStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def upload(self, content: bytes, digest: blobs_pb2.Digest, piece: int = 1 << 16) -> None:
        """Write a blob, going on where an earlier attempt stopped."""
        status = self.blobs.QueryWriteStatus(
            blobs_pb2.QueryWriteStatusRequest(digest=digest), metadata=self.metadata
        )
        if status.complete:
            return
        start = status.committed_size

        def pieces():
            for at in range(start, max(len(content), start + 1), piece):
                part = content[at : at + piece]
                yield blobs_pb2.WriteBlobRequest(digest=digest, offset=at, data=part)

        self.blobs.WriteBlob(pieces(), metadata=self.metadata, timeout=60)

    def create_model(self, digest: blobs_pb2.Digest) -> str:
        """Register a model.

        Returns:
            Its name.
        """
        request = catalog_pb2.CreateModelRequest(blob=digest, display_name="digits_cnn")
        answer = self.catalog.CreateModel(request, metadata=self.metadata, timeout=60)
        return answer.model.name

    def order(
        self, spec: jobs_pb2.JobSpec, request_id: str = "", priority: int = 0
    ) -> jobs_pb2.Job:
        """Order a job.

        Returns:
            The job.
        """
        request = jobs_pb2.CreateJobRequest(
            spec=spec, request_id=request_id, priority=priority
        )
        return self.jobs.CreateJob(request, metadata=self.metadata, timeout=60).job

    def get(self, name: str) -> jobs_pb2.Job:
        """Return a job."""
        request = jobs_pb2.GetJobRequest(name=name)
        return self.jobs.GetJob(request, metadata=self.metadata, timeout=60).job

    def wait(self, name: str, seconds: float = 120.0) -> jobs_pb2.Job:
        """Wait for the end of a job.

        Returns:
            The job.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.get(name)
            if job.state in FINISHED:
                return job
            time.sleep(0.05)
        raise TimeoutError(f"{name} has not ended: {self.get(name)}")

    def surface(self, name: str) -> dict[str, list[float]]:
        """Return the arrays of a surface, flat."""
        request = jobs_pb2.ReadSurfaceRequest(name=name, format=jobs_pb2.SURFACE_FORMAT_ARRAYS)
        found: dict[str, list[float]] = {}
        for part in self.jobs.ReadSurface(request, metadata=self.metadata, timeout=60):
            if part.HasField("piece"):
                found.setdefault(part.piece.metric, []).extend(part.piece.values)
        return found


class Watcher:
    """Watches a job over any number of connections, and checks what it is told.

    Args:
        name: Of the job.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.revision = 0
        self.points: dict[tuple[int, int], tuple[float, ...]] = {}
        self.job: jobs_pb2.Job | None = None

    def attach(self, asker: Asker, most: int | None = None) -> bool:
        """Watch until the job has ended, the connection breaks, or so many responses came.

        Returns:
            Whether the job has ended.
        """
        request = jobs_pb2.WatchJobRequest(name=self.name, after_revision=self.revision)
        call = asker.jobs.WatchJob(request, metadata=asker.metadata)
        try:
            for i, response in enumerate(call):
                self._take(response)
                if most is not None and i + 1 >= most:
                    call.cancel()
                    break
        except grpc.RpcError as error:
            if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                raise
        return self.job is not None and self.job.state in FINISHED

    def _take(self, response: jobs_pb2.WatchJobResponse) -> None:
        kind = response.WhichOneof("event")
        if kind == "heartbeat":
            return
        if kind == "job":
            self.job = response.job
            if not response.revision:
                return  # as it is at the start of a stream, with nothing new
        assert response.revision > self.revision
        if kind == "points":
            for point in response.points.points:
                where = point.row, point.column
                assert where not in self.points, f"{where} came twice"
                self.points[where] = tuple(point.values)
        self.revision = response.revision
