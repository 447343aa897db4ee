"""The store of the jobs: what is acknowledged stays, and every point is there once."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from onnxscape.core.grid import Point
from onnxscape.errors import DiskFullError, OutputError, RequestIdConflictError, StorageError
from onnxscape.jobs.executor import Ready
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate, JobFailure
from onnxscape.jobs.states import FINISHED, JobEvent, JobState, TransitionError

ORDER = Order(
    model="a" * 64,
    model_name="net",
    data=DataRef(name="mine", blob="b" * 64, arrays=("x", "y")),
    options={"x": [-1.0, 1.0, 3], "y": None, "seed": 7},
    graphs={"my.onnx": "c" * 64},
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def store(path):
    with JobStore.open(path) as opened:
        yield opened


def make(store, user="ann", order=ORDER, **changes):
    values = {
        "spec": '{"seed":7}',
        "display_name": "first",
        "priority": 5,
        "estimate": Estimate(points=3, device_seconds=1.5, memory=1 << 20),
        "notes": ("a note",),
        "warnings": (),
        "total": 3,
        "request_id": None,
        "now": 100.0,
    }
    return store.create_job(user=user, order=order, **(values | changes))


def other(seed):
    return replace(ORDER, options={**ORDER.options, "seed": seed})


def point(row, column):
    return Point(row, column, 0.25 * column, -0.5 * row)


def test_a_job_is_after_reopening_what_it_was(store, path):
    job, new = make(store)
    assert new
    store.close()
    with JobStore.open(path) as again:
        assert again.job(job.id) == job
    assert job.order == ORDER
    assert job.state is JobState.QUEUED
    assert (job.revision, job.done, job.failed, job.total) == (1, 0, 0, 3)
    assert (job.notes, job.priority, job.estimate.memory) == (("a note",), 5, 1 << 20)


def test_ids_are_long_and_no_two_are_alike(store):
    ids = {make(store, order=other(seed))[0].id for seed in range(20)}
    assert len(ids) == 20
    assert min(map(len, ids)) >= 22


def test_a_request_made_twice_is_one_job(store):
    first, _ = make(store, request_id="r1")
    store.move(first.id, JobEvent.CANCEL, now=101.0)  # an equal order would be a new job
    again, new = make(store, request_id="r1", display_name="another")
    assert (again.id, new, again.display_name) == (first.id, False, "first")
    assert store.find_request("ann", "r1") == (first.id, ORDER.digest())


def test_a_request_for_another_order_is_refused(store):
    make(store, request_id="r1")
    with pytest.raises(RequestIdConflictError, match="r1"):
        make(store, order=other(8), request_id="r1")
    assert len(store.jobs("ann", limit=10, after=None)) == 1


def test_a_request_that_shares_a_job_is_known_by_its_name_too(store):
    first, _ = make(store, request_id="r1")
    shared, new = make(store, request_id="r2")
    assert (shared.id, new) == (first.id, False)
    assert store.find_request("ann", "r2") == (first.id, ORDER.digest())
    with pytest.raises(RequestIdConflictError, match="r2"):
        make(store, order=other(8), request_id="r2")


def test_request_ids_are_each_users_own(store):
    ours, _ = make(store, request_id="r1")
    theirs, new = make(store, user="bob", order=other(8), request_id="r1")
    assert new
    assert theirs.id != ours.id
    assert store.find_request("eve", "r1") is None


@pytest.mark.parametrize(
    ("events", "shared"),
    [
        ((), True),
        ((JobEvent.FIRST_CHUNK,), True),
        ((JobEvent.FIRST_CHUNK, JobEvent.LAST_POINT, JobEvent.SURFACE_WRITTEN), True),
        ((JobEvent.ERROR,), False),
        ((JobEvent.CANCEL,), False),
        ((JobEvent.FIRST_CHUNK, JobEvent.CANCEL), False),
    ],
)
def test_an_equal_order_is_the_same_job_unless_that_came_to_nothing(store, events, shared):
    first, _ = make(store)
    for event in events:
        store.move(first.id, event, now=101.0)
    second, new = make(store)
    assert (second.id == first.id, new) == (shared, not shared)
    found = store.find_equal("ann", ORDER.digest())
    assert found is not None
    assert found.id == second.id
    assert make(store, user="bob")[1]


def test_a_job_is_nobody_elses(store):
    job, _ = make(store)
    assert store.job(job.id, "ann") == job
    assert store.job(job.id, "bob") is None
    assert store.jobs("bob", limit=10, after=None) == []
    assert store.job("nothing") is None


def test_jobs_are_listed_from_the_newest_page_by_page(store):
    ids = [make(store, order=other(seed))[0].id for seed in range(5)]
    make(store, user="bob")
    store.move(ids[1], JobEvent.CANCEL, now=101.0)
    pages, after = [], None
    while page := store.jobs("ann", limit=2, after=after):
        pages.append([job.id for job in page])
        after = page[-1].number
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    cancelled = store.jobs("ann", states={JobState.CANCELLED}, limit=9, after=None)
    assert [job.id for job in cancelled] == [ids[1]]
    assert store.active("ann")[0] == 4
    assert [job.user for job in store.unfinished()] == ["ann"] * 4 + ["bob"]
    assert store.counts_by_state()[JobState.QUEUED] == 5


def test_what_happens_to_a_job_is_timed_and_numbered(store):
    job, _ = make(store)
    job = store.move(job.id, JobEvent.FIRST_CHUNK, now=110.0)
    assert (job.state, job.started, job.ended, job.revision) == ("running", 110.0, None, 2)
    failure = JobFailure("SelfTestError", "differs")
    job = store.move(job.id, JobEvent.ERROR, failure=failure, now=120.0)
    assert (job.state, job.failure, job.ended, job.revision) == ("failed", failure, 120.0, 3)
    with pytest.raises(TransitionError, match="failed"):
        store.move(job.id, JobEvent.CANCEL, now=130.0)
    assert store.job(job.id) == job


def test_the_first_plan_stays_and_warnings_are_told_once(store):
    job, _ = make(store)
    ready = Ready(
        plan="P",
        provenance={"device": "cpu"},
        outline={"model": "net"},
        seconds_per_point=1.0,
        notes=("a note", "another"),
        warnings=("careful",),
    )
    job = store.record_ready(job.id, ready)
    assert (job.plan, job.notes, job.warnings) == ("P", ("a note", "another"), ("careful",))
    assert store.record_ready(job.id, replace(ready, plan="Q")) == job
    job = store.replan(job.id, "Q", "memory was short")
    assert (job.plan, job.warnings) == ("Q", ("careful", "memory was short"))


def test_points_are_kept_to_the_bit_and_in_the_order_they_came(store, path):
    job, _ = make(store)
    values = [0.1, math.nan, math.inf, -0.0, 5e-324]
    for i, value in enumerate(values):
        store.put_points(job.id, [(point(0, i), {"loss": value, "accuracy": 0.5}, 0.1)])
    job = store.put_points(job.id, [(Point(-1, -1, 0.0, 0.0, 32), {"loss": 1.0}, 0.1)])
    assert (job.done, job.revision) == (6, 7)
    store.close()
    with JobStore.open(path) as again:
        stored = again.points_after(job.id, 0)
        assert [p.revision for p in stored] == [2, 3, 4, 5, 6, 7]
        assert repr([p.metrics["loss"] for p in stored[:5]]) == repr(values)
        assert stored[5].point == Point(-1, -1, 0.0, 0.0, 32)
        assert list(again.results(job.id)) == [*((0, i) for i in range(5)), (-1, -1)]


def test_a_point_that_is_there_stays_as_it_is(store):
    job, _ = make(store)
    store.put_points(job.id, [(point(0, 0), {"loss": 1.0}, 0.1)])
    again = store.put_points(
        job.id, [(point(0, 0), {"loss": 2.0}, 0.1), (point(0, 1), {"loss": 3.0}, 0.1)]
    )
    assert (again.done, again.revision) == (2, 3)
    assert store.results(job.id) == {(0, 0): {"loss": 1.0}, (0, 1): {"loss": 3.0}}
    same = store.put_points(job.id, [(point(0, 1), {"loss": 9.0}, 0.1)])
    assert same.revision == 3


def test_points_after_a_revision_come_in_pages_without_loss_or_repeat(store):
    job, _ = make(store)
    store.put_points(job.id, [(point(0, i), {"loss": float(i)}, 0.1) for i in range(7)])
    store.fail_point(job.id, point(1, 0), "it killed three workers")
    found, revision = [], 0
    while page := store.points_after(job.id, revision, limit=3):
        found += page
        revision = page[-1].revision
    assert [p.point.column for p in found] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert found[-1].failure == "it killed three workers"
    assert found[-1].metrics is None


def test_a_failed_point_is_no_result(store):
    job, _ = make(store)
    store.put_points(job.id, [(point(0, 0), {"loss": 1.0}, 0.1)])
    assert store.fail_point(job.id, point(0, 0), "late").failed == 0
    job = store.fail_point(job.id, point(0, 1), "dead")
    assert (job.done, job.failed) == (1, 1)
    assert store.failures(job.id) == {(0, 1): "dead"}
    assert list(store.results(job.id)) == [(0, 0)]


def test_strikes_are_counted_for_good(store, path):
    job, _ = make(store)
    assert [store.strike(job.id, point(0, 1)) for _ in range(2)] == [1, 2]
    assert [store.loading_strike(job.id) for _ in range(2)] == [1, 2]
    store.close()
    with JobStore.open(path) as again:
        assert again.strikes(job.id) == {(0, 1): 2}
        assert again.loading_strike(job.id) == 3


def test_a_deleted_job_leaves_nothing_behind(store, path):
    job, _ = make(store, request_id="r1")
    kept, _ = make(store, order=other(8))
    for one in (job, kept):
        store.put_points(one.id, [(point(0, 0), {"loss": 1.0}, 0.1)])
        store.strike(one.id, point(0, 1))
    store.delete_job(job.id)
    assert store.job(job.id) is None
    assert store.find_request("ann", "r1") is None
    assert store.points_after(job.id, 0) == []
    new, made = make(store, request_id="r1")
    assert made
    assert store.points_after(new.id, 0) == []
    assert store.strikes(new.id) == {}
    assert store.results(kept.id) == {(0, 0): {"loss": 1.0}}


def test_usage_decays_by_its_half_life(store):
    job, _ = make(store)
    store.charge("ann", job.id, 8.0, now=0.0)
    store.charge("ann", job.id, 4.0, now=600.0)
    store.charge("bob", "gone", 1.0, now=600.0)
    assert store.usage_since("ann", 0.0) == 12.0
    assert store.usage_since("ann", 60.0) == 4.0
    assert store.job(job.id).device_seconds == 12.0
    decayed = store.decayed_usage(600.0, now=600.0)
    assert decayed == pytest.approx({"ann": 8.0 / 2 + 4.0, "bob": 1.0})


def test_weights_and_epochs_are_kept(store, path):
    store.set_weight("ann", 2.0)
    store.set_weight("ann", 3.0)
    assert store.begin_epoch() == 1
    store.close()
    with JobStore.open(path) as again:
        assert again.weights() == {"ann": 3.0}
        assert again.begin_epoch() == 2


def test_blobs_of_all_jobs_are_referenced(store):
    job, _ = make(store)
    assert store.referenced_blobs() == {"a" * 64, "b" * 64, "c" * 64}
    store.delete_job(job.id)
    assert store.referenced_blobs() == set()


def test_blobs_of_a_users_jobs_are_referenced_until_the_last_of_them_is_deleted(store):
    first, _ = make(store, user="ann", order=other(1))
    second, _ = make(store, user="ann", order=other(2))
    make(store, user="bob", order=replace(ORDER, model="e" * 64))
    assert store.referenced_blobs("ann") == {"a" * 64, "b" * 64, "c" * 64}
    assert store.referenced_blobs("bob") == {"e" * 64, "b" * 64, "c" * 64}
    assert store.referenced_blobs("eve") == set()
    store.delete_job(first.id)
    assert store.referenced_blobs("ann") == {"a" * 64, "b" * 64, "c" * 64}
    store.delete_job(second.id)
    assert store.referenced_blobs("ann") == set()
    assert store.referenced_blobs() == {"e" * 64, "b" * 64, "c" * 64}


def test_reads_do_not_wait_for_a_write(store):
    job, _ = make(store)
    inside, go_on = threading.Event(), threading.Event()

    def slow_points():
        yield point(0, 0), {"loss": 1.0}, 0.1
        inside.set()
        assert go_on.wait(20)

    writer = threading.Thread(target=store.put_points, args=(job.id, slow_points()))
    writer.start()
    assert inside.wait(20)
    assert store.job(job.id).done == 0  # within the transaction of the other thread
    go_on.set()
    writer.join()
    assert store.job(job.id).done == 1


def test_points_are_all_stored_or_none(store):
    job, _ = make(store)

    def broken_points():
        yield point(0, 0), {"loss": 1.0}, 0.1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.put_points(job.id, broken_points())
    assert store.job(job.id) == job
    assert store.results(job.id) == {}


def test_finished_jobs_are_no_longer_active(store):
    for seed, event in enumerate((JobEvent.CANCEL, JobEvent.ERROR)):
        job, _ = make(store, order=other(seed))
        assert store.move(job.id, event, now=1.0).state in FINISHED
    assert store.active("ann") == (0, 0.0)
    assert store.unfinished() == []


def test_a_database_of_others_is_refused(path):
    path.write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(OutputError, match=r"jobs\.sqlite"):
        JobStore.open(path)


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_job_store import ORDER, make, point
from onnxscape.jobs.job_store import JobStore
store = JobStore.open(Path({path!r}))
job, _ = make(store, request_id="r1")
print(job.id, flush=True)
for i in range(5):
    store.put_points(job.id, [(point(i, k), {{"loss": float(i)}}, 0.1) for k in range(3)])
    print(i, flush=True)
"""


