"""A watch can be taken up at any revision, without loss and without repeats."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxscape.core.grid import Point
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate, Job, StoredPoint
from onnxscape.jobs.states import JobState
from onnxscape.service.answers.rich_errors import (
    BadRequestError,
    ExhaustedError,
    NotFoundError,
    UnavailableError,
)
from onnxscape.service.jobs.watching import (
    BATCH,
    LONGEST_PAUSE,
    PAUSE_SECONDS,
    SHARE_SECONDS,
    SharedLooks,
    Sight,
    Watch,
    Watchers,
)
from onnxscape.v1 import jobs_pb2

JOB = Job(
    id="a", user="alice", order=Order(model="m", model_name="m", data=DataRef(name="d")),
    display_name="", priority=0, state=JobState.RUNNING, failure=None, revision=1, spec="{}",
    plan=None, outline=None, provenance=None, notes=(), warnings=(), total=100, done=0,
    failed=0, estimate=Estimate(100, 1.0, 1), created=0.0, started=None, ended=None,
    device_seconds=0.0,
)  # fmt: skip


class History:
    """A job of which each revision is a point or a change; its notes count the changes.

    Attributes:
        job: The job now; None once it is deleted.
        points: All points.
        reads: How many points were read at once at most.
    """

    def __init__(self) -> None:
        self.job: Job | None = JOB
        self.points: list[StoredPoint] = []
        self.reads = 0
        self._changed = asyncio.Event()

    def add(self, kind: str) -> None:
        revision = self.job.revision + 1
        if kind == "change":
            notes = (*self.job.notes, str(revision))
            self.job = dataclasses.replace(self.job, revision=revision, notes=notes)
        else:
            point = Point(0, len(self.points), 0.0, 0.0)
            metrics = {"loss": float(revision)}
            if kind == "failed":
                metrics = None
            elif kind == "other":
                metrics |= {"samples_used": 7.0}
            failure = None if metrics else "hopeless"
            self.points.append(StoredPoint(point, metrics, failure, revision))
            self.job = dataclasses.replace(self.job, revision=revision, done=len(self.points))
        self.tell()

    def finish(self) -> None:
        self.add("change")
        self.job = dataclasses.replace(self.job, state=JobState.SUCCEEDED)

    def tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def look(self, revision):
        job = self.job
        await asyncio.sleep(0)  # the points are of a later moment than the job
        if job is None:
            return None
        points = [p for p in self.points if p.revision > revision][:BATCH]
        self.reads = max(self.reads, len(points))
        return job, points

    async def changed(self, revision, seconds):
        if self.job is None or self.job.revision > revision:
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True


def watch(history, after=0, *, watchers=None, heartbeat=60.0):
    async def look(revision):
        found = await history.look(revision)
        return found and Sight.of(*found)

    return Watch(
        "a", after, look=look, changed=history.changed,
        message=lambda job: jobs_pb2.Job(name=job.id, revision=job.revision, notes=job.notes),
        watchers=watchers or Watchers(), heartbeat=heartbeat,
    ).responses()  # fmt: skip


class Seen:
    """What a client knows that was broken off and came back."""

    def __init__(self) -> None:
        self.revision = 0
        self.points: list[tuple[int, tuple[float, ...], str]] = []
        self.notes: tuple[str, ...] = ()
        self.job_revision = 0

    def take(self, response: jobs_pb2.WatchJobResponse, *, first: bool) -> None:
        kind = response.WhichOneof("event")
        assert (kind == "job") or not first, "a stream begins with the job"
        if kind == "job":
            self.notes = tuple(response.job.notes)
            self.job_revision = response.job.revision
            assert response.revision or first
        else:
            assert response.revision
            assert 0 < len(response.points.points) <= BATCH
            for point in response.points.points:
                assert len(point.values) in {0, len(response.points.metrics)}
                self.points.append((point.column, tuple(point.values), point.failure))
        if response.revision:
            assert response.revision > self.revision
            self.revision = response.revision


KINDS = ["point", "point", "point", "other", "failed", "change"]


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(KINDS), max_size=30),
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), max_size=8),
)
def test_every_point_comes_once_and_the_last_state_is_known_however_streams_break(
    kinds, breaks
):
    async def scenario():
        history, seen, pending = History(), Seen(), list(kinds)
        for happens, taken in breaks:
            for kind in pending[:happens]:
                history.add(kind)
            del pending[:happens]
            responses = watch(history, seen.revision, heartbeat=0.0)
            for at in range(taken):
                response = await anext(responses)
                if response.WhichOneof("event") == "heartbeat":
                    assert seen.revision == history.job.revision, "silence before all is told"
                    break
                seen.take(response, first=at == 0)
            await responses.aclose()
        for kind in pending:
            history.add(kind)
        history.finish()
        first = True
        async for response in watch(history, seen.revision):
            seen.take(response, first=first)
            first = False
        expected = [
            (p.point.column, tuple((p.metrics or {}).values()), p.failure or "")
            for p in history.points
        ]
        assert seen.points == expected
        assert seen.notes == history.job.notes
        assert seen.revision == seen.job_revision == history.job.revision

    asyncio.run(scenario())


@settings(max_examples=50)
@given(st.lists(st.sampled_from(KINDS), max_size=25), st.data())
def test_what_is_told_up_to_a_revision_is_all_that_happened_up_to_it(kinds, data):
    async def scenario():
        history = History()
        for kind in kinds:
            history.add(kind)
        history.finish()
        told = []
        async for response in watch(history):
            if response.WhichOneof("event") == "points":
                told += [point.column for point in response.points.points]
            upto = response.revision
            due = [p.point.column for p in history.points if p.revision <= upto]
            assert told == due or not upto
        after = data.draw(st.integers(0, history.job.revision))
        rest = [
            point.column
            async for response in watch(history, after)
            for point in response.points.points
        ]
        assert rest == [p.point.column for p in history.points if p.revision > after]

    asyncio.run(scenario())


def test_a_long_history_is_read_and_told_in_small_parts():
    async def scenario():
        history = History()
        for _ in range(3 * BATCH):
            history.add("point")
        history.finish()
        sizes = [len(r.points.points) async for r in watch(history)]
        assert sum(sizes) == 3 * BATCH
        assert max(sizes) == BATCH == history.reads

    asyncio.run(scenario())


def test_points_that_come_while_it_is_looked_are_told_in_their_turn():
    async def scenario():
        history = History()
        history.add("point")
        look = history.look

        async def racing(revision):
            job = history.job
            if job.revision < 5:
                history.add("change")
                history.add("point")
            found = await look(revision)
            return found and (job, found[1])

        history.look = racing
        seen, responses = Seen(), watch(history)
        for at in range(20):
            if seen.revision == history.job.revision:
                break
            seen.take(await anext(responses), first=at == 0)
        await responses.aclose()
        assert [column for column, _, _ in seen.points] == [0, 1, 2]
        assert seen.notes == history.job.notes

    asyncio.run(scenario())


def test_those_who_look_at_the_same_time_share_a_look():
    async def scenario():
        looks, go_on = [], asyncio.Event()

        async def look(job_id, revision):
            looks.append((job_id, revision))
            await go_on.wait()
            return f"{job_id} after {revision}"

        shared = SharedLooks(look)
        asked = [
            asyncio.ensure_future(shared.at(*key))
            for key in (("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 1))
        ]
        await asyncio.sleep(0)
        asked[0].cancel()  # who began it leaves
        await asyncio.sleep(0)
        go_on.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == ["a after 1", "a after 2", "b after 1", "a after 1"]
        assert looks == [("a", 1), ("a", 2), ("b", 1)]
        await shared.at("a", 1)  # later is another look
        assert looks[3:] == [("a", 1)]

    asyncio.run(scenario())


def test_the_more_watch_the_longer_they_pause():
    watchers = Watchers()
    with contextlib.ExitStack() as stack:
        assert watchers.pause == PAUSE_SECONDS
        for number in range(100):
            stack.enter_context(watchers.place(f"user{number % 5}", 100))
        assert watchers.pause == 100 * SHARE_SECONDS > PAUSE_SECONDS
        for _ in range(900):
            stack.enter_context(watchers.place("ann", 1000))
        assert watchers.pause == LONGEST_PAUSE
    assert watchers.pause == PAUSE_SECONDS


def test_a_server_that_goes_down_does_not_wait_for_watchers_that_pause():
    async def scenario():
        watchers = Watchers()
        with contextlib.ExitStack() as stack:
            for _ in range(1000):
                stack.enter_context(watchers.place("ann", 1000))
            resting = asyncio.ensure_future(watchers.rest())
            await asyncio.sleep(0.01)
            assert not resting.done()
            watchers.leaving.set()
            await asyncio.wait_for(resting, LONGEST_PAUSE / 2)

    asyncio.run(scenario())


def test_silence_is_filled_with_heartbeats_that_have_no_revision():
    async def scenario():
        history = History()
        responses = watch(history, heartbeat=0.01)
        await anext(responses)
        for _ in range(3):
            response = await anext(responses)
            assert (response.WhichOneof("event"), response.revision) == ("heartbeat", 0)
        history.add("point")
        assert (await anext(responses)).points.points[0].values == [2.0]

    asyncio.run(scenario())


def test_a_finished_job_that_was_seen_is_told_once_more_and_no_more():
    async def scenario():
        history = History()
        history.finish()
        (response,) = [r async for r in watch(history, history.job.revision)]
        assert (response.revision, response.job.revision) == (0, 2)

    asyncio.run(scenario())


def test_a_revision_that_the_job_has_not_reached_is_refused():
    async def scenario():
        with pytest.raises(BadRequestError, match="after_revision: expected at most 1"):
            await anext(watch(History(), 2))

    asyncio.run(scenario())


def test_a_job_that_is_deleted_meanwhile_is_not_found():
    async def scenario():
        history = History()
        responses = watch(history)
        await anext(responses)
        waiting = asyncio.ensure_future(anext(responses))
        await asyncio.sleep(0.01)
        history.job = None
        history.tell()
        with pytest.raises(NotFoundError):
            await waiting

    asyncio.run(scenario())


def test_watchers_are_told_to_go_while_they_wait():
    async def scenario():
        watchers = Watchers()
        responses = watch(History(), watchers=watchers)
        await anext(responses)
        waiting = asyncio.ensure_future(anext(responses))
        await asyncio.sleep(0.01)
        watchers.leaving.set()
        with pytest.raises(UnavailableError) as caught:
            await waiting
        assert caught.value.reason == "DRAINING"
        assert len(asyncio.all_tasks()) == 1, "nothing waits any more"

    asyncio.run(scenario())


def test_places_of_watchers_are_counted_by_user_and_given_back():
    watchers = Watchers()
    with watchers.place("alice", 2), watchers.place("alice", 2), watchers.place("bob", 1):
        assert (watchers.of("alice"), watchers.of("bob"), watchers.total) == (2, 1, 3)
        with pytest.raises(ExhaustedError, match="you watch 2 jobs at once, of at most 2"):
            watchers.place("alice", 2).__enter__()
    assert (watchers.of("alice"), watchers.total) == (0, 0)
    with watchers.place("alice", 1):
        pass
