"""A server written from the .proto alone, whose connections break where a test says so.

Its losses are a closed form, alpha**2 + 2 * beta**2 + 1: nothing is evaluated.
"""

# ruff: noqa: N802 - methods have the names of the protocol

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections import defaultdict
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.landscape import Landscape
from onnxscape.core.plan import Plan
from onnxscape.core.spec import EvalSpec
from onnxscape.storage import save_landscape
from onnxscape.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
)

PLAN = Plan(
    provider="CPUExecutionProvider",
    strategy="constant",
    batch=64,
    folded=False,
    runtime="1.28.0",
    machine="x86_64",
)

FINISHED = {
    jobs_pb2.JOB_STATE_SUCCEEDED,
    jobs_pb2.JOB_STATE_FAILED,
    jobs_pb2.JOB_STATE_CANCELLED,
}


def loss_at(point):
    """The loss of the fake: a bowl."""
    return point.alpha**2 + 2 * point.beta**2 + 1


def status(code, message, *, reason=None, retry=None):
    """A rich status, as the server sends it."""
    details = []
    if reason is not None:
        details.append(ErrorInfo(reason=reason, domain="onnxscape"))
    if retry is not None:
        info = RetryInfo()
        info.retry_delay.FromMilliseconds(int(retry * 1000))
        details.append(info)
    packed = []
    for detail in details:
        packed.append(Any())
        packed[-1].Pack(detail)
    return rpc_status.to_status(Status(code=code.value[0], message=message, details=packed))


AWAY = status(grpc.StatusCode.UNAVAILABLE, "going down")


class FakeJob:
    """A job and all that happened to it."""

    def __init__(self, server, request, order):
        self.server, self.request, self.order = server, request, order
        self.grid = Grid(
            *(
                Axis(a.start, a.stop, a.num) if a.num else None
                for a in (request.spec.grid.x, request.spec.grid.y)
            )
        )
        self.points = [self.grid.center()]
        self.points += [
            p
            for p in self.grid.points()
            if (p.row, p.column) != (self.points[0].row, self.points[0].column)
        ]
        self.changed = threading.Condition()
        self.log = []  # of responses, each of a higher revision
        self.done = 0
        self.message = jobs_pb2.Job(
            name=f"jobs/j{len(server.jobs) + 1}",
            spec=request.spec,
            execution=request.execution,
            display_name=request.display_name,
            priority=request.priority,
            state=jobs_pb2.JOB_STATE_QUEUED,
            point_total=len(self.points),
            spec_json=self.spec.to_json(),
            notes=["the fake is no server"],
        )
        self.message.estimate.points = len(self.points)
        self.message.estimate.device_time.FromSeconds(3)
        self.message.create_time.FromSeconds(1_800_000_000)
        self.tell()

    @property
    def spec(self):
        """The spec, in which what was uploaded is seen."""
        spec = self.request.spec
        return EvalSpec(
            model=self.server.catalog.digest_of(spec.model),
            data=self.server.catalog.digest_of(spec.data),
            samples=spec.samples.count or 1000,
            population=1797,
            loss=spec.loss.name or "cross-entropy",
            metrics=(),
            grid=self.grid,
            seed=spec.directions.seed,
            normalization=spec.directions.normalization,
            ignore=spec.directions.ignore,
            orthogonal=spec.directions.orthogonal,
        )

    def tell(self, **fields):
        """Change the job and log it."""
        for name, value in fields.items():
            setattr(self.message, name, value)
        with self.changed:
            self.message.revision = len(self.log) + 1
            job = jobs_pb2.Job()
            job.CopyFrom(self.message)
            self.log.append(jobs_pb2.WatchJobResponse(revision=job.revision, job=job))
            self.changed.notify_all()

    def begin(self):
        """The first worker is ready."""
        outline = {
            "model": "fake", "moved": 2, "elements": 10, "others": 1,
            "directions": "from /srv/blobs/ab", "loss": "cross-entropy", "data": "digits",
            "samples": 10, "population": 100, "points": len(self.points), "reused": 0,
            "center_apart": False, "known": None, "device": "cpu", "strategy": "constant",
            "seconds_per_point": 0.5, "two_level": None, "calibration": ["tried"],
            "from_the_future": 1,
        }  # fmt: skip
        self.tell(
            state=jobs_pb2.JOB_STATE_RUNNING,
            outline_json=json.dumps(outline),
            plan_json=PLAN.to_json(),
        )

    def advance(self, count=None):
        """Finish points, and the job with the last one."""
        if self.message.state == jobs_pb2.JOB_STATE_QUEUED:
            self.begin()
        stop = len(self.points) if count is None else min(self.done + count, len(self.points))
        while self.done < stop:
            point = self.points[self.done]
            failure = self.server.failing_points.get((point.row, point.column), "")
            entry = jobs_pb2.Point(
                row=point.row,
                column=point.column,
                alpha=point.alpha,
                beta=point.beta,
                values=[] if failure else [loss_at(point), 0.125],
                failure=failure,
            )
            batch = jobs_pb2.PointBatch(metrics=["loss", "loss_stderr"], points=[entry])
            with self.changed:
                self.done += 1
                self.message.point_count += not failure
                self.message.failed_count += bool(failure)
                revision = len(self.log) + 1
                self.log.append(jobs_pb2.WatchJobResponse(revision=revision, points=batch))
                self.changed.notify_all()
        if self.done == len(self.points):
            self.finish()

    def finish(self):
        """Write the surface."""
        if self.message.failed_count:
            self.message.error.reason = "POINTS_FAILED"
            self.message.error.message = f"{self.message.failed_count} points failed"
            self.tell(state=jobs_pb2.JOB_STATE_FAILED)
        else:
            self.tell(state=jobs_pb2.JOB_STATE_SUCCEEDED)

    def fail(self, reason, message):
        """End it."""
        self.message.error.reason, self.message.error.message = reason, message
        self.tell(state=jobs_pb2.JOB_STATE_FAILED)

    def landscape(self):
        """The points so far."""
        surfaces = {n: np.full(self.grid.shape, np.nan) for n in ("loss", "loss_stderr")}
        evaluated = np.zeros(self.grid.shape, bool)
        for point in self.points[: self.done]:
            if point.row >= 0 and (point.row, point.column) not in self.server.failing_points:
                index = self.grid.index(point)
                surfaces["loss"][index], surfaces["loss_stderr"][index] = loss_at(point), 0.125
                evaluated[index] = True
        return Landscape(
            grid=self.grid,
            surfaces=surfaces,
            evaluated=evaluated,
            center={"loss": 1.0, "loss_stderr": 0.125} if self.done else {},
            spec=self.spec,
            plan=PLAN,
            provenance={"model": "fake", "data": "digits", "samples": 10},
        )