@pytest.mark.parametrize(
    ("failpoint", "acknowledged", "stored"),
    [
        ("job.after_commit=kill", 0, 0),
        ("point.before_commit=kill:3", 2, 6),
        ("point.after_commit=kill:3", 2, 9),
    ],
)
def test_a_kill_loses_nothing_that_was_acknowledged(path, failpoint, acknowledged, stored):
    code = _CHILD.format(tests=str(Path(__file__).parent), path=str(path))
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={"ONNXSCAPE_FAILPOINTS": failpoint, "PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert len(child.stdout.split()[1:]) == acknowledged
    with JobStore.open(path) as store:
        job, new = make(store, request_id="r1")
        assert not new  # the order was durable before it was answered
        assert job.done == len(store.results(job.id)) == stored
        assert [p.revision for p in store.points_after(job.id, 0)] == list(
            range(2, 2 + stored)
        )


_FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_job_store import make, point
from onnxscape.errors import StorageError
from onnxscape.jobs.job_store import JobStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = JobStore.open(Path({path!r}))
job, _ = make(store, request_id="r1")
used = sum(f.stat().st_size for f in Path({path!r}).parent.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (used + 60_000, resource.RLIM_INFINITY))
stored = 0
try:
    for i in range(10_000):
        store.put_points(job.id, [(point(i, k), {{"loss": 1.0}}, 0.1) for k in range(50)])
        stored += 50
except StorageError as error:
    print(type(error).__name__, stored, store.job(job.id).done, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.put_points(job.id, [(point(-1, -1), {{"loss": 1.0}}, 0.1)])
print(store.job(job.id).done)
"""


def test_a_full_disk_is_told_and_nothing_is_corrupt(path):
    code = _FULL.format(tests=str(Path(__file__).parent), path=str(path))
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    kind, stored, done, after = child.stdout.split()
    assert kind in {"StorageError", "DiskFullError"}
    assert 0 < int(stored) == int(done) < int(after)
    assert int(after) == int(done) + 1
    with JobStore.open(path) as store:
        assert make(store, request_id="r1")[0].done == int(after)


def test_a_failpoint_can_pretend_that_the_disk_is_full(store, monkeypatch):
    from onnxscape.jobs import failpoints

    monkeypatch.setattr(failpoints, "_ARMED", {"point.before_commit": ("error", 1)})
    monkeypatch.setattr(failpoints, "_reached", {})
    job, _ = make(store)
    with pytest.raises(DiskFullError, match="No space left"):
        store.put_points(job.id, [(point(0, 0), {"loss": 1.0}, 0.1)])
    assert issubclass(DiskFullError, StorageError)
    assert store.results(job.id) == {}
    assert store.put_points(job.id, [(point(0, 0), {"loss": 1.0}, 0.1)]).done == 1
