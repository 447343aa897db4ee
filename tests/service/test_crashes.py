"""Kills at the worst moments, and at random ones: what was acknowledged stays, and goes on."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from server_process import ROOT, ServerDeadError, ServerProcess, Watcher

import onnxscape as ox
from onnxscape.v1 import blobs_pb2, jobs_pb2

pytestmark = pytest.mark.timeout(600)

MODEL = (ROOT / "models" / "digits_cnn.onnx").read_bytes()
DIGEST = blobs_pb2.Digest(sha256=hashlib.sha256(MODEL).hexdigest(), size=len(MODEL))
STEPS, SAMPLES = 5, 64


@pytest.fixture(scope="module")
def expected():
    """The loss of an undisturbed run without any server."""
    landscape = ox.evaluate(
        ROOT / "models" / "digits_cnn.onnx",
        "digits",
        grid=f"{STEPS}x{STEPS}",
        samples=SAMPLES,
        threads=1,
        device="cpu",
    )
    return landscape.loss


@pytest.fixture
def server(tmp_path):
    made = ServerProcess(tmp_path / "server")
    yield made
    made.kill()


def spec(model: str, steps: int = STEPS) -> jobs_pb2.JobSpec:
    axis = jobs_pb2.Axis(start=-1.0, stop=1.0, num=steps)
    return jobs_pb2.JobSpec(
        model=model,
        data="dataSets/digits",
        grid=jobs_pb2.Grid(x=axis, y=axis),
        samples=jobs_pb2.Samples(count=SAMPLES),
    )


def order(server: ServerProcess, request_id: str, steps: int = STEPS) -> str:
    """Upload and order, as a client that tries again does."""
    with server.ask() as asker:
        asker.upload(MODEL, DIGEST)
        return asker.order(spec(asker.create_model(DIGEST), steps), request_id).name


def check(server: ServerProcess, watcher: Watcher, expected: np.ndarray) -> None:
    """Assert that a job has come to its end as if nothing had happened."""
    with server.ask() as asker:
        while not watcher.attach(asker):
            if server.dead:
                raise ServerDeadError(server.log.read_text())
        assert watcher.job is not None
        assert watcher.job.state == jobs_pb2.JOB_STATE_SUCCEEDED, watcher.job
        assert watcher.job.point_count == STEPS * STEPS
        assert len(watcher.points) == STEPS * STEPS
        surface = asker.surface(watcher.name)
    loss = np.array(surface["loss"]).reshape(STEPS, STEPS)
    np.testing.assert_array_equal(loss, expected)
    stored = server.folder / "surfaces" / f"{watcher.name.removeprefix('jobs/')}.h5"
    np.testing.assert_array_equal(ox.load(stored).loss, expected)


@pytest.mark.parametrize(
    "failpoint",
    [
        "upload.before_rename",
        "job.after_commit",
        "lease.after",
        "point.before_commit",
        "point.after_commit",
        "surface.before_rename",
        "surface.after_rename",
    ],
)
def test_a_server_killed_at_its_worst_moment_goes_on_as_if_nothing_had_happened(
    server, expected, failpoint
):
    times = 3 if failpoint.startswith("point") else 1
    server.start(f"{failpoint}=kill:{times}")
    name = None
    watcher = None
    with suppress(grpc.RpcError):
        name = order(server, "the only one")
        watcher = Watcher(name)
        with server.ask() as asker:
            watcher.attach(asker)
    assert server.wait() == -signal.SIGKILL, "the failpoint was not reached"
    server.start()
    again = order(server, "the only one")
    if name is not None:
        assert again == name, "an acknowledged job was lost"
    check(server, watcher or Watcher(again), expected)
    with server.ask() as asker:
        assert len(asker.jobs.ListJobs(jobs_pb2.ListJobsRequest()).jobs) == 1


@pytest.mark.parametrize("failpoint", ["worker.before_point", "worker.after_point"])
def test_a_worker_that_dies_costs_a_chunk_at_most(server, expected, failpoint):
    server.start(f"{failpoint}=kill:4")
    watcher = Watcher(order(server, "r"))
    # Every worker dies on its fourth point: always another one, so none is to blame thrice.
    check(server, watcher, expected)


def test_a_point_that_kills_every_worker_is_given_up_and_the_job_ends_clearly(server):
    server.start("worker.before_point=kill")
    with server.ask() as asker:
        job = asker.wait(order(server, "r"), seconds=240)
    assert job.state == jobs_pb2.JOB_STATE_FAILED
    # Three points, each after three workers, and none that was ever evaluated: it is the job.
    assert (job.failed_count, job.point_count) == (3, 0)
    assert job.error.reason == "WORKER_LOST"


def test_kills_at_random_lose_nothing(tmp_path, expected):
    server = ServerProcess(tmp_path / "server")
    draw = random.Random(20181204)  # noqa: S311 - no secret
    rounds = int(os.environ.get("ONNXSCAPE_CRASH_ROUNDS", "50"))
    try:
        server.start()
        number = 0
        watcher: Watcher | None = Watcher(order(server, "round 0"))
        for _ in range(rounds):
            killer = threading.Timer(draw.uniform(0.0, 1.2), _strike, [server, draw.random()])
            killer.start()
            with suppress(grpc.RpcError, ServerDeadError), server.ask() as asker:
                while not server.dead and killer.is_alive() and watcher is not None:
                    if watcher.attach(asker):
                        check(server, watcher, expected)
                        # Nothing is acknowledged until the next order is answered, and equal
                        # numbers are of another order: what is shared would not be computed.
                        request = jobs_pb2.DeleteJobRequest(name=watcher.name)
                        number, watcher = number + 1, None
                        asker.jobs.DeleteJob(request)
                        watcher = Watcher(order(server, f"round {number}"))
            killer.join()
            if server.dead:
                server.start()
            name = order(server, f"round {number}")
            if watcher is None:
                watcher = Watcher(name)
            assert name == watcher.name, "an acknowledged job was lost"
        check(server, watcher, expected)
        assert number > 0, "no job came to its end between the kills"
    finally:
        server.kill()


def _strike(server: ServerProcess, choice: float) -> None:
    """Kill the server, or one of its workers."""
    workers = [pid for pid in server.workers() if _is_worker(pid)]
    if choice < 0.5 or not workers:
        server.kill()
        return
    with suppress(ProcessLookupError):
        os.kill(workers[int(choice * 997) % len(workers)], signal.SIGKILL)
    time.sleep(0.05)


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def test_a_server_that_is_asked_to_end_tells_its_watchers_and_ends(server):
    server.start()
    name = order(server, "r", steps=61)  # goes on for long enough
    codes: list[grpc.StatusCode] = []

    def watch() -> None:
        with server.ask() as asker:
            request = jobs_pb2.WatchJobRequest(name=name)
            try:
                for _ in asker.jobs.WatchJob(request):
                    pass
            except grpc.RpcError as error:
                codes.append(error.code())

    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(1.0)
    assert server.stop() == 0
    thread.join(20)
    assert not thread.is_alive()
    assert codes == [grpc.StatusCode.UNAVAILABLE]
    assert not list(server.folder.rglob("*.tmp*"))