class Blobs(blobs_pb2_grpc.BlobServiceServicer):
    """Keeps bytes by their digests."""

    def __init__(self, server):
        self.server = server
        self.whole, self.parts = {}, defaultdict(bytearray)
        self.breaks = []  # bytes after which the next streams break
        self.streams = []  # (sha256, first offset, bytes taken)

    def FindMissingBlobs(self, request, context):
        self.server.called("FindMissingBlobs", context)
        missing = [d for d in request.digests if d.sha256 not in self.whole]
        return blobs_pb2.FindMissingBlobsResponse(missing=missing)

    def QueryWriteStatus(self, request, context):
        self.server.called("QueryWriteStatus", context)
        sha = request.digest.sha256
        return blobs_pb2.QueryWriteStatusResponse(
            committed_size=len(self.whole.get(sha, self.parts[sha])),
            complete=sha in self.whole,
        )

    def WriteBlob(self, requests, context):
        self.server.called("WriteBlob", context)
        room = self.breaks.pop(0) if self.breaks else None
        sha = None
        for request in requests:
            if sha is None:
                sha, size = request.digest.sha256, request.digest.size
                self.streams.append([sha, request.offset, 0])
            assert len(request.data) <= 2 << 20
            if request.offset != len(self.parts[sha]):
                context.abort_with_status(
                    status(grpc.StatusCode.INVALID_ARGUMENT, "offset does not continue")
                )
            taken = request.data if room is None else request.data[:room]
            self.parts[sha] += taken
            self.streams[-1][2] += len(taken)
            if room is not None:
                room -= len(taken)
                if room <= 0:
                    context.abort_with_status(AWAY)
        content = bytes(self.parts.pop(sha))
        if hashlib.sha256(content).hexdigest() != sha or len(content) != size:
            context.abort_with_status(
                status(grpc.StatusCode.INVALID_ARGUMENT, "the bytes have another digest")
            )
        self.whole[sha] = content
        return blobs_pb2.WriteBlobResponse(digest=blobs_pb2.Digest(sha256=sha, size=size))


