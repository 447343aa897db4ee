"""The worker's own loop: short memory, errors, and what it tells of them."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace

import pytest
from fake_executor import PLAN, bowl

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.plan import Plan
from onnxscape.errors import DataError, OutOfMemoryError
from onnxscape.jobs import loaded_jobs, worker
from onnxscape.jobs.executor import Chunk, Failed, Finished, PointDone, Ready, Replanned
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.worker_messages import Loaded, event_of
from onnxscape.jobs.worker_place import WorkerPlace

POINTS = tuple(Grid(Axis(-1, 1, 3), None).points())
ORDER = Order(model="ab" * 32, model_name="net", data=DataRef(name="d", blob="cd" * 32))
CHUNK = Chunk(job="j", lease=3, order=ORDER, plan=None, spec="", points=POINTS, total=3)
PLACE = WorkerPlace(device="cpu", threads=1, blobs="/blobs", data_dir=None)


class FakeEngine:
    """Evaluates by a formula; memory is short the first times that a point is asked for."""

    def __init__(self, short=0):
        self.plan, self._short = PLAN, short

    def evaluate(self, points, keep):
        del keep
        for point in points:
            if point == POINTS[1] and self._short:
                self._short -= 1
                raise OutOfMemoryError("the GPU has no room")
            yield point, bowl(point)

    def shrink(self):
        if self.plan.batch == 25:
            raise OutOfMemoryError("a sample does not fit")
        self.plan = replace(self.plan, batch=self.plan.batch // 2)


class FakeJob:
    def __init__(self, engine):
        self.engine = engine

    def ready(self, place, chunk):
        del place, chunk
        plan = self.engine.plan.to_json()
        return Ready(plan=plan, provenance={}, outline={}, seconds_per_point=1.0)


class FakeJobs:
    """Has some jobs loaded besides the one asked for."""

    def __init__(self, job, others=0):
        self._job, self._others = job, others

    @property
    def ids(self):
        return (*(f"other{n}" for n in range(self._others)), "j")

    def get(self, chunk):
        del chunk
        if isinstance(self._job, Exception):
            raise self._job
        return self._job

    def forget_others(self, job):
        assert job == "j"
        had, self._others = self._others > 0, 0
        return had


@pytest.fixture
def events(monkeypatch):
    """Returns what a worker tells of a chunk."""

    def compute(jobs, chunk=CHUNK):
        monkeypatch.setattr(worker, "LoadedJobs", lambda _place: jobs)
        output = io.BytesIO()
        worker.Worker(PLACE, io.BytesIO(), output)._compute(chunk)
        found = [event_of(line) for line in output.getvalue().splitlines()]
        assert {lease for lease, _ in found} == {chunk.lease}
        return [event for _, event in found]

    return compute


def kinds(found):
    return [type(event) for event in found]


def test_a_chunk_is_told_from_loading_to_the_end(events):
    found = events(FakeJobs(FakeJob(FakeEngine())))
    assert kinds(found) == [Loaded, Ready, PointDone, PointDone, PointDone, Finished]
    assert [e.metrics for e in found[2:5]] == [bowl(point) for point in POINTS]


def test_other_jobs_go_first_when_memory_is_short_and_the_plan_stays(events):
    found = events(FakeJobs(FakeJob(FakeEngine(short=1)), others=2))
    assert kinds(found) == [Loaded, Ready, PointDone, PointDone, PointDone, Finished]


def test_then_the_batch_is_halved_and_told_before_the_next_point(events):
    found = events(FakeJobs(FakeJob(FakeEngine(short=2)), others=1))
    assert kinds(found) == [
        Loaded, Ready, PointDone, Replanned, PointDone, PointDone, Finished,
    ]  # fmt: skip
    assert Plan.from_dict(json.loads(found[3].plan)).batch == 50
    assert "the GPU has no room: going on with batches of 50" in found[3].warning
    assert [e.point for e in found if isinstance(e, PointDone)] == list(POINTS)


def test_a_batch_that_cannot_be_halved_fails_the_job(events):
    found = events(FakeJobs(FakeJob(FakeEngine(short=9))))
    assert kinds(found) == [Loaded, Ready, PointDone, Replanned, Replanned, Failed]
    assert found[-1] == Failed("OutOfMemoryError", "a sample does not fit")


def test_a_plan_that_has_no_room_here_is_told_at_once(events):
    recorded = replace(PLAN, batch=200).to_json()
    found = events(FakeJobs(FakeJob(FakeEngine())), replace(CHUNK, plan=recorded))
    assert kinds(found)[:3] == [Loaded, Ready, Replanned]
    assert found[2].plan == PLAN.to_json()


def test_an_error_of_the_job_is_told_by_class_without_paths_of_the_server(events):
    path = PLACE.blob_path("cd" * 32)
    found = events(FakeJobs(DataError(f"{path} is damaged")))
    assert found == [Failed("DataError", "d is damaged")]


def test_an_error_of_ours_is_told_without_details_and_printed(events, capfd):
    found = events(FakeJobs(KeyError("secret")))
    assert found == [
        Failed("InternalError", "an unexpected KeyError; the server's log has it")
    ]
    assert "secret" in capfd.readouterr().err


def test_a_worker_that_has_no_memory_left_ends(events, monkeypatch):
    class Ended(BaseException):
        pass

    def end(status):
        raise Ended(status)

    monkeypatch.setattr(worker.os, "_exit", end)
    with pytest.raises(Ended) as caught:
        events(FakeJobs(MemoryError()))
    assert caught.value.args == (worker.OUT_OF_MEMORY,)


def test_a_worker_listens_while_it_computes_and_ends_with_its_input(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(worker.os, "_exit", lambda _status: ended.set())
    requests = io.BytesIO(b'{"kind":"give_back","lease":3}\n')
    listening = worker.Worker(PLACE, requests, io.BytesIO())
    listening._listen()
    assert ended.is_set()
    assert list(listening._until_returned(CHUNK, list(POINTS))) == []
    other = replace(CHUNK, lease=4)
    assert list(listening._until_returned(other, list(POINTS))) == list(POINTS)


@pytest.mark.parametrize(
    "sha", ["", "../../etc/passwd", "AB" * 32, "ab" * 31 + "/x", "ab" * 33]
)
def test_a_blob_is_named_by_its_digest_only(sha):
    with pytest.raises(ValueError, match="64 hex digits"):
        PLACE.blob_path(sha)


def test_loading_drops_other_jobs_when_memory_is_short(monkeypatch):
    jobs, tries = loaded_jobs.LoadedJobs(PLACE), []

    def load(chunk, _recorded):
        tries.append((chunk.job, jobs.ids))
        if chunk.job == "big" and jobs.ids:
            raise OutOfMemoryError("no room")
        return FakeJob(FakeEngine())

    monkeypatch.setattr(jobs, "_load", load)
    jobs.get(CHUNK)
    jobs.get(replace(CHUNK, job="big"))
    assert tries == [("j", ()), ("big", ("j",)), ("big", ())]
    assert jobs.ids == ("big",)
