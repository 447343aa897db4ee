"""Jobs are told, listed, cancelled and deleted, to the one whose they are."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from fake_executor import FakeExecutor, Hold
from jobs_server import as_user, refused, run, served, spec_message

from onnxscape.errors import StorageError
from onnxscape.v1 import jobs_pb2
from onnxscape.v1.jobs_pb2 import ListJobsRequest


async def several(server, count, **fields):
    """Create jobs, the oldest first; return their names."""
    return [
        (await server.create(spec_message(3, directions={"seed": seed}), **fields)).name
        for seed in range(count)
    ]


async def listed(server, user="alice", **fields):
    """Return the pages of a list."""
    pages, token = [], ""
    while True:
        request = ListJobsRequest(page_token=token, **fields)
        response = await server.stub.ListJobs(request, metadata=as_user(user))
        pages.append([job.name for job in response.jobs])
        token = response.next_page_token
        if not token:
            return pages


def test_jobs_are_listed_page_by_page_the_newest_first(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            assert await listed(server) == [[]]
            newest = (await several(server, 7))[::-1]
            assert await listed(server) == [newest]
            assert await listed(server, page_size=3) == [newest[:3], newest[3:6], newest[6:]]
            assert await listed(server, page_size=7) == [newest]
            assert await listed(server, page_size=10**6) == [newest]
            assert await listed(server, user="bob") == [[]]

    run(scenario)


def test_jobs_are_listed_by_state(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(), Hold()
        async with served(tmp_path, executor=executor) as server:
            done = await several(server, 2)
            for name in done:
                await server.finished(name)
            executor.at_point(2, 2, hold)
            running = (await server.create()).name
            await hold.reached.wait()
            states = [jobs_pb2.JOB_STATE_RUNNING]
            assert await listed(server, states=states) == [[running]]
            states.append(jobs_pb2.JOB_STATE_SUCCEEDED)
            assert await listed(server, states=states, page_size=2) == [
                [running, done[1]],
                [done[0]],
            ]
            assert await listed(server, states=[jobs_pb2.JOB_STATE_FAILED]) == [[]]

    run(scenario)


def test_a_list_goes_on_while_its_jobs_are_deleted(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            names = await several(server, 6)
            for name in names:
                await server.finished(name)
            found, token = [], ""
            while True:
                request = ListJobsRequest(page_size=2, page_token=token)
                response = await server.stub.ListJobs(request)
                for job in response.jobs:
                    found.append(job.name)
                    await server.stub.DeleteJob(jobs_pb2.DeleteJobRequest(name=job.name))
                token = response.next_page_token
                if not token:
                    break
            assert found == names[::-1]
            assert await listed(server) == [[]]

    run(scenario)


def test_a_page_ends_where_its_jobs_would_not_fit_into_a_message(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            for seed in range(4):
                patterns = [f"{number:01000d}" for number in range(900)]
                spec = spec_message(3, directions={"seed": seed, "include": patterns})
                await server.create(spec)
            pages = await listed(server)
            assert [len(page) for page in pages] == [2, 2]

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"page_token": "am9iczoxMA"}, "page_token"),
        ({"states": [0]}, "states[0]"),
        ({"states": [1, 99]}, "states[1]"),
    ],
)
def test_a_list_of_what_is_nothing_is_refused(tmp_path, fields, field):
    async def scenario():
        async with served(tmp_path) as server:
            found = await refused(server.stub.ListJobs(ListJobsRequest(**fields)))
            assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])

    run(scenario)


def test_a_token_of_somebody_else_shows_nothing_of_theirs(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            await several(server, 3)
            first = await server.stub.ListJobs(ListJobsRequest(page_size=1))
            request = ListJobsRequest(page_token=first.next_page_token)
            response = await server.stub.ListJobs(request, metadata=as_user("bob"))
            assert list(response.jobs) == []

    run(scenario)


@pytest.mark.parametrize("method", ["GetJob", "CancelJob", "DeleteJob"])
def test_somebody_elses_job_is_as_unknown_as_one_that_does_not_exist(tmp_path, method):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            await server.finished(job.name)
            call = getattr(server.stub, method)
            request = getattr(jobs_pb2, f"{method}Request")
            theirs = await refused(call(request(name=job.name), metadata=as_user("bob")))
            nobodys = await refused(call(request(name="jobs/nobody"), metadata=as_user("bob")))
            assert theirs.code is nobodys.code is grpc.StatusCode.NOT_FOUND
            assert theirs.message.replace(job.name, "jobs/nobody") == nobodys.message
            found = await refused(call(request(name="models/x")))
            assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["name"])
            assert (await server.get(job.name)).state == jobs_pb2.JOB_STATE_SUCCEEDED

    run(scenario)


def test_cancelling_again_or_too_late_changes_nothing(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(2, 2, hold)
        async with served(tmp_path, executor=executor) as server:
            request = jobs_pb2.CancelJobRequest(name=(await server.create()).name)
            await hold.reached.wait()
            for _ in range(2):
                job = (await server.stub.CancelJob(request)).job
                assert job.state in {
                    jobs_pb2.JOB_STATE_CANCELLING,
                    jobs_pb2.JOB_STATE_CANCELLED,
                }
            hold.go.set()
            cancelled = await server.finished(request.name)
            assert cancelled.state == jobs_pb2.JOB_STATE_CANCELLED
            assert (await server.stub.CancelJob(request)).job == cancelled
            done = await server.finished((await server.create(spec_message(3))).name)
            request.name = done.name
            assert (await server.stub.CancelJob(request)).job == done

    run(scenario)


def test_a_job_is_deleted_once_it_is_finished_with_its_surface(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(2, 2, hold)
        async with served(tmp_path, executor=executor) as server:
            job = await server.create(request_id="r")
            request = jobs_pb2.DeleteJobRequest(name=job.name)
            found = await refused(server.stub.DeleteJob(request))
            assert (found.code, found.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "JOB_NOT_FINISHED",
            )
            hold.go.set()
            await server.finished(job.name)
            assert list((tmp_path / "surfaces").glob("*.h5"))
            await server.stub.DeleteJob(request)
            assert list((tmp_path / "surfaces").glob("*.h5")) == []
            for call in (server.get(job.name), server.stub.DeleteJob(request)):
                assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND
            again = await server.create(request_id="r")
            assert again.name != job.name

    run(scenario)


def test_a_deleted_job_gives_back_the_bytes_that_nothing_else_of_its_user_needs(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            grants = server.catalog.grants
            server.add_blob("alice", b"model")  # the catalog's
            server.add_blob("alice", b"of no job")
            server.add_blob("bob", b"weights")
            weights = server.add_blob("alice", b"weights")
            left = grants.total("alice") - weights.size
            jobs = [
                await server.create(
                    spec_message(3, directions={"seed": seed}, weights=weights)
                )
                for seed in range(2)
            ]
            for job in jobs:
                assert grants.size("alice", weights.sha256) == weights.size
                await server.finished(job.name)
                await server.stub.DeleteJob(jobs_pb2.DeleteJobRequest(name=job.name))
            assert grants.size("alice", weights.sha256) is None
            assert grants.total("alice") == left
            assert grants.size("bob", weights.sha256) == weights.size

    run(scenario)


def test_jobs_expire_so_long_after_their_end(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(), Hold()
        async with served(tmp_path, executor=executor) as server:
            first = await server.create()
            ended = (await server.finished(first.name)).end_time.ToSeconds()
            executor.at_point(2, 2, hold)
            second = await server.create(spec_message(3))
            assert await server.servicer.expire(ended - 1.0) == 0
            assert await server.servicer.expire(ended + 1000.0) == 1
            assert (await refused(server.get(first.name))).code is grpc.StatusCode.NOT_FOUND
            assert list((tmp_path / "surfaces").glob("*.h5")) == []
            assert (await server.get(second.name)).state != jobs_pb2.JOB_STATE_SUCCEEDED
            hold.go.set()
            await server.finished(second.name)

    run(scenario)


def test_a_job_that_cannot_be_deleted_does_not_keep_others_from_expiring(tmp_path, caplog):
    async def scenario():
        async with served(tmp_path) as server:
            names = []
            for seed in range(3):
                job = await server.create(spec_message(3, directions={"seed": seed}))
                names.append((await server.finished(job.name)).name)
            delete, stuck = server.store.delete_job, names[0].removeprefix("jobs/")

            def failing(job_id):
                if job_id == stuck:
                    raise StorageError("no luck")
                delete(job_id)

            server.store.delete_job = failing
            assert await server.servicer.expire(time.time() + 1.0) == 2
            assert [job.id for job in server.store.jobs("alice", limit=9)] == [stuck]

    run(scenario)
    assert [r.job for r in caplog.records if r.message == "cannot delete a job"] != []


def test_a_job_under_way_tells_when_it_will_be_done(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(2, 2, hold)
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            await hold.reached.wait()
            told = await server.get(job.name)
            assert told.state == jobs_pb2.JOB_STATE_RUNNING
            assert told.estimate.completion.ToTimedelta().total_seconds() > 1
            hold.go.set()
            assert not (await server.finished(job.name)).estimate.HasField("completion")

    run(scenario)


def test_jobs_are_told_while_a_large_surface_is_read(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            reading, read = asyncio.Event(), server.store.results
            loop = asyncio.get_running_loop()

            def slowly(job_id):
                loop.call_soon_threadsafe(reading.set)
                time.sleep(0.5)
                return read(job_id)

            server.store.results = slowly
            big = await server.create(spec_message(7, directions={"seed": 9}))
            await server.coordinator.cancel(big.name.removeprefix("jobs/"))
            surface = asyncio.ensure_future(server.surface(big.name, 0))
            await reading.wait()
            for _ in range(20):
                assert (await server.get(job.name)).name == job.name
            assert not surface.done()
            await surface

    run(scenario)