class Catalog(catalog_pb2_grpc.CatalogServiceServicer):
    """Knows `digits`, and what was registered."""

    def __init__(self, server):
        self.server = server
        self.models, self.data = {}, {}

    def digest_of(self, name):
        known = {**self.models, **self.data}
        if name in known:
            return known[name].blob.sha256
        return hashlib.sha256(name.encode()).hexdigest()

    def _check(self, blob, context):
        if blob.sha256 not in self.server.blobs.whole:
            context.abort_with_status(
                status(grpc.StatusCode.FAILED_PRECONDITION, "gone", reason="BLOBS_MISSING")
            )

    def CreateModel(self, request, context):
        self.server.called("CreateModel", context)
        self._check(request.blob, context)
        name = f"models/{request.blob.sha256[:12]}"
        self.models[name] = catalog_pb2.Model(
            name=name, blob=request.blob, display_name=request.display_name
        )
        return catalog_pb2.CreateModelResponse(model=self.models[name])

    def CreateDataSet(self, request, context):
        self.server.called("CreateDataSet", context)
        self._check(request.blob, context)
        name = f"dataSets/{request.blob.sha256[:12]}"
        self.data[name] = catalog_pb2.DataSet(
            name=name,
            blob=request.blob,
            display_name=request.display_name,
            format=request.format,
        )
        return catalog_pb2.CreateDataSetResponse(data_set=self.data[name])

    def ListDataSets(self, request, context):
        self.server.called("ListDataSets", context)
        everything = [
            catalog_pb2.DataSet(name="dataSets/digits", public=True, splits=["train"]),
            *self.data.values(),
        ]
        start = int(request.page_token or 0)
        more = str(start + 1) if start + 1 < len(everything) else ""
        return catalog_pb2.ListDataSetsResponse(
            data_sets=everything[start : start + 1], next_page_token=more
        )


class Jobs(jobs_pb2_grpc.JobServiceServicer):
    """Jobs that are done at once, or as far as the test says."""

    def __init__(self, server):
        self.server = server
        self.breaks = []  # responses after which the next streams break
        self.ends = []  # responses after which the next streams end as if all were told
        self.watched = []  # `after_revision` of each stream
        self.surface = None  # other bytes than the file's

    def CreateJob(self, request, context):
        self.server.called("CreateJob", context)
        order = (
            request.spec.SerializeToString(deterministic=True),
            request.execution.SerializeToString(deterministic=True),
        )
        if request.validate_only:
            job = FakeJob(self.server, request, order).message
            job.name = ""
            return jobs_pb2.CreateJobResponse(job=job)
        self.server.request_ids.append(request.request_id)
        for known in self.server.jobs.values():
            if known.order == order and known.message.state not in {
                jobs_pb2.JOB_STATE_FAILED,
                jobs_pb2.JOB_STATE_CANCELLED,
            }:
                job = jobs_pb2.Job()
                job.CopyFrom(known.message)
                job.shared = known.request.request_id != request.request_id
                break
        else:
            made = FakeJob(self.server, request, order)
            self.server.jobs[made.message.name] = made
            job = jobs_pb2.Job()
            job.CopyFrom(made.message)
            if self.server.at_once:
                made.advance()
        self.server.called("after CreateJob", context)
        return jobs_pb2.CreateJobResponse(job=job)

    def _job(self, request, context):
        if request.name not in self.server.jobs:
            context.abort_with_status(
                status(grpc.StatusCode.NOT_FOUND, f"no job {request.name}", reason="NOT_FOUND")
            )
        return self.server.jobs[request.name]

    def GetJob(self, request, context):
        self.server.called("GetJob", context)
        return jobs_pb2.GetJobResponse(job=self._job(request, context).message)

    def ListJobs(self, request, context):
        self.server.called("ListJobs", context)
        found = [
            job.message
            for job in reversed(self.server.jobs.values())
            if not request.states or job.message.state in request.states
        ]
        start = int(request.page_token or 0)
        more = str(start + 2) if start + 2 < len(found) else ""
        return jobs_pb2.ListJobsResponse(jobs=found[start : start + 2], next_page_token=more)

    def CancelJob(self, request, context):
        self.server.called("CancelJob", context)
        job = self._job(request, context)
        if job.message.state not in FINISHED:
            job.tell(state=jobs_pb2.JOB_STATE_CANCELLED)
        return jobs_pb2.CancelJobResponse(job=job.message)

    def DeleteJob(self, request, context):
        self.server.called("DeleteJob", context)
        job = self._job(request, context)
        if job.message.state not in FINISHED:
            context.abort_with_status(
                status(grpc.StatusCode.FAILED_PRECONDITION, "it is not finished", reason="X")
            )
        del self.server.jobs[request.name]
        self.server.called("after DeleteJob", context)
        return jobs_pb2.DeleteJobResponse()

    def WatchJob(self, request, context):
        self.server.called("WatchJob", context)
        self.watched.append(request.after_revision)
        job = self._job(request, context)
        left = self.breaks.pop(0) if self.breaks else None
        end = self.ends.pop(0) if self.ends else None
        at = request.after_revision
        if at:  # the first response holds the job, whether it has changed or not
            yield jobs_pb2.WatchJobResponse(job=job.message)
        while context.is_active():
            with job.changed:
                job.changed.wait_for(lambda n=at: len(job.log) > n, self.server.heartbeat)
                news = job.log[at:]
            if not news:
                yield jobs_pb2.WatchJobResponse(heartbeat=jobs_pb2.Heartbeat())
            for response in news:
                if left == 0:
                    context.abort_with_status(AWAY)
                if end == 0:
                    return
                left = None if left is None else left - 1
                end = None if end is None else end - 1
                at = response.revision
                yield response
            if job.message.state in FINISHED and at == len(job.log):
                return

    def ReadSurface(self, request, context):
        self.server.called("ReadSurface", context)
        job = self._job(request, context)
        content = self.surface
        if content is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "surface.h5"
                save_landscape(job.landscape(), path)
                content = path.read_bytes()
        for start in range(0, len(content), 1000):
            yield jobs_pb2.ReadSurfaceResponse(file=content[start : start + 1000])


