"""Calls for the same job at the same time, and mistakes that nobody expected."""

from __future__ import annotations

import asyncio
import threading

import pytest

from onnxscape.errors import DiskFullError, StorageError
from onnxscape.jobs import endings
from onnxscape.jobs.states import JobEvent, JobState


async def until(reached):
    """Waits until something is as wanted."""
    while not reached():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("ordered", [True, False], ids=["submit-first", "cancel-first"])
def test_a_job_that_is_cancelled_while_it_is_submitted_is_not_leased(
    site, in_loop, monkeypatch, ordered
):
    read, entered, gate = site.store.job, threading.Event(), threading.Event()

    def late(job_id, *user):
        job = read(job_id, *user)
        if not entered.is_set():
            entered.set()
            gate.wait(10)
        return job

    async def body():
        async with site.running() as coordinator:
            coordinator._turns.paused = True  # the job is to stay queued
            job_id = site.order()
            monkeypatch.setattr(site.store, "job", late)
            calls = [coordinator.submit, coordinator.cancel]
            first, second = calls if ordered else reversed(calls)
            task = asyncio.create_task(first(job_id))
            await asyncio.to_thread(entered.wait, 10)
            other = asyncio.create_task(second(job_id))
            await asyncio.sleep(0.05)
            gate.set()
            await asyncio.gather(task, other)
            coordinator._turns.paused = False
            await until(lambda: job_id not in coordinator._courses.live)
            assert read(job_id).state is JobState.CANCELLED
            assert coordinator.tally.leases == 0

    in_loop(body)


def test_a_lease_that_fails_by_a_mistake_ends_its_job_and_not_the_turns(
    site, in_loop, monkeypatch
):
    move, broken = site.store.move, site.order()

    def wrong(job_id, event, **options):
        if job_id == broken and event is JobEvent.FIRST_CHUNK:
            raise KeyError("a mistake")
        return move(job_id, event, **options)

    monkeypatch.setattr(site.store, "move", wrong)

    async def body():
        async with site.running() as coordinator:
            job = await site.ended(coordinator, broken)
            assert job.failure.reason == "INTERNAL"
            good = site.order()
            await coordinator.submit(good)
            assert (await site.ended(coordinator, good)).state is JobState.SUCCEEDED
            assert not coordinator._courses.live

    in_loop(body)


def test_cancelling_does_not_wait_for_ever_for_a_full_disk(site, in_loop, monkeypatch):
    move, full = site.store.move, True

    def no_room(job_id, event, **options):
        if full:
            raise DiskFullError("no room on the disk")
        return move(job_id, event, **options)

    monkeypatch.setattr(site.store, "move", no_room)
    monkeypatch.setattr(endings, "PATIENCE", 0.1)

    async def body():
        nonlocal full
        job_id = site.order()
        async with site.running() as coordinator:
            await until(lambda: coordinator.trouble is not None)
            with pytest.raises(StorageError, match="no room on the disk; try again later"):
                await asyncio.wait_for(coordinator.cancel(job_id), 5)
            assert site.job(job_id).state is JobState.QUEUED
            full = False
            assert (await site.ended(coordinator, job_id)).state is JobState.SUCCEEDED

    in_loop(body)


def test_a_job_that_has_ended_behind_the_coordinators_back_is_left(site, in_loop):
    async def body():
        async with site.running() as coordinator:
            coordinator._turns.paused = True
            job_id = site.order()
            await coordinator.submit(job_id)
            site.store.move(job_id, JobEvent.CANCEL, now=2000.0)
            coordinator._turns.paused = False
            await until(lambda: job_id not in coordinator._courses.live)
            assert coordinator.tally.leases == 1

    in_loop(body)
