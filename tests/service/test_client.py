"""The client beside a server of which only the .proto is known."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from fake_server import loss_at, status

import onnxscape as ox
from onnxscape import errors
from onnxscape.service.client.retries import Patience
from onnxscape.service.client.watching import JobChanged, PointsDone

MODEL = Path(__file__).parents[2] / "models" / "digits_cnn.onnx"
IMPATIENT = Patience(call=0.3, stream=0.3, silence=1.0, first=0.01, longest=0.05)


def bowl(landscape):
    """What the fake evaluates everywhere."""
    alphas, betas = np.meshgrid(landscape.alphas, landscape.betas)
    return alphas**2 + 2 * betas**2 + 1


def test_a_landscape_is_ordered_watched_and_fetched(client):
    landscape = client.evaluate(MODEL, "digits", grid="4x3")
    np.testing.assert_array_equal(landscape.loss, bowl(landscape))
    assert landscape.complete


def test_the_asynchronous_client_does_the_same(server):
    async def evaluate():
        async with ox.AsyncClient(server.address) as client:
            return await client.evaluate(MODEL, "digits", grid="4x3")

    landscape = asyncio.run(evaluate())
    np.testing.assert_array_equal(landscape.loss, bowl(landscape))


def test_what_is_watched_is_every_point_once_and_ends_with_the_end(client):
    job = client.submit(MODEL, "digits", grid="4x3")
    events = list(job.watch())
    points = [r for e in events if isinstance(e, PointsDone) for r in e.points]
    assert len({(r.point.row, r.point.column) for r in points}) == len(points) == 13
    assert all(r.metrics["loss"] == loss_at(r.point) for r in points)
    assert isinstance(events[-1], JobChanged)
    assert events[-1].job.state == "succeeded"
    assert job.info is events[-1].job


def test_a_watch_goes_on_from_a_revision(client):
    job = client.submit(MODEL, "digits", grid="4x3")
    events = list(job.watch())
    first, *later = job.watch(events[5].revision)
    assert isinstance(first, JobChanged)  # as it is now
    assert [e.revision for e in later] == [e.revision for e in events[6:]]


def test_a_watch_that_is_left_ends_its_stream(server, client):
    server.at_once = False
    job = client.submit(MODEL, "digits", grid="4x3")
    server.job.advance(3)
    watch = job.watch()
    next(watch)
    watch.close()
    assert client.server_info().version == "0.fake"  # the connection is of use


def test_an_equal_order_is_the_same_job(server, client):
    first = client.submit(MODEL, "digits", grid="4x3")
    again = client.submit(MODEL, "digits", grid="4x3")
    other = client.submit(MODEL, "digits", grid="4x3", seed=1)
    assert (first.id, first.info.shared) == (again.id, False)
    assert again.info.shared
    assert other.id != first.id
    assert len(server.blobs.streams) == 1  # one upload of the model for all


def test_an_estimate_makes_no_job(server, client):
    info = client.estimate(MODEL, "digits", grid="4x3")
    assert info.id == ""
    assert info.estimate.points == 13
    assert info.estimate.device_seconds == 3.0
    assert info.estimate.completion_seconds is None
    assert info.spec.grid.shape == (3, 4)
    assert server.jobs == {}


def test_jobs_are_found_listed_cancelled_and_deleted(server, client):
    server.at_once = False
    made = [client.submit(MODEL, "digits", grid="4x3", seed=seed) for seed in range(5)]
    assert [job.id for job in client.jobs()] == [job.id for job in reversed(made)]
    assert client.job(made[2].id).info.display_name == "digits_cnn on digits"
    assert client.job(f"jobs/{made[2].id}").id == made[2].id
    assert made[1].cancel().state == "cancelled"
    assert [job.id for job in client.jobs(["cancelled"])] == [made[1].id]
    made[1].delete()
    with pytest.raises(errors.UsageError, match="no job jobs/j2"):
        made[1].refresh()


def test_a_job_that_is_not_finished_is_not_deleted(server, client):
    server.at_once = False
    job = client.submit(MODEL, "digits", grid="4x3")
    with pytest.raises(errors.UsageError, match="not finished"):
        job.delete()


def test_a_cancelled_job_has_no_landscape_but_its_points(server, client):
    server.at_once = False
    job = client.submit(MODEL, "digits", grid="4x3")
    server.job.advance(4)
    job.cancel()
    with pytest.raises(
        errors.JobFailedError, match=r"was cancelled; 4 of 13 points are there"
    ):
        job.landscape()
    partial = job.landscape(partial=True)
    assert partial.evaluated.sum() == 3  # and the center, which is not on the grid
    assert not partial.complete


def test_a_failed_job_says_why(server, client):
    server.at_once = False
    job = client.submit(MODEL, "digits", grid="4x3")
    server.job.fail("WORKER_LOST", "three workers were killed for memory")
    with pytest.raises(errors.JobFailedError, match="WORKER_LOST: three workers were killed"):
        job.landscape()


def test_points_that_failed_are_told_and_fail_the_job(server, client):
    server.failing_points = {(0, 0): "it killed three workers"}
    with (
        pytest.warns(UserWarning, match=r"no loss at \(-1, -1\): it killed three workers"),
        pytest.raises(errors.JobFailedError, match="POINTS_FAILED"),
    ):
        client.evaluate(MODEL, "digits", grid="4x3")


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("UnsupportedModelError", grid_code, kind)
        for grid_code, kind in (
            (grpc.StatusCode.INVALID_ARGUMENT, errors.UnsupportedModelError),
        )
    ]
    + [
        ("UnknownDataError", grpc.StatusCode.NOT_FOUND, errors.UnknownDataError),
        ("SelfTestError", grpc.StatusCode.FAILED_PRECONDITION, errors.SelfTestError),
        ("INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT, errors.UsageError),
        ("QUOTA", grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ServerLimitError),
        ("NO_TOKEN", grpc.StatusCode.UNAUTHENTICATED, errors.AccessError),
        (None, grpc.StatusCode.PERMISSION_DENIED, errors.AccessError),
        ("StorageError", grpc.StatusCode.INTERNAL, errors.ServerError),
        (None, grpc.StatusCode.UNKNOWN, errors.ServerError),
        (None, grpc.StatusCode.UNIMPLEMENTED, errors.ServerError),
        ("__all__", grpc.StatusCode.INVALID_ARGUMENT, errors.UsageError),
    ],
)
def test_what_the_server_raises_comes_back_as_the_same_class(
    server, client, reason, code, kind
):
    server.fail("CreateJob", status(code, "what is wrong", reason=reason))
    with pytest.raises(errors.OnnxscapeError, match="what is wrong") as raised:
        client.submit(MODEL, "digits", grid="4x3")
    assert type(raised.value) is kind
    assert server.calls.count("CreateJob") == 1  # and nothing is tried again


def test_a_token_is_sent_with_every_call(server):
    with ox.Client(server.address, token="onnxscape_abc") as client:  # noqa: S106
        client.evaluate(MODEL, "digits", grid="4x3")
    assert server.tokens == ["Bearer onnxscape_abc"] * len(server.calls)


def test_a_server_that_is_not_there_is_named_after_some_tries(server):
    server.stop()
    with (
        ox.Client(server.address, patience=IMPATIENT) as client,
        pytest.raises(
            errors.ServerUnreachableError, match=f"cannot reach a server at {server.address}"
        ),
    ):
        client.server_info()


def test_a_server_says_what_it_is(client):
    info = client.server_info()
    assert (info.version, info.user) == ("0.fake", "local")
    assert [(d.name, d.slots) for d in info.devices] == [("cpu", 2)]
    assert info.quota["active_jobs_limit"] == 4
    assert info.limits["job_device_time"] == 60.0


def test_a_surface_that_is_none_is_the_servers_fault(server, client):
    server.job_service.surface = b"\x89HDF\r\n\x1a\n" + bytes(5000)
    with pytest.raises(errors.ServerError, match="expected the surface of jobs/j1"):
        client.evaluate(MODEL, "digits", grid="4x3")


def test_a_state_of_a_later_version_is_an_error(server, client):
    job = client.submit(MODEL, "digits", grid="4x3")
    server.job.message.state = 99
    with pytest.raises(errors.ServerError, match="state 99, which this version does not know"):
        job.refresh()


def test_an_interrupt_cancels_what_is_waited_for(server, client):
    script = f"""
import os, signal, threading
import onnxscape as ox
with ox.Client({server.address!r}) as client:
    job = client.submit({str(MODEL)!r}, "digits", grid="4x3")
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    try:
        job.wait()
    except KeyboardInterrupt:
        print(client.job(job.id).info.state)
"""
    server.at_once = False
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("queued\n", "")


def test_nothing_of_the_client_is_loaded_before_it_is_used():
    script = "import sys, onnxscape; onnxscape.Grid; assert 'grpc' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_client_needs_no_onnx_runtime():
    script = "import sys, onnxscape; onnxscape.Client; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_state_that_there_is_not_is_an_error_of_ours(client):
    with pytest.raises(errors.UsageError, match=r"the state of a job \(queued, .*got 'done'"):
        list(client.jobs(["done"]))
