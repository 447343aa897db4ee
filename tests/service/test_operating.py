"""A server that runs must tell its operator the truth, and go down in good order."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families

import onnxscape as ox
from onnxscape.v1 import jobs_pb2, jobs_pb2_grpc, server_pb2, server_pb2_grpc

MODEL = Path(__file__).resolve().parents[2] / "models" / "digits_cnn.onnx"


class Serving:
    """`onnxscape serve` as a process, with its HTTP side and its log."""

    def __init__(self, folder, *flags):
        self.log = folder / "log"
        command = [sys.executable, "-m", "onnxscape_cli.main", "serve", "--port", "0"]
        command += ["--http-port", "0", "--data-dir", str(folder / "data")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--log-format", "json", *flags], stdout=subprocess.PIPE, stderr=log
            )
        said = [self.process.stdout.readline().decode() for _ in range(2)]
        found = [re.search(r"on (\S+)$", line.strip()) for line in said]
        assert all(found), (said, self.log.read_text())
        self.http, self.address = (match[1] for match in found)

    def get(self, path):
        """Returns status and text of an answer by HTTP."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self):
        """Returns name and labels of each sample to its value."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def lines(self):
        """Returns what was logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def serving(tmp_path):
    """Starts servers, and ends those that are left."""
    started = []

    def start(*flags):
        started.append(Serving(tmp_path, *flags))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.process.stdout.close()


def order(address, *, grid):
    with ox.Client(address) as client:
        return client.submit(MODEL, "digits", grid=grid, samples=100).id


def test_health_metrics_and_log_tell_of_a_job_that_was_done(serving):
    server = serving()
    assert server.get("/healthz") == (200, "ok\n")
    assert server.get("/readyz") == (200, "ok\n")
    before = server.metrics()
    assert before["onnxscape_jobs", ("state", "succeeded")] == 0
    assert before["onnxscape_slots",] == 1

    with ox.Client(server.address) as client:
        job = client.submit(MODEL, "digits", grid="3x3", samples=100)
        job.wait()
    after = server.metrics()
    assert after["onnxscape_jobs", ("state", "succeeded")] == 1
    assert after["onnxscape_jobs_ended_total", ("state", "succeeded")] == 1
    assert after["onnxscape_points_total",] == 9
    assert after["onnxscape_device_seconds_total",] > 0
    assert after["onnxscape_workers_started_total",] == 1
    assert after["onnxscape_blob_bytes",] == MODEL.stat().st_size
    assert after["onnxscape_disk_free_bytes",] > 0
    create = ("code", "OK"), ("method", "/onnxscape.v1.JobService/CreateJob")
    assert after["onnxscape_rpc_duration_seconds_count", *create] == 1

    assert server.stop() == 0
    lines = server.lines()
    (ordered,) = [line for line in lines if line["event"] == "job ordered"]
    (ended,) = [line for line in lines if line.get("method", "").endswith("/CreateJob")]
    assert ordered["job"] == ended["job"] == job.id
    assert ordered["request_id"] == ended["request_id"]
    assert ended["user"] == "local"
    moves = [line["state"] for line in lines if line["event"] == "job moved"]
    assert moves == ["running", "finishing", "succeeded"]
    assert not [line for line in lines if line["level"] in {"warning", "error"}]


def test_the_id_of_a_call_leads_from_the_client_to_the_log(serving):
    server = serving("--log-level", "debug")
    with grpc.insecure_channel(server.address) as channel:
        stub = server_pb2_grpc.ServerServiceStub(channel)
        _, call = stub.GetServerInfo.with_call(
            server_pb2.GetServerInfoRequest(), metadata=[("x-request-id", "mine.42")]
        )
        assert ("x-request-id", "mine.42") in call.trailing_metadata()
        with pytest.raises(grpc.RpcError) as refused:
            jobs_pb2_grpc.JobServiceStub(channel).GetJob(
                jobs_pb2.GetJobRequest(name="jobs/none-of-that-name"),
                metadata=[("x-request-id", "mine.43")],
            )
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert ("x-request-id", "mine.43") in refused.value.trailing_metadata()
    assert server.stop() == 0
    ends = {line.get("request_id"): line for line in server.lines() if "code" in line}
    assert ends["mine.42"]["code"] == "OK"
    assert ends["mine.43"]["code"] == "NOT_FOUND"


def test_a_server_that_goes_down_says_so_on_all_sides_and_loses_nothing(serving):
    server = serving()
    job_id = order(server.address, grid="41x41")
    seen, ended = [], []

    with grpc.insecure_channel(server.address) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)

        def watch():
            try:
                for response in stub.WatchJob(jobs_pb2.WatchJobRequest(name=f"jobs/{job_id}")):
                    seen.extend(response.points.points)
            except grpc.RpcError as error:
                ended.append(error)

        watching = threading.Thread(target=watch)
        watching.start()
        deadline = time.monotonic() + 120
        while not seen and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.metrics()["onnxscape_watchers",] == 1
        server.process.send_signal(signal.SIGTERM)
        answers = []
        with contextlib.suppress(OSError):  # it is down
            while server.process.poll() is None:
                answers.append(server.get("/readyz"))
                time.sleep(0.01)
        watching.join(60)
        assert server.process.wait(60) == 0

    assert (503, "the server is going down\n") in answers
    (error,) = ended
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    details = rpc_status.from_call(error).details
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in details)

    again = serving()
    with ox.Client(again.address) as client:
        job = client.job(job_id)
        assert job.info.done >= len(seen) > 0
        job.cancel()
    assert again.stop() == 0


def test_grpc_health_tells_that_it_serves(serving):
    server = serving()
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "onnxscape.v1.JobService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
