"""WatchJob over the wire: nothing is lost, nobody is waited for, nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import time
from pathlib import Path

import grpc
import pytest
from fake_executor import FakeExecutor, Hold, bowl
from jobs_server import MODEL, as_user, refused, run, served, spec_for, spec_message

from onnxscape.core.grid import Point
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.states import JobEvent
from onnxscape.v1 import jobs_pb2


def held(points=1) -> tuple[FakeExecutor, Hold]:
    """Return an executor whose jobs stop at the center, of which they begin."""
    executor, hold = FakeExecutor(), Hold()
    for _ in range(points):
        executor.at_point(2, 2, hold)
    return executor, hold


def points_of(responses):
    return [
        ((p.row, p.column), dict(zip(r.points.metrics, p.values, strict=True)))
        for r in responses
        for p in r.points.points
    ]


def check(responses):
    """Check the order of what a stream told, and return it in parts."""
    revisions = [r.revision for r in responses if r.revision]
    assert revisions == sorted(set(revisions))
    assert responses[0].WhichOneof("event") == "job"
    return points_of(responses), responses[-1]


def test_a_watch_from_the_start_tells_the_job_every_point_and_the_end(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            points, last = check(await server.watch(job.name))
            assert len(points) == 25
            for (row, column), metrics in points:
                assert metrics == bowl(Point(row, column, (column - 2) / 2, (row - 2) / 2))
            assert last.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
            assert last.revision == last.job.revision

    run(scenario)


def test_a_finished_job_can_be_taken_up_at_every_revision(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            whole = await server.watch(job.name)
            points, last = check(whole)
            stored = server.store.points_after(job.name.removeprefix("jobs/"), 0)
            for after in range(last.revision + 1):
                rest, end = check(await server.watch(job.name, after))
                due = {(s.point.row, s.point.column) for s in stored if s.revision > after}
                assert {place for place, _ in rest} == due
                assert len(rest) == len(due)
                assert end.job == last.job
            assert {place for place, _ in points} == {
                (s.point.row, s.point.column) for s in stored
            }

    run(scenario)


def test_streams_that_break_off_all_the_time_tell_every_point_once(tmp_path):
    async def scenario():
        executor = FakeExecutor(pace=0.005)
        async with served(tmp_path, executor=executor) as server:
            job = await server.create(spec_message(9))
            seen, revision, done = [], 0, False
            while not done:
                call = server.watching(job.name, revision)
                async for response in call:
                    if response.revision:
                        assert response.revision > revision
                        revision = response.revision
                    seen.append(response)
                    done = response.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
                    if len(seen) % 3 == 0:
                        break
                call.cancel()
            places = [place for place, _ in points_of(seen)]
            assert len(places) == len(set(places)) == 81
            while server.servicer.watchers.total:
                await asyncio.sleep(0.01)

    run(scenario)


def test_a_watch_goes_on_with_a_server_that_was_restarted(tmp_path):
    async def scenario():
        executor = FakeExecutor()
        executor.at_point(0, 1, Hold())
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            seen, revision = [], 0
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(1.0):
                    async for response in server.watching(job.name):
                        seen.append(response)
                        revision = response.revision or revision
        assert 0 < len(points_of(seen)) < 25
        async with served(tmp_path) as server:
            seen += await server.watch(job.name, revision)
            places = [place for place, _ in points_of(seen)]
            assert len(places) == len(set(places)) == 25

    run(scenario)


def test_two_watchers_see_the_same(tmp_path):
    async def scenario():
        executor, hold = held()
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            watching = [asyncio.ensure_future(server.watch(job.name)) for _ in range(2)]
            await hold.reached.wait()
            hold.go.set()
            one, two = await asyncio.gather(*watching)
            assert points_of(one) == points_of(two)
            assert one[-1].job == two[-1].job

    run(scenario)


def test_silence_is_filled_with_heartbeats(tmp_path):
    async def scenario():
        executor, hold = held()
        async with served(tmp_path, executor=executor, heartbeat=0.05) as server:
            job = await server.create()
            beats = 0
            async for response in server.watching(job.name):
                if response.WhichOneof("event") == "heartbeat":
                    beats += 1
                    assert response.revision == 0
                    if beats == 3:
                        hold.go.set()
            assert beats >= 3
            assert response.job.state == jobs_pb2.JOB_STATE_SUCCEEDED

    run(scenario)


def test_a_job_that_is_cancelled_is_told_to_its_watchers(tmp_path):
    async def scenario():
        executor, hold = held()
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            watching = asyncio.ensure_future(server.watch(job.name))
            await hold.reached.wait()
            request = jobs_pb2.CancelJobRequest(name=job.name)
            cancelled = (await server.stub.CancelJob(request)).job
            assert cancelled.state in {
                jobs_pb2.JOB_STATE_CANCELLING,
                jobs_pb2.JOB_STATE_CANCELLED,
            }
            hold.go.set()
            assert (await watching)[-1].job.state == jobs_pb2.JOB_STATE_CANCELLED

    run(scenario)


def test_somebody_elses_job_cannot_be_watched(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            theirs = await refused(server.watching(job.name, user="bob"))
            nobodys = await refused(server.watching("jobs/nobodys", user="bob"))
            assert theirs.code is nobodys.code is grpc.StatusCode.NOT_FOUND
            assert theirs.message.replace(job.name, "jobs/nobodys") == nobodys.message

    run(scenario)


@pytest.mark.parametrize(
    ("name", "after", "field"),
    [("jobs", 0, "name"), ("JOB", -1, "after_revision"), ("JOB", 10**6, "after_revision")],
)
def test_a_watch_of_what_is_nothing_is_refused(tmp_path, name, after, field):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            found = await refused(server.watching(name.replace("JOB", job.name), after))
            assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])

    run(scenario)


def test_a_user_may_watch_so_many_jobs_at_once_and_no_more(tmp_path):
    async def scenario():
        executor, hold = held()
        async with served(tmp_path, executor=executor, quota_watchers=2) as server:
            job = await server.create()
            calls = [server.watching(job.name) for _ in range(2)]
            for call in calls:
                await call.read()
            found = await refused(server.watching(job.name))
            assert (found.code, found.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "WATCHERS_QUOTA",
            )
            assert found.quotas == ["watchers"]
            # One that is left makes room.
            calls[0].cancel()
            while server.servicer.watchers.of("alice") > 1:
                await asyncio.sleep(0.01)
            hold.go.set()
            assert (await server.watch(job.name))[-1].job.state == jobs_pb2.JOB_STATE_SUCCEEDED

    run(scenario)


def test_watchers_are_told_when_the_server_goes_down_and_when_to_come_back(tmp_path):
    async def scenario():
        executor, _ = held()
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            watching = [
                asyncio.ensure_future(refused(server.watching(job.name))) for _ in "ab"
            ]
            while server.servicer.watchers.total < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            server.servicer.drain()
            for found in await asyncio.gather(*watching):
                assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
                assert found.retry == 2.0
            stopping = asyncio.get_running_loop().time()
            await server.server.stop(30.0)
            assert asyncio.get_running_loop().time() - stopping < 15.0, "no stream is open"

    run(scenario)


BIG = {f"metric_{number}": float(number) for number in range(90)}


def many_points(server, count=15_000):
    """Store a job with many points, each with many metrics, 11 MB; return its name."""
    side = 200
    options = {"x": [-1, 1, side], "y": [-1, 1, side]}
    order = Order(model=MODEL, model_name="m", data=DataRef(name="digits"), options=options)
    job, _ = server.store.create_job(
        user="alice", order=order, spec=spec_for(order).to_json(), display_name="", priority=0,
        estimate=Estimate(count, 1.0, 1), notes=(), warnings=(), total=count,
        request_id=None, now=time.time(),
    )  # fmt: skip
    for start in range(0, count, 5000):
        server.store.put_points(
            job.id,
            [
                (Point(n // side, n % side, 0.0, 0.0), BIG, 0.0)
                for n in range(start, start + 5000)
            ],
        )
    server.store.move(job.id, JobEvent.CANCEL, now=time.time())
    return f"jobs/{job.id}"


def resident():
    """Return the resident memory of this process, in KB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def test_readers_that_are_slow_are_waited_for_and_cost_little_memory(tmp_path):
    async def scenario():
        async with served(tmp_path, quota_watchers=60) as server:
            name = many_points(server)
            gc.collect()
            before = resident()
            async with contextlib.AsyncExitStack() as stack:
                calls = []
                for _ in range(20):
                    channel = await stack.enter_async_context(
                        grpc.aio.insecure_channel(
                            server.address,
                            options=[("grpc.use_local_subchannel_pool", 1),
                                     ("grpc.http2.lookahead_bytes", 65536)],
                        )
                    )  # fmt: skip
                    stub = type(server.stub)(channel)
                    request = jobs_pb2.WatchJobRequest(name=name)
                    calls.append(stub.WatchJob(request, metadata=as_user("alice")))
                for call in calls:
                    await call.read()
                await asyncio.sleep(1.5)
                assert server.servicer.watchers.total == 20, "all of them wait to write"
                grown = resident() - before
                # All that could be sent is 220 MB, on either side; both are one process here,
                # and each client holds some MB that came although nobody reads them.
                assert grown < 160_000, f"{grown} KB"
                # Others are not held up, and a stalled one can still read everything.
                assert (await server.get(name)).point_count == 15_000
                count = 0
                while (response := await calls[0].read()) is not grpc.aio.EOF:
                    count += len(response.points.points)
                assert count == 15_000
                for call in calls[1:]:
                    call.cancel()
                while server.servicer.watchers.total:
                    await asyncio.sleep(0.02)

    run(scenario, timeout=120)


def test_a_stream_that_is_left_in_the_middle_of_a_write_leaves_nothing_behind(
    tmp_path, caplog
):
    async def scenario():
        async with served(tmp_path) as server:
            name = many_points(server)
            for _ in range(3):
                call = server.watching(name)
                await call.read()
                await asyncio.sleep(0.3)  # the server is blocked by now
                assert server.servicer.watchers.total == 1
                call.cancel()
                while server.servicer.watchers.total or server.calls["WatchJob"]:
                    await asyncio.sleep(0.01)

    run(scenario)
    assert [r.message for r in caplog.records if r.levelname in {"ERROR", "WARNING"}] == []
