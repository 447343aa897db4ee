"""Users who share a server: each has his part, and no small job waits for a huge one."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest
from coordination import QUICK, spec_of
from fake_executor import FakeExecutor, bowl

from onnxscape.jobs.scheduler import SchedulerConfig
from onnxscape.jobs.states import JobState


class Clock:
    """Time that passes with every point that is evaluated."""

    def __init__(self, seconds):
        self.now, self.seconds = 10_000.0, seconds

    def __call__(self):
        return self.now

    def metrics(self, point):
        self.now += self.seconds
        return bowl(point)


@pytest.fixture
def clock():
    """A clock by which each point takes a tenth of a second."""
    return Clock(0.1)


async def computed(executor, points):
    """Waits until so many points were computed."""
    while sum(len(run.points) for run in executor.runs) < points:
        await asyncio.sleep(0.01)


def test_a_small_job_is_done_within_a_few_chunks_beside_a_huge_one(site, in_loop, clock):
    huge = site.order(spec_of("100x100"), user="ann")

    async def body():
        # Chunks last long enough for what the coordinator does meanwhile.
        executor = FakeExecutor(metrics=clock.metrics, seconds=clock.seconds, pace=0.005)
        async with site.running(executor, clock=clock) as coordinator:
            await computed(executor, 100)
            small = site.order(spec_of("5x4"), user="bob")
            began = len(executor.runs)
            await coordinator.submit(small)
            job = await site.ended(coordinator, small)
            assert job.state is JobState.SUCCEEDED
            chunks = [run.chunk.job for run in executor.runs[began:]]
            last = max(n for n, of in enumerate(chunks) if of == small)
            assert chunks[:last].count(huge) <= 8
            assert site.job(huge).state is JobState.RUNNING

    in_loop(body)


@pytest.mark.parametrize(("weight", "slow"), [(1.0, 1.0), (2.0, 1.0), (1.0, 7.0)])
def test_device_time_follows_the_weights(site, in_loop, clock, weight, slow):
    site.store.set_weight("ann", weight)
    ann = site.order(spec_of("60x60"), user="ann")
    bob = site.order(spec_of("61x60"), user="bob")

    def metrics(point):
        if point.row >= 0 and executor.runs[-1].chunk.job == bob:
            clock.now += clock.seconds * (slow - 1)
        return clock.metrics(point)

    executor = FakeExecutor(metrics=metrics, seconds=clock.seconds)

    async def body():
        async with site.running(executor, clock=clock):
            await computed(executor, 1500)

    in_loop(body)
    had = {job: site.job(job).device_seconds for job in (ann, bob)}
    assert had[ann] / had[bob] == pytest.approx(weight, rel=0.1)


def test_what_users_had_counts_after_a_restart(site, in_loop, clock):
    ann = site.order(spec_of("60x60"), user="ann")

    async def alone():
        executor = FakeExecutor(metrics=clock.metrics, seconds=clock.seconds)
        async with site.running(executor, clock=clock):
            await computed(executor, 1000)

    in_loop(alone)
    before = site.job(ann).device_seconds
    assert before > 90
    bob = site.order(spec_of("60x60"), user="bob")
    turns = SchedulerConfig(chunk=1.0, credit=40.0, debt=40.0, affinity=1.0)

    async def together():
        executor = FakeExecutor(metrics=clock.metrics, seconds=clock.seconds)
        config = dataclasses.replace(QUICK, turns=turns)
        async with site.running(executor, config, clock=clock):
            await computed(executor, 1000)

    in_loop(together)
    ahead = site.job(bob).device_seconds - (site.job(ann).device_seconds - before)
    assert 30 <= ahead <= 50


def test_jobs_of_one_model_are_kept_on_the_slot_that_has_it_loaded(site, in_loop):
    jobs = [site.order(spec_of("9x9"), user=user) for user in "ab"]

    async def body():
        executor = FakeExecutor(2, seconds=0.1, pace=0.001, cache=1)
        async with site.running(executor) as coordinator:
            for job in jobs:
                await site.ended(coordinator, job)
        moves = 0
        for slot in executor.slots:
            order = [run.chunk.job for run in executor.runs if run.slot == slot]
            moves += sum(a != b for a, b in itertools.pairwise(order))
        assert moves <= 4

    in_loop(body)
