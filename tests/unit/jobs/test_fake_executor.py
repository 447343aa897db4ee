"""The fake executor keeps the protocol, and has the faults it is told to have."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from executor_conformance import ExecutorConformance, events_of, points_of
from fake_executor import PLAN, Break, Crash, FakeExecutor, Hold, Shrink, Twice, Wait, bowl

from onnxscape.core.grid import Axis, Grid
from onnxscape.jobs.executor import (
    Beat,
    Chunk,
    Failed,
    Finished,
    Lost,
    PointDone,
    Ready,
    Replanned,
)
from onnxscape.jobs.order import DataRef, Order

ORDER = Order(model="ab" * 32, model_name="bowl", data=DataRef(name="digits"))
POINTS = tuple(Grid(Axis(-1, 1, 5), Axis(-1, 1, 5)).points())
CHUNK = Chunk(
    job="one", lease=1, order=ORDER, plan=None, spec="cd" * 32, points=POINTS, total=25
)


class FakeSubject:
    """The fake, with a job that is hopeless by script."""

    chunk = CHUNK
    other = replace(CHUNK, job="two", order=replace(ORDER, model="ef" * 32))
    hopeless = replace(CHUNK, job="three", lease=99)

    @contextlib.asynccontextmanager
    async def executor(self, slots):
        fake = FakeExecutor(slots)
        run = fake.run

        def with_hopeless(slot, chunk):
            if chunk.lease == 99:
                fake.at_loading(Break())
            return run(slot, chunk)

        fake.run = with_hopeless
        await fake.start()
        yield fake
        await fake.close()

    def metrics(self, point):
        return bowl(point)

    async def kill(self, executor, slot):
        executor.crash(slot)

    def slowly(self, chunk):
        return chunk


class TestFake(ExecutorConformance):
    @pytest.fixture
    def subject(self):
        return FakeSubject()


def events(fake, chunk=CHUNK):
    return asyncio.run(events_of(fake, fake.slots[0], chunk))


def test_losses_are_a_closed_form():
    for event in events(FakeExecutor()):
        if isinstance(event, PointDone):
            at = event.point
            assert event.metrics["loss"] == at.alpha**2 + 2 * at.beta**2 + 1


def test_a_crash_loses_the_point_once():
    fake = FakeExecutor()
    fake.at_point(POINTS[3].row, POINTS[3].column, Crash("memory"))
    lost = events(fake)
    assert points_of(lost) == list(POINTS[:3])
    assert lost[-1] == Lost("memory", "scripted crash")
    assert len(points_of(events(fake))) == 25


def test_a_crash_while_loading():
    fake = FakeExecutor()
    fake.at_loading(Crash())
    assert events(fake) == [Lost("killed", "scripted crash", loading=True)]
    assert isinstance(events(fake)[-1], Finished)


def test_a_failure():
    fake = FakeExecutor()
    fake.at_point(0, 0, Break("DataError", "no"))
    assert events(fake)[-1] == Failed("DataError", "no")


def test_silence_ends_when_the_chunk_is_left():
    fake = FakeExecutor()
    fake.at_loading(Wait())

    async def body():
        running = fake.run(fake.slots[0], CHUNK)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(running)
        await running.aclose()
        return await events_of(fake, fake.slots[0], CHUNK)

    assert len(points_of(asyncio.run(body()))) == 25


def test_late_results_come_after_all():
    fake = FakeExecutor()
    fake.at_point(0, 0, Wait(0.05))
    assert len(points_of(events(fake))) == 25


def test_a_slow_point_beats():
    fake = FakeExecutor()
    fake.at_point(0, 0, Wait(0.05, beats=0.01))

    async def body():
        return [event async for event in fake.run(fake.slots[0], CHUNK)]

    beats = [event for event in asyncio.run(body()) if isinstance(event, Beat)]
    assert 1 <= len(beats) <= 6


def test_a_point_is_held_until_it_may_go_on():
    fake = FakeExecutor()

    async def body():
        hold = Hold()
        fake.at_point(POINTS[1].row, POINTS[1].column, hold)
        running = asyncio.create_task(events_of(fake, fake.slots[0], CHUNK))
        await hold.reached.wait()
        assert len(fake.runs[0].points) == 1
        assert not fake.runs[0].over
        hold.go.set()
        return await running

    assert len(points_of(asyncio.run(body()))) == 25
    assert fake.runs[0].over


def test_a_shrunken_plan_is_told_before_its_points():
    fake = FakeExecutor()
    fake.at_point(POINTS[2].row, POINTS[2].column, Shrink())
    got = events(fake)
    assert [type(event) for event in got[:5]] == [
        Ready,
        PointDone,
        PointDone,
        Replanned,
        PointDone,
    ]
    assert got[3].plan == replace(PLAN, batch=50).to_json()


def test_a_point_may_come_twice():
    fake = FakeExecutor()
    fake.at_point(POINTS[0].row, POINTS[0].column, Twice())

    async def body():
        return [event async for event in fake.run(fake.slots[0], CHUNK)]

    assert points_of(asyncio.run(body())).count(POINTS[0]) == 2
