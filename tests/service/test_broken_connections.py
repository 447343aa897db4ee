"""Connections that break: nothing is lost, nothing comes twice, nothing is sent twice."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from fake_server import AWAY, status

import onnxscape as ox
from onnxscape import errors
from onnxscape.service.client.retries import Patience
from onnxscape.service.client.watching import PointsDone

MODEL = Path(__file__).parents[2] / "models" / "digits_cnn.onnx"
IMPATIENT = Patience(call=0.3, stream=0.3, silence=0.2, first=0.01, longest=0.05)


@pytest.fixture
def arrays():
    """Data of 5 MiB, which take several messages."""
    x = np.random.default_rng(0).integers(0, 17, (20480, 64)).astype(np.float32)
    return x.reshape(-1, 1, 8, 8), np.arange(20480) % 10


def points_of(events):
    return [r.point for e in events if isinstance(e, PointsDone) for r in e.points]


def test_an_upload_goes_on_where_it_broke(server, client, arrays):
    server.blobs.breaks = [1_500_000, 10, 2 << 20]
    client.submit(MODEL, arrays, grid="4x3")
    sent = {}
    for sha, offset, taken in server.blobs.streams:
        assert offset == sent.get(sha, 0)  # continues
        sent[sha] = offset + taken
    assert sent == {sha: len(content) for sha, content in server.blobs.whole.items()}
    assert all(hashlib.sha256(c).hexdigest() == s for s, c in server.blobs.whole.items())


def test_an_upload_that_nothing_comes_of_is_given_up(server, arrays):
    server.blobs.breaks = [0] * 1000
    with (
        ox.Client(server.address, patience=IMPATIENT) as client,
        pytest.raises(errors.ServerUnreachableError, match="going down"),
    ):
        client.submit(MODEL, arrays, grid="4x3")


def test_what_an_earlier_client_sent_is_not_sent_again(server, arrays):
    server.blobs.breaks = [3 << 20] * 1
    impatient = Patience(call=0.0, stream=0.0)
    with ox.Client(server.address, patience=impatient) as client:
        # The model is small; the data break off.
        client.submit(MODEL, "digits", grid="4x3")
        server.blobs.breaks = [3 << 20]
        with pytest.raises(errors.ServerUnreachableError):
            client.submit(MODEL, arrays, grid="4x3")
    with ox.Client(server.address) as client:
        client.submit(MODEL, arrays, grid="4x3")
    (_, first, taken), (_, second, _) = server.blobs.streams[1:]
    assert (first, second) == (0, taken)


def test_progress_of_an_upload_never_exceeds_its_size_and_ends_there(server, client, arrays):
    told = []
    server.blobs.breaks = [1_500_000]
    client.submit(MODEL, arrays, grid="4x3", uploaded=lambda *pair: told.append(pair))
    (total,) = {total for _, total in told}
    assert total == sum(map(len, server.blobs.whole.values()))
    assert max(done for done, _ in told) == told[-1][0] == total


def test_a_refused_upload_is_not_tried_again(server, client, arrays):
    server.fail(
        "WriteBlob", status(grpc.StatusCode.RESOURCE_EXHAUSTED, "your quota is used up")
    )
    with pytest.raises(errors.ServerLimitError, match="your quota is used up"):
        client.submit(MODEL, arrays, grid="4x3")
    assert server.calls.count("WriteBlob") == 1


def test_a_watch_attaches_again_without_loss_or_repeats(server, client):
    server.job_service.breaks = [0, 1, 3, 4, 0, 2]
    job = client.submit(MODEL, "digits", grid="4x3")
    told = []
    events = list(job.watch(told=told.append))
    revisions = [e.revision for e in events]
    assert revisions == sorted(set(revisions))
    points = points_of(events)
    assert len({(p.row, p.column) for p in points}) == len(points) == 13
    assert server.job_service.watched == [0, 0, 1, 4, 8, 8, 10]
    assert told[0] == f"{server.address} is away (going down); trying again"
    assert f"{server.address} is back" in told


def test_a_stream_that_ends_before_its_job_is_followed_by_another(server, client):
    server.job_service.ends = [2, 5]
    job = client.submit(MODEL, "digits", grid="4x3")
    assert len(points_of(job.watch())) == 13
    assert len(server.job_service.watched) == 3


def test_a_watch_survives_a_restart_of_the_server(server, client):
    server.at_once = False
    job = client.submit(MODEL, "digits", grid="4x3")
    server.job.advance(5)
    seen = []

    def restart():
        server.stop()
        server.start()
        server.job.advance()

    for event in job.watch():
        seen.append(event)
        if len(points_of(seen)) == 5:
            threading.Thread(target=restart).start()
            seen.append(PointsDone((), event.revision))
            break
    seen += job.watch(seen[-1].revision)
    assert len({(p.row, p.column) for p in points_of(seen)}) == len(points_of(seen)) == 13


def test_a_silent_connection_counts_as_lost(server):
    server.at_once, server.heartbeat = False, 5.0
    with ox.Client(server.address, patience=IMPATIENT) as client:
        job = client.submit(MODEL, "digits", grid="4x3")
        timer = threading.Timer(0.5, server.job.advance)
        timer.start()
        assert len(points_of(job.watch())) == 13
        timer.join()
    assert len(server.job_service.watched) > 1


def test_a_heartbeat_is_no_event_but_keeps_a_watch(server, client):
    server.at_once, server.heartbeat = False, 0.05
    job = client.submit(MODEL, "digits", grid="4x3")
    timer = threading.Timer(0.5, server.job.advance)
    timer.start()
    assert len(points_of(job.watch())) == 13
    timer.join()
    assert len(server.job_service.watched) == 1


def test_a_server_that_stays_away_ends_a_watch(server):
    server.at_once = False
    with ox.Client(server.address, patience=IMPATIENT) as client:
        job = client.submit(MODEL, "digits", grid="4x3")
        server.stop()
        with pytest.raises(errors.ServerUnreachableError):
            job.wait()


def test_what_the_second_try_does_not_mend_is_told_and_so_is_its_end(server):
    busy = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="FULL", retry=0.01)
    late = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="FULL", retry=60.0)
    told = []
    with ox.Client(
        server.address, patience=Patience(call=20, first=0.01, longest=0.05), told=told.append
    ) as client:
        for failures, lines in (
            ((AWAY,), []),
            ((AWAY, AWAY, AWAY), ["is away (going down); trying again", "answers again"]),
            ((busy, busy), ["is busy (full); trying again", "answers again"]),
        ):
            server.fail("GetServerInfo", *failures)
            client.server_info()
            assert told == [f"{server.address} {line}" for line in lines]
            told.clear()
        # What is not tried again is not said to be.
        server.fail("GetServerInfo", AWAY, late)
        with pytest.raises(errors.ServerLimitError, match="full"):
            client.server_info()
        assert told == []


def test_an_order_whose_answer_is_lost_makes_one_job(server, client):
    server.fail("after CreateJob", AWAY, AWAY)
    job = client.submit(MODEL, "digits", grid="4x3")
    assert server.calls.count("CreateJob") == 3
    assert len(set(server.request_ids)) == 1
    assert list(server.jobs) == [f"jobs/{job.id}"]
    assert not job.info.shared


def test_two_orders_have_two_request_ids(server, client):
    for seed in (0, 1):
        client.submit(MODEL, "digits", grid="4x3", seed=seed)
    assert len(set(server.request_ids)) == 2


def test_a_delete_whose_answer_is_lost_is_done(server, client):
    job = client.submit(MODEL, "digits", grid="4x3")
    server.fail("after DeleteJob", AWAY)
    job.delete()
    assert server.jobs == {}
    with pytest.raises(errors.UsageError):
        job.delete()


def test_blobs_that_were_removed_meanwhile_are_uploaded_again(server, client):
    gone = status(grpc.StatusCode.FAILED_PRECONDITION, "gone", reason="BLOBS_MISSING")
    server.fail("CreateJob", gone)
    client.submit(MODEL, "digits", grid="4x3")
    assert server.calls.count("FindMissingBlobs") == 2
    server.fail("CreateJob", gone, gone)
    with pytest.raises(errors.UsageError, match="gone"):
        client.submit(MODEL, "digits", grid="4x3", seed=1)


def test_a_server_that_is_full_is_asked_again_when_it_says(server, client):
    full = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="BUSY", retry=0.2)
    server.fail("CreateJob", full)
    client.submit(MODEL, "digits", grid="4x3")
    assert server.calls.count("CreateJob") == 2


def test_a_quota_that_is_free_tomorrow_is_not_waited_for(server, client):
    used = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "used up", reason="QUOTA", retry=80000)
    server.fail("CreateJob", used)
    with pytest.raises(errors.ServerLimitError, match="used up"):
        client.submit(MODEL, "digits", grid="4x3")
    assert server.calls.count("CreateJob") == 1


def test_a_surface_whose_stream_breaks_is_read_again(server, client):
    job = client.submit(MODEL, "digits", grid="4x3")
    server.fail("ReadSurface", AWAY)
    assert job.landscape().complete
