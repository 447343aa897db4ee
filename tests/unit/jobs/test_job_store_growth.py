"""The store of the jobs with many points, many jobs and many readers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import job_store_writer as writer
import pytest

from onnxscape.core.grid import Point
from onnxscape.jobs.executor import Ready
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.states import JobEvent, JobState


@pytest.fixture
def store(tmp_path):
    with JobStore.open(tmp_path / "jobs.sqlite") as opened:
        yield opened


def made(store, number=0, user="ann"):
    job, _ = store.create_job(
        user=user,
        order=writer.order(number),
        spec="{}",
        display_name="",
        priority=0,
        estimate=Estimate(9, 1.0, 1),
        notes=(),
        warnings=(),
        total=9,
        request_id=f"request {number}",
        now=1.0,
    )
    return job


def line(count, first=0):
    return [(Point(0, i, 0.0, 0.0), {"loss": float(i)}, 0.1) for i in range(first, count)]


def traced(store):
    """Returns a list that grows by every statement that the store executes."""
    statements = []
    for connection in (store._database._writer, *store._database._readers):
        connection.set_trace_callback(statements.append)
    return statements


def steps(store, statement):
    """Returns how SQLite is going to find the rows of a statement."""
    rows = store._database.rows(f"EXPLAIN QUERY PLAN {statement}")
    return [text for *_, text in rows]


def test_no_call_for_a_job_looks_at_all_jobs_or_all_points(store):
    job = made(store)
    statements = traced(store)
    made(store)
    made(store, 1)
    ready = Ready(plan="P", provenance={}, outline={}, seconds_per_point=1.0)
    place = Point(0, 0, 0.0, 0.0)
    for call in (
        lambda: store.move(job.id, JobEvent.FIRST_CHUNK, now=1.0),
        lambda: store.record_ready(job.id, ready),
        lambda: store.put_points(job.id, line(3)),
        lambda: store.points_after(job.id, 2, 5),
        lambda: store.results(job.id),
        lambda: store.failures(job.id),
        lambda: store.strike(job.id, place),
        lambda: store.strikes(job.id),
        lambda: store.loading_strike(job.id),
        lambda: store.fail_point(job.id, place, "dead"),
        lambda: store.set_total(job.id, 8),
        lambda: store.replan(job.id, "Q", "memory was short"),
        lambda: store.job(job.id, "ann"),
        lambda: store.job_now(job.id, "ann"),
        lambda: store.ended_before(1.0),
        lambda: store.jobs("ann", limit=2),
        lambda: store.jobs("ann", states={JobState.QUEUED}, limit=2, after=2),
        lambda: store.find_request("ann", "request 1"),
        lambda: store.find_equal("ann", job.order.digest()),
        lambda: store.active("ann"),
        lambda: store.charge("ann", job.id, 1.0, 1.0),
        lambda: store.usage_since("ann", 0.0),
        lambda: store.delete_job(job.id),
    ):
        before = len(statements)
        call()
        assert len(statements) > before
    looked = [s for s in statements if s.split()[0] in {"SELECT", "UPDATE", "DELETE"}]
    assert len(looked) > 30
    scans = {
        (step, statement)
        for statement in looked
        for step in steps(store, statement)
        if "SCAN" in step and "CONSTANT" not in step
    }
    assert scans == set()
    sorts = {s for s in looked for step in steps(store, s) if "TEMP B-TREE" in step}
    assert sorts == set()


def test_a_batch_takes_as_many_statements_whatever_is_there(store):
    job = made(store)
    counts = []
    for first in (0, 50, 3000):
        if first == 3000:
            store.put_points(job.id, line(3000, 100))
        statements = traced(store)
        store.put_points(job.id, line(first + 50, first))
        counts.append(len(statements))
    assert counts[1] == counts[2] <= counts[0]


def test_watchers_beside_writers_see_every_point_once_and_in_order(store):
    jobs = [made(store, number) for number in range(2)]
    count, batch = 600, 20
    stop = threading.Event()

    def write(job):
        for first in range(0, count, batch):
            store.put_points(job.id, line(first + batch, first))
        return store.job(job.id).revision

    def watch(job, limit):
        seen, revision = [], 0
        while len(seen) < count and not stop.is_set():
            known = store.job(job.id)
            page = store.points_after(job.id, revision, limit)
            # What is read after the job has at least what the job counts.
            assert len(page) == limit or len(seen) + len(page) >= known.done
            seen += page
            revision = page[-1].revision if page else revision
        return [(stored.point.column, stored.revision) for stored in seen]

    with ThreadPoolExecutor(8) as pool:
        watchers = [pool.submit(watch, job, limit) for job in jobs for limit in (7, 500)]
        writers = [pool.submit(write, job) for job in jobs]
        try:
            assert [writing.result(60) for writing in writers] == [1 + count] * 2
            for watcher in watchers:
                assert watcher.result(60) == [(i, i + 2) for i in range(count)]
        finally:
            stop.set()


def test_the_same_points_from_many_threads_are_stored_once(store):
    job = made(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.put_points(job.id, line(50)), range(8)))
    after = store.job(job.id)
    assert (after.done, after.revision) == (50, 51)
    assert [p.revision for p in store.points_after(job.id, 0)] == list(range(2, 52))


def test_the_same_request_from_many_threads_is_one_job(store):
    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(lambda _: made(store).id, range(8)))
    assert len(ids) == 1
    assert len(store.jobs("ann", limit=9)) == 1


def test_a_job_that_has_ended_changes_no_more(store):
    job = made(store)
    store.put_points(job.id, line(2))
    ended = store.move(job.id, JobEvent.CANCEL, now=3.0)
    ready = Ready(plan="P", provenance={}, outline={}, seconds_per_point=1.0, notes=("n",))
    assert store.put_points(job.id, line(5)) == ended
    assert store.fail_point(job.id, Point(1, 1, 0.0, 0.0), "dead") == ended
    assert store.record_ready(job.id, ready) == ended
    assert store.replan(job.id, "Q", "memory was short") == ended
    assert store.set_total(job.id, 3) == ended
    assert store.job(job.id) == ended
    assert len(store.points_after(job.id, 0)) == 2


def rows(store):
    """Returns how many rows each table has."""
    names = store._database.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {
        name: store._database.rows(f"SELECT count(*) FROM {name}")[0][0]  # noqa: S608
        for (name,) in names
    }


def test_a_deleted_job_leaves_no_row_behind(store):
    kept = made(store)
    store.put_points(kept.id, line(3))
    before = rows(store)
    assert before["points"] == 3
    job = made(store, 1)
    store.put_points(job.id, line(3))
    store.fail_point(job.id, Point(1, 0, 0.0, 0.0), "dead")
    store.strike(job.id, Point(1, 1, 0.0, 0.0))
    store.loading_strike(job.id)
    store.delete_job(job.id)
    assert rows(store) == before


def test_a_list_goes_on_after_jobs_that_are_deleted_meanwhile(store):
    jobs = [made(store, number) for number in range(6)]
    (*_, last) = first_page = store.jobs("ann", limit=3)
    for job in first_page:
        store.delete_job(job.id)
    rest = store.jobs("ann", limit=10, after=last.number)
    assert [job.id for job in rest] == [job.id for job in jobs[2::-1]]
    new = made(store, 9)
    assert new.number > max(job.number for job in jobs)  # numbers are not used again


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.move("gone", JobEvent.CANCEL, now=1.0),
        lambda store: store.put_points("gone", line(1)),
        lambda store: store.fail_point("gone", Point(0, 0, 0.0, 0.0), "dead"),
        lambda store: store.strike("gone", Point(0, 0, 0.0, 0.0)),
        lambda store: store.loading_strike("gone"),
        lambda store: store.set_total("gone", 1),
    ],
)
def test_a_job_that_is_not_there_cannot_be_changed(store, call):
    with pytest.raises(LookupError, match="there is no job 'gone'"):
        call(store)
    store.delete_job("gone")
    assert store.strikes("gone") == {}