class About(server_pb2_grpc.ServerServiceServicer):
    """Says what it is."""

    def __init__(self, server):
        self.server = server

    def GetServerInfo(self, request, context):
        del request
        self.server.called("GetServerInfo", context)
        response = server_pb2.GetServerInfoResponse(version="0.fake")
        response.devices.add(name="cpu", description="no processor", slots=2)
        response.quota.user = "local"
        response.quota.active_jobs_limit = 4
        response.limits.job_device_time.FromSeconds(60)
        return response


class FakeServer:
    """A server in this process.

    Attributes:
        at_once: Whether jobs are finished when they are ordered.
        failing_points: (row, column) to the reason why such points fail.
        calls: Names of the methods that were called.
        tokens: What came as `authorization`.
        holds: Method to an event that its calls wait for.
    """

    def __init__(self, credentials=None):
        self.at_once = True
        self.heartbeat = 0.2
        self.failing_points = {}
        self.jobs, self.request_ids = {}, []
        self.calls, self.tokens, self.holds = [], [], {}
        self._failures = defaultdict(list)
        self.blobs, self.catalog, self.job_service = Blobs(self), Catalog(self), Jobs(self)
        self._credentials = credentials
        self._server = None
        self.port = 0
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Listen, again at the same place."""
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        blobs_pb2_grpc.add_BlobServiceServicer_to_server(self.blobs, self._server)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self.catalog, self._server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self.job_service, self._server)
        server_pb2_grpc.add_ServerServiceServicer_to_server(About(self), self._server)
        where = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            self.port = self._server.add_insecure_port(where)
        else:
            self.port = self._server.add_secure_port(where, self._credentials)
        self._server.start()

    def stop(self):
        """Break all connections."""
        self._server.stop(0).wait()

    def fail(self, method, *statuses):
        """Make the next calls of a method end with these."""
        self._failures[method] += statuses

    def called(self, method, context):
        """Note a call, and fail it if a test wants it."""
        self.calls.append(method)
        self.tokens += [v for k, v in context.invocation_metadata() if k == "authorization"]
        if method in self.holds:
            self.holds[method].wait(20)
        if self._failures[method]:
            context.abort_with_status(self._failures[method].pop(0))

    @property
    def job(self):
        """The only job."""
        (job,) = self.jobs.values()
        return job
