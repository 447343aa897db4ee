"""What every executor must do: a suite that each implementation's tests inherit."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest

from onnxscape.jobs.executor import Beat, Failed, Finished, Lost, PointDone, Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from onnxscape.core.grid import Point
    from onnxscape.jobs.executor import Chunk, ChunkEvent, Executor, Slot

ENDS = (Finished, Failed, Lost)


class Subject(Protocol):
    """An executor under test, and the truth about its job.

    Attributes:
        chunk: All points of a job, without a plan; at least nine points.
        other: Of another job.
        hopeless: Of a job that cannot be computed, whatever the worker.
    """

    chunk: Chunk
    other: Chunk
    hopeless: Chunk

    def executor(self, slots: int) -> AbstractAsyncContextManager[Executor]:
        """Return an executor that is started on entry and closed on exit."""

    def metrics(self, point: Point) -> Mapping[str, float]:
        """Return the true metrics of a point of `chunk`."""

    async def kill(self, executor: Executor, slot: Slot) -> None:
        """Kill the worker of a slot that computes."""

    def slowly(self, chunk: Chunk) -> Chunk:
        """Return a chunk that takes long enough to be killed in a point."""


async def events_of(
    executor: Executor,
    slot: Slot,
    chunk: Chunk,
    at: Callable[[ChunkEvent], Coroutine[None, None, None] | None] | None = None,
) -> list[ChunkEvent]:
    """Return all events of a chunk but the beats.

    Args:
        executor: Runs it.
        slot: Where.
        chunk: What.
        at: Told of each event as it comes; may return what is to be awaited.
    """
    events: list[ChunkEvent] = []
    async with contextlib.aclosing(executor.run(slot, chunk)) as running:
        async for event in running:
            if isinstance(event, Beat):
                assert event.memory > 0
                continue
            events.append(event)
            told = None if at is None else at(event)
            if told is not None:
                await told
    check_protocol(chunk, events)
    return events


def check_protocol(chunk: Chunk, events: Sequence[ChunkEvent]) -> None:
    """Assert what holds for the events of every chunk.

    Args:
        chunk: What was run.
        events: Its events without beats.
    """
    assert isinstance(events[-1], ENDS)
    assert not any(isinstance(event, ENDS) for event in events[:-1])
    assert sum(isinstance(event, Ready) for event in events) <= 1
    points = points_of(events)
    if points:
        assert isinstance(events[0], Ready)
    assert len(set(points)) == len(points), "a point came twice"
    assert set(points) <= set(chunk.points), "a point came that was not asked for"


def points_of(events: Sequence[ChunkEvent]) -> list[Point]:
    """Return the points that are done.

    Args:
        events: Of a chunk.
    """
    return [event.point for event in events if isinstance(event, PointDone)]


class ExecutorConformance:
    """The suite. A subclass has a fixture `subject`."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Returns what is tested."""
        raise NotImplementedError

    @pytest.fixture
    def in_loop(self, subject):
        """Returns what runs a coroutine function with an executor and its slots."""

        def run(body, slots=1):
            async def all_of_it():
                async with asyncio.timeout(120), subject.executor(slots) as executor:
                    assert len(executor.slots) == slots
                    assert len({slot.name for slot in executor.slots}) == slots
                    return await body(executor, *executor.slots)

            return asyncio.run(all_of_it())

        return run

    def test_a_chunk_is_ready_then_gives_every_point_once_and_finishes(self, subject, in_loop):
        async def body(executor, slot):
            return await events_of(executor, slot, subject.chunk)

        events = in_loop(body)
        assert isinstance(events[0], Ready)
        assert set(points_of(events)) == set(subject.chunk.points)
        assert isinstance(events[-1], Finished)

    def test_metrics_are_those_of_the_job_to_the_bit(self, subject, in_loop):
        async def body(executor, slot):
            return await events_of(executor, slot, subject.chunk)

        for event in in_loop(body):
            if isinstance(event, PointDone):
                assert dict(event.metrics) == dict(subject.metrics(event.point))
                assert event.seconds >= 0

    def test_a_chunk_without_points_gets_ready_only(self, subject, in_loop):
        async def body(executor, slot):
            return await events_of(executor, slot, replace(subject.chunk, points=()))

        assert [type(event) for event in in_loop(body)] == [Ready, Finished]

    def test_the_recorded_plan_is_taken_over(self, subject, in_loop):
        async def body(executor, slot):
            first = await events_of(executor, slot, replace(subject.chunk, points=()))
            plan = first[0].plan
            again = replace(subject.chunk, plan=plan, points=subject.chunk.points[:2])
            return plan, await events_of(executor, slot, again)

        plan, events = in_loop(body)
        assert events[0].plan == plan
        assert len(points_of(events)) == 2

    def test_bits_do_not_depend_on_how_points_are_cut_into_chunks(self, subject, in_loop):
        async def body(executor, *slots):
            found, plan = {}, None
            for number, at in enumerate(range(0, len(subject.chunk.points), 4)):
                points = subject.chunk.points[at : at + 4]
                chunk = replace(subject.chunk, plan=plan, points=points, lease=number + 1)
                events = await events_of(executor, slots[number % 2], chunk)
                plan = events[0].plan
                found |= {e.point: dict(e.metrics) for e in events if isinstance(e, PointDone)}
            return found

        found = in_loop(body, slots=2)
        assert found == {point: dict(subject.metrics(point)) for point in subject.chunk.points}

    def test_slots_compute_side_by_side(self, subject, in_loop):
        async def body(executor, *slots):
            halves = subject.chunk.points[::2], subject.chunk.points[1::2]
            chunks = [replace(subject.chunk, points=half) for half in halves]
            return await asyncio.gather(
                *(events_of(executor, *pair) for pair in zip(slots, chunks, strict=True))
            )

        first, second = in_loop(body, slots=2)
        assert set(points_of(first)) | set(points_of(second)) == set(subject.chunk.points)

    def test_jobs_may_take_turns_on_a_slot(self, subject, in_loop):
        async def body(executor, slot):
            chunks = [subject.chunk, subject.other] * 2
            return [
                await events_of(executor, slot, replace(chunk, points=chunk.points[:2]))
                for chunk in chunks
            ]

        for events in in_loop(body):
            assert len(points_of(events)) == 2

    def test_what_is_loaded_is_told(self, subject, in_loop):
        async def body(executor, slot):
            before = list(executor.loaded(slot))
            await events_of(executor, slot, replace(subject.chunk, points=()))
            return before, list(executor.loaded(slot))

        before, after = in_loop(body)
        assert before == []
        assert after == [(subject.chunk.job, subject.chunk.order.affinity)]

    def test_a_hopeless_job_fails_and_the_slot_goes_on(self, subject, in_loop):
        async def body(executor, slot):
            failed = await events_of(executor, slot, subject.hopeless)
            return failed, await events_of(
                executor, slot, replace(subject.chunk, points=subject.chunk.points[:1])
            )

        failed, after = in_loop(body)
        assert [type(event) for event in failed] == [Failed]
        assert failed[0].reason
        assert failed[0].message
        assert isinstance(after[-1], Finished)

    def test_a_chunk_given_back_ends_early_and_the_rest_can_be_had_later(
        self, subject, in_loop
    ):
        slow = subject.slowly(subject.chunk)

        async def body(executor, slot):
            def at(event):
                if isinstance(event, PointDone):
                    executor.give_back(slot)

            first = await events_of(executor, slot, slow, at)
            left = [point for point in slow.points if point not in points_of(first)]
            chunk = replace(subject.chunk, points=left[:2], plan=first[0].plan, lease=2)
            return first, left, await events_of(executor, slot, chunk)

        first, left, second = in_loop(body)
        assert isinstance(first[-1], Finished)
        assert left, "all points came though the chunk was to end"
        assert points_of(first)
        assert set(points_of(second)) == set(left[:2])

    def test_giving_back_a_free_slot_does_nothing(self, subject, in_loop):
        async def body(executor, slot):
            executor.give_back(slot)
            return await events_of(
                executor, slot, replace(subject.chunk, points=subject.chunk.points[:3])
            )

        assert len(points_of(in_loop(body))) == 3

    def test_leaving_a_chunk_frees_the_slot(self, subject, in_loop):
        slow = subject.slowly(subject.chunk)

        async def body(executor, slot):
            async with contextlib.aclosing(executor.run(slot, slow)) as events:
                async for event in events:
                    if isinstance(event, PointDone):
                        break
            chunk = replace(subject.chunk, points=subject.chunk.points[-3:], lease=2)
            return await events_of(executor, slot, chunk)

        assert len(points_of(in_loop(body))) == 3

    def test_leaving_a_chunk_before_it_is_ready_frees_the_slot(self, subject, in_loop):
        async def body(executor, slot):
            running = executor.run(slot, subject.chunk)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(running)
            await running.aclose()
            chunk = replace(subject.chunk, points=subject.chunk.points[:2], lease=2)
            return await events_of(executor, slot, chunk)

        assert len(points_of(in_loop(body))) == 2

    def test_a_worker_killed_in_a_point_is_lost_and_the_slot_goes_on(self, subject, in_loop):
        slow = subject.slowly(subject.chunk)

        async def body(executor, slot):
            killed = []

            async def kill():
                if not killed:
                    killed.append(True)
                    await subject.kill(executor, slot)

            def at(event):
                return kill() if isinstance(event, PointDone) else None

            lost = await events_of(executor, slot, slow, at)
            loaded = list(executor.loaded(slot))
            chunk = replace(subject.chunk, plan=lost[0].plan, points=subject.chunk.points[:2])
            return lost, loaded, await events_of(executor, slot, chunk)

        lost, loaded, after = in_loop(body)
        assert isinstance(lost[-1], Lost)
        assert lost[-1].reason in {"crashed", "killed"}
        assert not lost[-1].loading
        assert len(points_of(lost)) < len(slow.points)
        assert loaded == []
        assert len(points_of(after)) == 2

    def test_closing_ends_a_chunk_under_way(self, subject, in_loop):
        slow = subject.slowly(subject.chunk)

        async def body(executor, slot):
            closed = []

            async def close():
                if not closed:
                    closed.append(True)
                    await executor.close()

            def at(event):
                return close() if isinstance(event, PointDone) else None

            return await events_of(executor, slot, slow, at)

        assert isinstance(in_loop(body)[-1], Lost)

    def test_closing_twice_does_no_harm(self, in_loop):
        async def body(executor, *_slots):
            await executor.close()
            await executor.close()

        in_loop(body)
