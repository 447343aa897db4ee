import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

import onnxscape as ox
from onnxscape.jobs.failpoints import VARIABLE
from onnxscape.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
)

MODEL = Path(__file__).parents[2] / "models" / "digits_cnn.onnx"
SECONDS = 90


class Serve:
    """`onnxscape serve` as a process of its own."""

    def __init__(self, folder, *arguments, **environment):
        self.folder = folder
        self.port_file = folder.with_name(f"{folder.name}.port")
        self.port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "onnxscape_cli.main", "serve", "--port", "0",
             "--data-dir", folder, "--port-file", self.port_file, "--free-kept", "0",
             "--slots", "cpu:1", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )  # fmt: skip

    def __enter__(self):
        end = time.monotonic() + SECONDS
        while not self.port_file.exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        self.address = f"127.0.0.1:{self.port_file.read_text().strip()}"
        self.channel = grpc.insecure_channel(self.address)
        self.blobs = blobs_pb2_grpc.BlobServiceStub(self.channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self.jobs = jobs_pb2_grpc.JobServiceStub(self.channel)
        return self

    def __exit__(self, *_):
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def stopped(self, number=signal.SIGTERM):
        """Send a signal, and return exit status, stdout and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def uploaded(self, data=None):
        data = MODEL.read_bytes() if data is None else data
        digest = blobs_pb2.Digest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        self.blobs.WriteBlob(
            iter([blobs_pb2.WriteBlobRequest(digest=digest, data=data)]), timeout=SECONDS
        )
        return digest

    def model(self):
        request = catalog_pb2.CreateModelRequest(
            blob=self.uploaded(), display_name="digits_cnn"
        )
        return self.catalog.CreateModel(request, timeout=SECONDS).model

    def ordered(self, num=3, **fields):
        axis = jobs_pb2.Axis(start=-1, stop=1, num=num)
        spec = jobs_pb2.JobSpec(
            model=self.model().name,
            data="dataSets/digits",
            samples=jobs_pb2.Samples(count=100),
            grid=jobs_pb2.Grid(x=axis, y=axis),
        )
        request = jobs_pb2.CreateJobRequest(spec=spec, **fields)
        return self.jobs.CreateJob(request, timeout=SECONDS).job

    def watched(self, name, after=0):
        request = jobs_pb2.WatchJobRequest(name=name, after_revision=after)
        return self.jobs.WatchJob(request, timeout=SECONDS)

    def losses(self, name):
        """Return the surface of the loss."""
        request = jobs_pb2.ReadSurfaceRequest(name=name, format=jobs_pb2.SURFACE_FORMAT_ARRAYS)
        header, values = None, {}
        for response in self.jobs.ReadSurface(request, timeout=SECONDS):
            if response.HasField("header"):
                header = response.header
            else:
                values.setdefault(response.piece.metric, []).extend(response.piece.values)
        return np.array(values["loss"]).reshape(header.shape)


@pytest.fixture(scope="module")
def local():
    """The loss of the landscape of `Serve.ordered`, evaluated here."""
    landscape = ox.evaluate(
        MODEL, "digits", x=(-1, 1, 3), y=(-1, 1, 3), samples=100, device="cpu", threads=1
    )
    return landscape.surfaces["loss"]


def test_a_landscape_ordered_by_stubs_alone_has_the_bits_of_a_local_one(tmp_path, local):
    with Serve(tmp_path / "data", "--http-port", "0", "--log-format", "json") as server:
        job = server.ordered(request_id="one")
        states, points, revisions = [], [], []
        for response in server.watched(job.name):
            if response.HasField("job"):
                states.append(response.job.state)
            points += response.points.points
            revisions += [response.revision] if response.revision else []
        assert states[-1] == jobs_pb2.JOB_STATE_SUCCEEDED
        assert len({(point.row, point.column) for point in points}) == len(points) == 9
        assert revisions == sorted(set(revisions))
        assert server.losses(job.name).tobytes() == np.asarray(local).tobytes()
        # The process that listens has loaded none of what runs models.
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "sqlite" in maps
        assert "onnxruntime" not in maps
        status, out, err = server.stopped()
        assert status == 0
        assert f"listening on {server.address}\n" in out
        assert all(json.loads(line)["event"] for line in err.splitlines())


def test_a_server_that_is_killed_goes_on_with_its_jobs_after_a_restart(tmp_path, local):
    folder = tmp_path / "data"
    with Serve(folder, **{VARIABLE: "point.after_commit=kill:1"}) as server:
        job = server.ordered()
        with pytest.raises(grpc.RpcError):
            list(server.watched(job.name))
        assert server.process.wait(SECONDS) == -signal.SIGKILL
    with Serve(folder) as server:
        last = list(server.watched(job.name))[-1]
        assert last.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
        assert server.losses(job.name).tobytes() == np.asarray(local).tobytes()
        _, out, _ = server.stopped()
        assert out.endswith("going on with 1 unfinished job\n")


def test_an_upload_that_a_kill_interrupts_is_written_again(tmp_path):
    folder = tmp_path / "data"
    data = b"some bytes" * 1000
    with Serve(folder, **{VARIABLE: "upload.before_rename=kill"}) as server:
        with pytest.raises(grpc.RpcError):
            server.uploaded(data)
        assert server.process.wait(SECONDS) == -signal.SIGKILL
    with Serve(folder) as server:
        digest = blobs_pb2.Digest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        status = server.blobs.QueryWriteStatus(
            blobs_pb2.QueryWriteStatusRequest(digest=digest)
        )
        assert not status.complete
        assert status.committed_size == len(data)
        rest = blobs_pb2.WriteBlobRequest(digest=digest, offset=len(data))
        server.blobs.WriteBlob(iter([rest]))
        read = server.blobs.ReadBlob(blobs_pb2.ReadBlobRequest(digest=digest))
        assert b"".join(response.data for response in read) == data


def test_watchers_are_told_that_the_server_goes_down_and_no_point_is_lost(tmp_path):
    folder = tmp_path / "data"
    with Serve(folder) as server:
        job = server.ordered(num=51)
        watching = server.watched(job.name)
        seen = 0
        while not seen:
            seen += len(next(watching).points.points)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            seen += sum(len(response.points.points) for response in watching)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "going down" in caught.value.details()
        assert server.process.wait(SECONDS) == 0
    with Serve(folder) as server:
        job = server.jobs.GetJob(jobs_pb2.GetJobRequest(name=job.name)).job
        assert job.state == jobs_pb2.JOB_STATE_RUNNING
        assert job.point_count >= seen
        cancelled = server.jobs.CancelJob(jobs_pb2.CancelJobRequest(name=job.name)).job
        assert cancelled.state in {
            jobs_pb2.JOB_STATE_CANCELLING,
            jobs_pb2.JOB_STATE_CANCELLED,
        }


def test_a_second_server_on_the_same_folder_or_port_is_refused(tmp_path):
    with Serve(tmp_path / "data") as first:
        for folder, port, text in (
            (tmp_path / "data", "0", f"is used by the server of process {first.process.pid}"),
            (tmp_path / "other", first.address.rpartition(":")[2], "cannot listen on"),
        ):
            second = Serve(folder, "--port", port)
            _, err = second.process.communicate(timeout=SECONDS)
            assert second.process.returncode == 2
            assert text in err
            assert len(err.splitlines()) == 1
        assert not (tmp_path / "other").exists()


def test_operators_see_health_and_numbers(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Serve(tmp_path / "data", "--http-port", str(port)) as server:
        server.uploaded(b"12345")

        def get(path):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as got:
                return got.read().decode()

        assert get("/healthz") == "ok\n"
        assert get("/readyz") == "ok\n"
        metrics = get("/metrics")
        assert "onnxscape_blob_bytes 5.0" in metrics
        assert "onnxscape_slots 1.0" in metrics


def test_a_configuration_that_means_nothing_ends_with_one_line(tmp_path):
    for arguments, text in (
        (("--data", "imagenet"), "expected data known by name"),
        (("--data", "cifar10", "--cache-dir", str(tmp_path)), "onnxscape data get cifar10"),
        (("--models", f"net={tmp_path}/none.onnx"), "No such file"),
    ):
        server = Serve(tmp_path / "data", *arguments)
        _, err = server.process.communicate(timeout=SECONDS)
        assert server.process.returncode in {2, 6}, err
        assert text in err
        assert len(err.splitlines()) == 1
