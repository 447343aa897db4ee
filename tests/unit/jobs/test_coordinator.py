"""Jobs come to their end, and to the landscape that one loop over the schedule makes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
from coordination import QUICK, SPEC, reference, spec_of
from fake_executor import PLAN, Break, Crash, FakeExecutor, Hold, Shrink, Twice, Wait

from onnxscape.errors import UsageError
from onnxscape.jobs.rounds import Rounds
from onnxscape.jobs.states import JobState
from onnxscape.storage import load_landscape


def same(found, expected):
    """Whether two landscapes agree to the bit."""
    assert found.surfaces.keys() == expected.surfaces.keys()
    for name, values in expected.surfaces.items():
        assert np.array_equal(found.surfaces[name], values, equal_nan=True), name
    assert np.array_equal(found.evaluated, expected.evaluated)
    assert found.center == expected.center
    assert found.interpolation == expected.interpolation
    return True


def finished_once(executor):
    """Whether no point came twice over all chunks."""
    points = [(run.chunk.job, point) for run in executor.runs for point in run.points]
    return len(points) == len(set(points))


def rugged(point):
    """Metrics that a refinement has something to do with."""
    loss = 1 + point.alpha**2 + np.tanh(20 * (point.beta - 0.3 * point.alpha))
    samples = point.samples or 100
    few = {"loss": loss * 1.1 + 0.01 * point.beta, "accuracy": 1 / (2 + loss)}
    if samples == 100:
        found = {"loss": loss, "accuracy": 1 / (1 + loss), "loss_stderr": 0.01 * loss}
    else:
        found = few | {"loss_stderr": float("nan")}
    return (
        found | {"samples_used": float(samples)} | {f"subset_{k}": v for k, v in few.items()}
    )


@pytest.mark.parametrize("grid", ["5x5", "9", "4x6"])
def test_a_job_becomes_a_surface_file(site, in_loop, grid):
    spec = spec_of(grid)
    job_id = site.order(spec)

    async def body():
        async with site.running(executor := FakeExecutor(3)) as coordinator:
            job = await site.ended(coordinator, job_id)
            assert job.state is JobState.SUCCEEDED
            assert job.done == job.total == sum(len(run.points) for run in executor.runs)
            assert finished_once(executor)

    in_loop(body)
    found = load_landscape(site.surfaces / f"{job_id}.h5")
    assert same(found, reference(spec))
    assert found.spec == spec
    assert found.plan == PLAN
    assert found.provenance["device"] == "fake"


@pytest.mark.parametrize(
    "changes", [{"tolerance": 0.05}, {"two_level": 20}], ids=["adaptive", "two-level"]
)
@pytest.mark.parametrize("slots", [1, 3])
def test_rounds_give_what_one_loop_gives(site, in_loop, changes, slots):
    spec = spec_of("33x33", **changes)
    job_id = site.order(spec)

    async def body():
        executor = FakeExecutor(slots, metrics=rugged, seconds=0.02)
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
            assert job.state is JobState.SUCCEEDED, job.failure
            assert job.total == job.done

    in_loop(body)
    expected = reference(spec, rugged)
    assert 0 < expected.interpolation.interpolated < spec.grid.size
    assert same(load_landscape(site.surfaces / f"{job_id}.h5"), expected)


def test_one_slot_works_out_the_plan_before_others_join(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor = FakeExecutor(4, seconds=0.1, pace=0.001)
        async with site.running(executor) as coordinator:
            await site.ended(coordinator, job_id)
        assert [run.chunk.plan for run in executor.runs].count(None) == 1
        assert all(run.chunk.plan == PLAN.to_json() for run in executor.runs[1:])
        assert len({run.slot for run in executor.runs}) > 1

    in_loop(body)


def test_points_after_a_shortage_of_memory_have_the_new_plan(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor = FakeExecutor()
        executor.at_point(0, 0, Shrink())
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert job.state is JobState.SUCCEEDED
        half = dataclasses.replace(PLAN, batch=PLAN.batch // 2).to_json()
        assert job.plan == executor.runs[-1].chunk.plan == half
        assert "scripted shortage of memory" in job.warnings

    in_loop(body)


def test_an_error_that_no_retry_mends_ends_the_job(site, in_loop):
    bad, good = site.order(spec_of("9x9")), site.order()

    async def body():
        executor = FakeExecutor(2)
        executor.at_point(8, 8, Break("SelfTestError", "differs"))
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, bad)
            assert (job.state, job.failure.reason) == (JobState.FAILED, "SelfTestError")
            assert job.failure.message == "differs"
            assert (await site.ended(coordinator, good)).state is JobState.SUCCEEDED
        assert not (site.surfaces / f"{bad}.h5").exists()

    in_loop(body)


def test_a_job_that_is_submitted_later_is_taken_up(site, in_loop):
    async def body():
        async with site.running() as coordinator:
            job_id = site.order()
            await coordinator.submit(job_id)
            await coordinator.submit(job_id)
            assert (await site.ended(coordinator, job_id)).state is JobState.SUCCEEDED
            await coordinator.submit(job_id)
            await coordinator.submit("nothing")
            assert coordinator.tally.jobs_begun == 1

    in_loop(body)


def test_points_that_come_twice_count_once(site, in_loop):
    job_id = site.order()

    async def body():
        executor = FakeExecutor()
        executor.at_point(1, 1, Twice())
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert (job.state, job.done) == (JobState.SUCCEEDED, 25)
        assert coordinator.tally.points == 25

    in_loop(body)


def test_a_new_slot_is_used(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(0, 0, hold)
        async with site.running(executor) as coordinator:
            await hold.reached.wait()
            slot = executor.add_slot()
            await site.until(coordinator, job_id, lambda job: job.done > 60)
            hold.go.set()
            await site.ended(coordinator, job_id)
        assert slot in {run.slot for run in executor.runs}

    in_loop(body)


# --- lost workers -------------------------------------------------------------------------


def test_a_crash_costs_no_point(site, in_loop):
    job_id = site.order()

    async def body():
        executor = FakeExecutor(2)
        executor.at_point(1, 1, Crash())
        executor.at_point(3, 3, Crash("memory"), Crash("time"))
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert (job.state, job.done, job.failed) == (JobState.SUCCEEDED, 25, 0)
        assert finished_once(executor)
        assert dict(coordinator.tally.lost) == {"killed": 1, "memory": 1, "time": 1}
        assert site.store.strikes(job_id) == {(1, 1): 1, (3, 3): 2}

    in_loop(body)
    assert same(load_landscape(site.surfaces / f"{job_id}.h5"), reference(SPEC))


def test_a_point_that_workers_die_on_is_tried_alone_and_then_given_up(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor = FakeExecutor(2, seconds=0.1)
        executor.at_point(2, 4, *[Crash()] * 9)
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert (job.state, job.done, job.failed) == (JobState.FAILED, 80, 1)
        assert job.failure.reason == "POINTS_FAILED"
        assert "1 of 81 points" in job.failure.message
        assert "row 2 and column 4" in job.failure.message
        tries = [
            len(run.chunk.points)
            for run in executor.runs
            if any((p.row, p.column) == (2, 4) for p in run.chunk.points)
        ]
        assert len(tries) == 3
        assert tries[0] > 1
        assert tries[1:] == [1, 1]
        assert finished_once(executor)
        assert coordinator.tally.points_failed == 1

    in_loop(body)
    found = load_landscape(site.surfaces / f"{job_id}.h5")
    assert not found.evaluated[2, 4]
    assert not found.complete
    assert same(found, reference(spec_of("9x9"), failed={(2, 4)}))


@pytest.mark.parametrize("changes", [{"tolerance": 0.05}, {"two_level": 20}])
def test_a_refinement_cannot_go_on_without_a_point(site, in_loop, changes):
    job_id = site.order(spec_of("17x17", **changes))

    async def body():
        executor = FakeExecutor(metrics=rugged)
        executor.at_point(0, 0, *[Crash()] * 3)
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert (job.state, job.failure.reason) == (JobState.FAILED, "WORKER_LOST")
        assert "row 0, column 0" in job.failure.message

    in_loop(body)


def test_a_job_on_whose_first_points_all_workers_die_is_given_up(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor = FakeExecutor()
        for row in range(9):
            for column in range(9):
                executor.at_point(row, column, *[Crash()] * 3)
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert (job.state, job.failure.reason) == (JobState.FAILED, "WORKER_LOST")
        assert len(executor.runs) == 9

    in_loop(body)


@pytest.mark.parametrize("crashes", [2, 3])
def test_a_job_that_cannot_be_loaded_three_times_is_given_up(site, in_loop, crashes):
    job_id = site.order()

    async def body():
        executor = FakeExecutor()
        executor.at_loading(*[Crash("memory")] * crashes)
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        if crashes < 3:
            assert job.state is JobState.SUCCEEDED
        else:
            assert (job.state, job.failure.reason) == (JobState.FAILED, "WORKER_LOST")
            assert "memory" in job.failure.message
            assert len(executor.runs) == 3
        assert site.store.strikes(job_id) == {}

    in_loop(body)


def test_a_silent_lease_is_given_to_others_and_its_late_results_are_ignored(site, in_loop):
    job_id = site.order()
    config = dataclasses.replace(QUICK, lease_seconds=0.1)

    async def body():
        executor = FakeExecutor(2, seconds=0.1)
        executor.at_point(0, 0, Wait(0.3))
        async with site.running(executor, config) as coordinator:
            job = await site.ended(coordinator, job_id)
            await asyncio.sleep(0.3)
        assert (job.state, job.done) == (JobState.SUCCEEDED, 25)
        assert finished_once(executor)
        assert dict(coordinator.tally.lost) == {"silent": 1}
        assert site.store.strikes(job_id) == {(0, 0): 1}

    in_loop(body)


def test_a_beating_lease_may_take_its_time(site, in_loop):
    job_id = site.order()
    config = dataclasses.replace(QUICK, lease_seconds=0.1)

    async def body():
        executor = FakeExecutor()
        executor.at_loading(Wait(0.3, beats=0.02))
        executor.at_point(0, 0, Wait(0.3, beats=0.02))
        async with site.running(executor, config) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert job.state is JobState.SUCCEEDED
        assert not coordinator.tally.lost

    in_loop(body)


def test_a_chunk_of_slow_points_is_asked_back(site, in_loop):
    job_id = site.order(spec_of("9x9"))
    config = dataclasses.replace(QUICK, longest_chunk=0.05)

    async def body():
        executor = FakeExecutor(seconds=0.0001, pace=0.02)
        async with site.running(executor, config) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert job.state is JobState.SUCCEEDED
        assert max(len(run.points) for run in executor.runs) <= 6
        assert not coordinator.tally.lost

    in_loop(body)


def test_an_executor_that_fails_is_no_fault_of_the_job(site, in_loop):
    job_id = site.order()

    class Failing(FakeExecutor):
        async def run(self, slot, chunk):
            self.tries = getattr(self, "tries", 0) + 1
            if self.tries <= 5:
                raise RuntimeError("no process")
            async with contextlib.aclosing(super().run(slot, chunk)) as events:
                async for event in events:
                    yield event

    async def body():
        executor = Failing()
        async with site.running(executor, QUICK) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert job.state is JobState.SUCCEEDED
        assert coordinator.tally.lost == {"broken": 5}

    in_loop(body)


# --- cancelling and deleting --------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(site, in_loop):
    job_id = site.order()

    async def body():
        executor = FakeExecutor(0)
        async with site.running(executor) as coordinator:
            assert (await coordinator.cancel(job_id)).state is JobState.CANCELLED
            executor.add_slot()
            await asyncio.sleep(0.1)
        assert executor.runs == []

    in_loop(body)


def test_a_running_job_ends_after_the_point_under_way(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor, hold = FakeExecutor(seconds=0.1), Hold()
        executor.at_point(0, 0, hold)
        config = dataclasses.replace(QUICK, stop_seconds=10.0)
        async with site.running(executor, config) as coordinator:
            await hold.reached.wait()
            job = await coordinator.cancel(job_id)
            assert job.state is JobState.CANCELLING
            again = await coordinator.cancel(job_id)
            assert again.state is JobState.CANCELLING
            assert again.revision == job.revision
            hold.go.set()
            job = await site.ended(coordinator, job_id)
            assert job.state is JobState.CANCELLED
            assert (0, 0) in site.store.results(job_id)
            assert job.done == sum(
                len(run.points) for run in executor.runs if run.chunk.job == job_id
            )
            assert (await coordinator.cancel(job_id)).state is JobState.CANCELLED
            await coordinator.submit(other := site.order())
            assert (await site.ended(coordinator, other)).state is JobState.SUCCEEDED

    in_loop(body)


def test_a_point_that_does_not_end_is_left_when_its_job_is_cancelled(site, in_loop):
    job_id = site.order()

    async def body():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(0, 0, hold)
        config = dataclasses.replace(QUICK, lease_seconds=1000.0)
        async with site.running(executor, config) as coordinator:
            await hold.reached.wait()
            await coordinator.cancel(job_id)
            assert (await site.ended(coordinator, job_id)).state is JobState.CANCELLED
            await coordinator.submit(other := site.order())
            assert (await site.ended(coordinator, other)).state is JobState.SUCCEEDED

    in_loop(body)


def test_a_finished_job_is_not_cancelled(site, in_loop):
    job_id = site.order()

    async def body():
        async with site.running() as coordinator:
            job = await site.ended(coordinator, job_id)
            assert (await coordinator.cancel(job_id)) == site.job(job_id)
            assert site.job(job_id).state is job.state is JobState.SUCCEEDED
            with pytest.raises(UsageError, match="no job 'other'"):
                await coordinator.cancel("other")

    in_loop(body)


def test_deleting_removes_the_points_and_the_file(site, in_loop):
    job_id, running = site.order(), site.order(spec_of("9x9"))

    async def body():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(8, 8, hold)
        async with site.running(executor) as coordinator:
            await site.ended(coordinator, job_id)
            path = site.surfaces / f"{job_id}.h5"
            assert path.exists()
            watch = asyncio.create_task(coordinator.changed(job_id, 1000, 10))
            await asyncio.sleep(0.02)
            await coordinator.delete(job_id)
            assert await watch
            assert not path.exists()
            assert site.job(job_id) is None
            await coordinator.delete(job_id)
            await hold.reached.wait()
            with pytest.raises(UsageError, match="cancel it"):
                await coordinator.delete(running)
            await coordinator.cancel(running)
            await site.ended(coordinator, running)
            await coordinator.delete(running)
            assert site.job(running) is None

    in_loop(body)


def test_a_failed_job_is_deleted_after_its_last_chunk(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor, hold = FakeExecutor(2, seconds=0.1), Hold()
        executor.at_point(0, 0, hold)
        executor.at_point(7, 7, Break())
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
            assert job.state is JobState.FAILED
            await coordinator.delete(job_id)
            assert all(run.over for run in executor.runs)
            assert site.job(job_id) is None

    in_loop(body)


# --- going down and coming back -----------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"tolerance": 0.05}, {"two_level": 20}], ids=["all", "adaptive", "levels"]
)
def test_a_restart_goes_on_to_the_identical_surface(site, in_loop, changes):
    spec = spec_of("17x17", **changes)
    job_id = site.order(spec)
    seen = []

    async def body(points):
        executor = FakeExecutor(2, metrics=rugged, seconds=0.05)
        async with site.running(executor) as coordinator:
            await site.until(
                coordinator, job_id, lambda job: job.done >= points or job.ended is not None
            )
        seen.extend(executor.runs)

    for points in (20, 60, 100):
        asyncio.run(body(points))
        assert site.job(job_id).state is JobState.RUNNING

    asyncio.run(body(10**9))
    assert site.job(job_id).state is JobState.SUCCEEDED
    assert [run.chunk.lease for run in seen] == sorted({run.chunk.lease for run in seen})
    assert [run.chunk.plan for run in seen].count(None) == 1
    assert same(load_landscape(site.surfaces / f"{job_id}.h5"), reference(spec, rugged))


def test_jobs_in_every_state_go_on_after_a_restart(site, in_loop):
    finishing = site.order()

    async def first():
        async with site.running() as coordinator:
            await site.ended(coordinator, finishing)

    in_loop(first)
    # The others come now: none of them may have been computed. As a kill leaves them:
    cancelling, failed, queued = (site.order() for _ in range(3))
    with site.store._database.writing() as connection:
        for job_id, state in (
            (finishing, "finishing"),
            (cancelling, "cancelling"),
            (failed, "failed"),
        ):
            connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, job_id))
    (site.surfaces / f"{finishing}.h5").unlink()
    (site.surfaces / ".onnxscape-abcd.tmp").write_bytes(b"half")
    (site.surfaces / "deleted.h5").write_bytes(b"whole")

    async def second():
        async with site.running() as coordinator:
            assert (await site.ended(coordinator, finishing)).state is JobState.SUCCEEDED
            assert (await site.ended(coordinator, queued)).state is JobState.SUCCEEDED
            assert site.job(cancelling).state is JobState.CANCELLED
            assert site.job(failed).state is JobState.FAILED

    in_loop(second)
    assert same(load_landscape(site.surfaces / f"{finishing}.h5"), reference(SPEC))
    assert {path.stem for path in site.surfaces.iterdir()} == {finishing, queued}


def test_strikes_outlast_a_restart(site, in_loop):
    job_id = site.order()

    async def body():
        executor = FakeExecutor()
        executor.at_point(0, 0, Crash(), hold := Hold())
        async with site.running(executor):
            await hold.reached.wait()

    async def last():
        executor = FakeExecutor()
        executor.at_point(0, 0, *[Crash()] * 9)
        async with site.running(executor) as coordinator:
            job = await site.ended(coordinator, job_id)
        assert (job.done, job.failed) == (24, 1)
        chunks = [[(p.row, p.column) for p in run.chunk.points] for run in executor.runs]
        return [chunk for chunk in chunks if (0, 0) in chunk]

    in_loop(body)
    assert site.store.strikes(job_id) == {(0, 0): 1}
    assert in_loop(last) == [[(0, 0)], [(0, 0)]]


def test_draining_ends_chunks_after_the_point_under_way(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        executor, hold = FakeExecutor(seconds=0.1), Hold()
        executor.at_point(0, 0, hold)
        async with site.running(executor) as coordinator:
            await hold.reached.wait()
            drain = asyncio.create_task(coordinator.drain(10))
            await asyncio.sleep(0.02)
            assert coordinator.draining
            hold.go.set()
            await drain
            assert coordinator.leases_under_way == 0
            runs = len(executor.runs)
            job = site.job(job_id)
            assert job.state is JobState.RUNNING
            assert job.done == sum(len(run.points) for run in executor.runs)
            assert (0, 0) in site.store.results(job_id)
            await coordinator.submit(site.order())
            await asyncio.sleep(0.05)
            assert len(executor.runs) == runs

    in_loop(body)

    async def again():
        async with site.running() as coordinator:
            assert (await site.ended(coordinator, job_id)).state is JobState.SUCCEEDED

    in_loop(again)


def test_draining_does_not_wait_for_ever(site, in_loop):
    job_id = site.order()

    async def body():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(0, 0, hold)
        async with site.running(executor) as coordinator:
            await hold.reached.wait()
            await asyncio.wait_for(coordinator.drain(0.05), 5)
        assert site.job(job_id).state is JobState.RUNNING
        assert site.store.strikes(job_id) == {}

    in_loop(body)


def test_a_full_disk_holds_everything_up_and_loses_nothing(site, in_loop, monkeypatch):
    job_id = site.order()
    put, full = site.store.put_points, True

    def put_points(*args):
        if full:
            raise OSError(28, "No space left on device")
        return put(*args)

    monkeypatch.setattr(type(site.store), "put_points", lambda _, *args: put_points(*args))

    async def body():
        nonlocal full
        executor = FakeExecutor()
        async with site.running(executor) as coordinator:
            while coordinator.trouble is None:
                await asyncio.sleep(0.01)
            assert "No space left" in coordinator.trouble
            await asyncio.sleep(0.1)
            assert len(executor.runs) <= 2
            full = False
            job = await site.ended(coordinator, job_id)
            assert coordinator.trouble is None
            assert job.state is JobState.SUCCEEDED
            assert finished_once(executor)

    in_loop(body)


# --- what others see ----------------------------------------------------------------------


def test_changed_tells_of_every_revision(site, in_loop):
    job_id = site.order(spec_of("9x9"))

    async def body():
        async with site.running(FakeExecutor(seconds=0.2)) as coordinator:
            revisions, seen = [0], []
            while not seen or site.job(job_id).ended is None:
                assert await coordinator.changed(job_id, revisions[-1], 10)
                revisions.append(site.job(job_id).revision)
                seen += site.store.points_after(job_id, seen[-1].revision if seen else 0)
            seen += site.store.points_after(job_id, seen[-1].revision)
            assert sorted(set(revisions)) == revisions
            assert len({(p.point.row, p.point.column) for p in seen}) == len(seen) == 81
            assert not await coordinator.changed(job_id, site.job(job_id).revision, 0.01)
            assert await coordinator.changed("nothing", 0, 10)

    in_loop(body)


def test_the_last_revision_holds_all_device_time(site, in_loop):
    job_id = site.order()

    async def body():
        async with site.running(FakeExecutor(2, pace=0.002)) as coordinator:
            job = await site.ended(coordinator, job_id)
            assert job.device_seconds == pytest.approx(coordinator.tally.device_seconds)
            assert job.device_seconds > 0.05
            assert site.store.usage_since("ann", 0) == pytest.approx(job.device_seconds)

    in_loop(body)


def test_estimates_count_what_comes_before(site, in_loop):
    first = site.order(spec_of("10x10"), seconds=100.0)
    second = site.order(spec_of("10x10"), seconds=50.0)
    urgent = site.order(spec_of("10x10"), seconds=30.0, priority=1)
    other = site.order(spec_of("10x10"), seconds=20.0, user="bob")
    site.store.set_weight("bob", 2.0)

    async def body():
        async with site.running(FakeExecutor(0)) as coordinator:

            def estimate(job_id):
                return coordinator.estimate_completion(site.job(job_id))

            one = 1.01  # the center is no point of this grid, and is one more
            assert estimate(urgent) == pytest.approx(one * (30 + 20))
            # What is shorter does not wait for what was there before.
            assert estimate(first) == pytest.approx(one * (30 + 50 + 100 + 20))
            assert estimate(second) == pytest.approx(one * (30 + 50 + 20))
            assert estimate(other) == pytest.approx(one * (20 + 10))
            await coordinator.cancel(first)
            assert estimate(second) == pytest.approx(one * (30 + 50 + 20))
            assert estimate(first) == 0.0

    in_loop(body)


def test_a_refinement_that_takes_its_time_holds_nobody_up(site, in_loop, monkeypatch):
    slow, quick = site.order(spec_of("33x33", tolerance=0.05)), site.order(user="bob")
    ahead, started, go = Rounds.ahead, threading.Event(), threading.Event()

    def waiting_ahead(rounds, *args):
        if rounds.total > 25 or not rounds.tolerant:
            started.set()
            assert go.wait(20)
        return ahead(rounds, *args)

    monkeypatch.setattr(Rounds, "ahead", waiting_ahead)

    async def body():
        async with site.running() as coordinator:
            try:
                while not started.is_set():
                    await asyncio.sleep(0.01)
                assert (await site.ended(coordinator, quick)).state is JobState.SUCCEEDED
                assert not await coordinator.changed(slow, site.job(slow).revision, 0.01)
            finally:
                go.set()
            assert (await site.ended(coordinator, slow)).state is JobState.SUCCEEDED

    in_loop(body)


def test_before_it_is_started_a_coordinator_does_nothing(site, in_loop):
    async def body():
        coordinator = site.coordinator()
        assert coordinator.leases_under_way == 0
        assert coordinator.trouble is None
        assert not coordinator.draining
        with pytest.raises(RuntimeError, match="call start first"):
            await coordinator.cancel("any")
        await coordinator.close()
        assert coordinator.draining

    in_loop(body)


def test_the_coordinator_loads_no_runtime():
    code = (
        "import sys, onnxscape.jobs.coordinator; "
        "print([m for m in ('onnxruntime', 'onnx', 'grpc') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout.decode().strip() == "[]"
