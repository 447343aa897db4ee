"""Orders over the wire: placed once, shared, refused for a reason."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import time

import grpc
import pytest
from fake_executor import FakeExecutor, Hold
from jobs_server import MODEL, refused, run, served, spec_for, spec_message

from onnxscape.errors import (
    DataError,
    DiskFullError,
    OutOfMemoryError,
    ServerBusyError,
    StorageError,
    UsageError,
)
from onnxscape.v1 import jobs_pb2


def held() -> tuple[FakeExecutor, Hold]:
    """Return an executor whose jobs stop at the center."""
    executor, hold = FakeExecutor(), Hold()
    for _ in range(20):
        executor.at_point(2, 2, hold)
    return executor, hold


def test_a_job_is_stored_once_it_is_created_and_then_computed(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create(display_name="mine", priority=7)
            assert job.name.startswith("jobs/")
            assert server.store.job(job.name.removeprefix("jobs/"), "alice") is not None
            done = await server.finished(job.name)
            assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED
            assert (done.point_total, done.point_count, done.failed_count) == (25, 25, 0)
            assert (done.display_name, done.priority, done.shared) == ("mine", 7, False)
            assert done.notes == ["a note"]
            assert done.warnings == ["a warning"]
            times = [
                t.seconds + t.nanos / 1e9
                for t in (done.create_time, done.start_time, done.end_time)
            ]
            assert times == sorted(times)
            assert json.loads(done.plan_json)["strategy"] == "constant"
            assert json.loads(done.outline_json)["loss"] == "closed form"
            (order,) = server.validator.orders
            assert json.loads(done.spec_json) == spec_for(order).to_dict()

    run(scenario)


def test_a_job_tells_the_spec_that_was_ordered(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            graph = server.add_blob("alice", b"a graph")
            spec = spec_message(
                3, split="test", samples={"count": 7},
                loss={"name": "own.onnx", "graphs": {"own.onnx": graph}},
            )  # fmt: skip
            job = await server.create(spec, execution={"device": "cpu", "batch_size": 5})
            told = (await server.get(job.name)).spec
            assert told.model == f"models/{MODEL}"
            assert told.data == "dataSets/digits"
            assert (told.split, told.samples.count) == ("test", 7)
            assert told.grid == spec.grid
            assert told.loss.graphs["own.onnx"] == graph
            again = await server.create(told, execution=job.execution)
            assert (again.name, again.shared) == (job.name, True)

    run(scenario)


def test_uploaded_data_keep_their_name_and_their_format(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            mine = next(d for d in server.catalog.data_sets.page("alice", limit=9) if d.sha256)
            job = await server.create(spec_message(data=f"dataSets/{mine.id}"))
            assert job.spec.data == f"dataSets/{mine.id}"
            (order,) = server.validator.orders
            assert (order.data.blob, order.data.layout) == (mine.sha256, "NCHW")
            assert order.data.arrays == ("x", "y")

    run(scenario)


def test_a_model_that_the_server_offers_keeps_its_name(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create(spec_message(model="models/offered"), user="bob")
            assert job.spec.model == "models/offered"

    run(scenario)


def test_validating_tells_the_cost_and_stores_nothing(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create(validate_only=True, request_id="r")
            assert job.name == ""
            assert job.estimate.points == 25
            assert job.estimate.device_time.ToTimedelta().total_seconds() == 12.5
            assert job.estimate.memory == 1 << 20
            assert job.estimate.HasField("completion")
            assert json.loads(job.spec_json)["samples"] == 100
            assert server.store.jobs("alice", limit=9) == []
            assert server.store.find_request("alice", "r") is None
            assert server.executor.runs == []

    run(scenario)


def test_the_same_request_makes_one_job_however_often_it_comes(tmp_path):
    async def scenario():
        executor, _ = held()
        async with served(tmp_path, executor=executor) as server:
            jobs = await asyncio.gather(*(server.create(request_id="r") for _ in range(5)))
            assert len({job.name for job in jobs}) == 1
            assert len(server.store.jobs("alice", limit=9)) == 1
            again = await server.create(request_id="r")
            assert (again.name, again.shared) == (jobs[0].name, False)

    run(scenario)


def test_the_same_request_is_answered_by_a_server_that_was_restarted(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            first = await server.create(request_id="r")
        async with served(tmp_path) as server:
            assert (await server.create(request_id="r")).name == first.name
            assert (await server.finished(first.name)).state == jobs_pb2.JOB_STATE_SUCCEEDED
            assert server.validator.orders == []  # nothing is found out twice

    run(scenario)


def test_a_request_id_stands_for_one_order(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            first = await server.create(request_id="r")
            found = await refused(server.create(spec_message(7), request_id="r"))
            assert found.code is grpc.StatusCode.ALREADY_EXISTS
            assert found.reason == "RequestIdConflictError"
            assert first.name in found.message
            # It is the user's own name: another user's says nothing.
            model = {"model": "models/offered"}
            other = await server.create(spec_message(7, **model), user="bob", request_id="r")
            assert other.name != first.name

    run(scenario)


def test_equal_orders_of_a_user_share_a_job(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            first = await server.create()
            shared = await server.create(request_id="another")
            assert (shared.name, shared.shared) == (first.name, True)
            await server.finished(first.name)
            assert (await server.create()).name == first.name
            validated = await server.create(validate_only=True)
            assert (validated.name, validated.shared) == (first.name, True)
            other = await server.create(spec_message(directions={"seed": 1}))
            assert (other.name != first.name, other.shared) == (True, False)

    run(scenario)


def test_equal_orders_of_two_users_are_two_jobs(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            spec = spec_message(model="models/offered")
            jobs = [await server.create(spec, user=user) for user in ("alice", "bob")]
            assert jobs[0].name != jobs[1].name
            assert not jobs[1].shared

    run(scenario)


def test_what_was_cancelled_is_no_answer_to_an_equal_order(tmp_path):
    async def scenario():
        executor, hold = held()
        async with served(tmp_path, executor=executor) as server:
            first = await server.create()
            await hold.reached.wait()
            await server.stub.CancelJob(jobs_pb2.CancelJobRequest(name=first.name))
            again = await server.create()
            assert (again.name != first.name, again.shared) == (True, False)

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model": "models/unknown"}, "model"),
        ({"model": f"models/{hashlib.sha256(b'?').hexdigest()}"}, "model"),
        ({"data": "dataSets/cifar10"}, "data set"),
    ],
)
def test_names_that_the_caller_does_not_have_are_not_found(tmp_path, fields, kind):
    async def scenario():
        async with served(tmp_path) as server:
            found = await refused(server.create(spec_message(**fields)))
            assert found.code is grpc.StatusCode.NOT_FOUND
            assert found.reason == "NOT_FOUND"
            assert f"the name of a {kind}" in found.message
            assert server.validator.orders == []

    run(scenario)


def test_somebody_elses_model_is_as_unknown_as_one_that_does_not_exist(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            theirs = await refused(server.create(user="bob"))
            nobodys = await refused(server.create(spec_message(model="models/x"), user="bob"))
            assert theirs.code is nobodys.code is grpc.StatusCode.NOT_FOUND
            assert theirs.message.replace(MODEL, "x") == nobodys.message

    run(scenario)


@pytest.mark.parametrize("content", [None, b"not alice's"])
def test_blobs_that_the_caller_has_not_written_are_missing(tmp_path, content):
    async def scenario():
        async with served(tmp_path) as server:
            digest = {"sha256": "1" * 64, "size": 3}
            if content is not None:
                digest = server.add_blob("bob", content)
            found = await refused(server.create(spec_message(weights=digest)))
            assert found.code is grpc.StatusCode.FAILED_PRECONDITION
            assert found.reason == "BLOBS_MISSING"

    run(scenario)


def test_a_blob_of_another_size_is_another_blob(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            digest = server.add_blob("alice", b"weights")
            digest.size += 1
            found = await refused(server.create(spec_message(weights=digest)))
            assert found.reason == "BLOBS_MISSING"

    run(scenario)


def test_a_split_that_the_data_lack_is_refused(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            record = server.catalog.data_sets.get("alice", "digits")
            server.catalog.data_sets.put(dataclasses.replace(record, splits=("train",)))
            found = await refused(server.create(spec_message(split="test")))
            assert (found.code, found.fields) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                ["spec.split"],
            )

    run(scenario)


def test_fields_that_mean_nothing_come_with_their_paths(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            spec = spec_message(grid={"x": {"start": 0, "stop": 1, "num": 1}}, split="none")
            found = await refused(server.create(spec, priority=1000))
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT
            assert set(found.fields) == {"spec.grid.x.num", "spec.split", "priority"}
            assert "spec.split: expected one of train, test, got 'none'" in found.message

    run(scenario)


def test_a_refusal_of_a_thousand_fields_still_fits_into_the_headers(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            spec = spec_message(directions={"include": ["ü" * 1100] * 400})
            found = await refused(server.create(spec))
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT
            assert found.fields[0] == "spec.directions.include[0]"
            assert "and 397 more" in found.message

    run(scenario)


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (UsageError("--loss mse is not for classes"), grpc.StatusCode.INVALID_ARGUMENT, None),
        (DataError("no labels"), grpc.StatusCode.INVALID_ARGUMENT, None),
        (OutOfMemoryError("too little"), grpc.StatusCode.RESOURCE_EXHAUSTED, None),
        (ServerBusyError("many wait"), grpc.StatusCode.RESOURCE_EXHAUSTED, 5.0),
    ],
)
def test_what_a_validator_refuses_is_refused_for_its_reason(tmp_path, error, code, retry):
    async def scenario():
        async with served(tmp_path) as server:
            server.validator.error = error
            found = await refused(server.create())
            assert (found.code, found.reason) == (code, type(error).__name__)
            assert (found.message, found.retry) == (str(error), retry)
            assert server.validator.users == ["alice"]
            assert server.store.jobs("alice", limit=9) == []

    run(scenario)


def test_a_caller_who_leaves_before_the_answer_has_either_a_job_that_runs_or_none(tmp_path):
    async def scenario():
        async with served(tmp_path, validating=False) as server:
            leaving = asyncio.ensure_future(server.create())
            while not server.validator.orders:
                await asyncio.sleep(0.01)
            leaving.cancel()
            while server.calls["CreateJob"]:
                await asyncio.sleep(0.01)
            server.validator.go.set()
            assert server.store.jobs("alice", limit=9) == []
            # While the job is being stored it is too late to leave.
            storing = server.store.create_job
            started = asyncio.Event()
            loop = asyncio.get_running_loop()

            def slowly(**fields):
                loop.call_soon_threadsafe(started.set)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.2), loop).result()
                return storing(**fields)

            server.store.create_job = slowly
            leaving = asyncio.ensure_future(server.create())
            await started.wait()
            leaving.cancel()
            while not (jobs := server.store.jobs("alice", limit=9)):
                await asyncio.sleep(0.01)
            assert (await server.finished(f"jobs/{jobs[0].id}")).point_count == 25

    run(scenario)


def test_a_user_may_have_so_many_unfinished_jobs_and_no_more(tmp_path):
    async def scenario():
        executor, hold = held()
        async with served(tmp_path, executor=executor, quota_jobs=2) as server:
            specs = [spec_message(directions={"seed": seed}) for seed in range(4)]
            first = await server.create(specs[0])
            await server.create(specs[1])
            for validate_only in (False, True):
                found = await refused(server.create(specs[2], validate_only=validate_only))
                assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert (found.reason, found.quotas) == ("JOBS_QUOTA", ["jobs"])
                assert "2 of your jobs are not finished, of at most 2" in found.message
            # What costs nothing is not refused, and others have their own.
            assert (await server.create(specs[0])).name == first.name
            await server.create(spec_message(model="models/offered"), user="bob")
            hold.go.set()
            await server.finished(first.name)
            await server.create(specs[2])

    run(scenario)


def test_of_orders_at_the_same_time_no_more_are_taken_than_there_is_room_for(tmp_path):
    async def scenario():
        executor, _ = held()
        async with served(tmp_path, executor=executor, quota_jobs=3) as server:
            specs = [spec_message(directions={"seed": seed}) for seed in range(10)]
            answers = await asyncio.gather(
                *(server.create(spec) for spec in specs), return_exceptions=True
            )
            taken = [answer for answer in answers if isinstance(answer, jobs_pb2.Job)]
            assert len(taken) == len(server.store.jobs("alice", limit=99)) == 3
            codes = {a.code() for a in answers if isinstance(a, grpc.aio.AioRpcError)}
            assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}

    run(scenario)


@pytest.mark.parametrize(
    ("settings", "changed", "reason", "quotas"),
    [
        ({"worker_memory": 999}, {"memory": 1000}, "JOB_TOO_LARGE", ["memory"]),
        ({"job_device_seconds": 12.0}, {}, "JOB_TOO_LARGE", ["job_device_time"]),
        ({"quota_device_seconds": 12.0}, {}, "DEVICE_TIME_QUOTA", ["device_time"]),
    ],
)
def test_a_job_that_costs_too_much_is_refused(tmp_path, settings, changed, reason, quotas):
    async def scenario():
        async with served(tmp_path, **settings) as server:
            server.validator.changed = changed
            found = await refused(server.create())
            assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (found.reason, found.quotas, found.retry) == (reason, quotas, None)

    run(scenario)


def test_device_time_that_was_used_and_that_is_ordered_count_together(tmp_path):
    async def scenario():
        executor, hold = held()
        settings = {"quota_device_seconds": 30.0}
        async with served(tmp_path, executor=executor, **settings) as server:
            first = await server.create()  # 12.5 s are expected of it
            second = await server.create(spec_message(directions={"seed": 1}))
            found = await refused(server.create(spec_message(directions={"seed": 2})))
            assert found.reason == "DEVICE_TIME_QUOTA"
            hold.go.set()
            for job in (first, second):
                await server.finished(job.name)
            third = await server.create(spec_message(directions={"seed": 2}))
            await server.finished(third.name)  # all of them took no time
            server.store.charge("alice", first.name.removeprefix("jobs/"), 20.0, time.time())
            found = await refused(server.create(spec_message(directions={"seed": 3})))
            assert "have used 20" in found.message
            await server.create(spec_message(3, directions={"seed": 3}))  # 4.5 s

    run(scenario)


def test_a_server_that_is_full_says_when_to_come_again(tmp_path):
    async def scenario():
        executor, _ = held()
        async with served(tmp_path, executor=executor, unfinished_jobs=1) as server:
            await server.create()
            spec = spec_message(model="models/offered")
            found = await refused(server.create(spec, user="bob"))
            assert (found.code, found.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "SERVER_FULL",
            )
            assert found.retry == 10.0

    run(scenario)


def test_a_server_that_goes_down_takes_no_orders(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            server.servicer.drain()
            found = await refused(server.create())
            assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert found.retry == 2.0

    run(scenario)


def test_an_order_that_cannot_be_stored_is_an_error_of_the_server_that_passes(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            create = server.store.create_job
            for error, code in (
                (StorageError("/secret/jobs.sqlite broke"), grpc.StatusCode.UNAVAILABLE),
                (DiskFullError("no room"), grpc.StatusCode.RESOURCE_EXHAUSTED),
            ):

                def fail(error=error, **_fields):
                    raise error

                server.store.create_job = fail
                found = await refused(server.create())
                assert found.code is code
                assert "secret" not in found.message
            server.store.create_job = create
            job = await server.create()
            assert (await server.finished(job.name)).state == jobs_pb2.JOB_STATE_SUCCEEDED

    run(scenario)


@pytest.mark.parametrize("again", [{"request_id": "r"}, {}], ids=["same-request", "equal"])
def test_an_order_that_was_stored_but_not_submitted_is_by_the_next_try(tmp_path, again):
    async def scenario():
        async with served(tmp_path) as server:
            weights = server.store.weights

            def fail():
                raise StorageError("cannot be read")

            server.store.weights = fail
            found = await refused(server.create(request_id="r"))
            assert found.code is grpc.StatusCode.UNAVAILABLE
            (stored,) = server.store.unfinished()
            server.store.weights = weights
            job = await server.create(**again)
            assert job.name == f"jobs/{stored.id}"
            assert (await server.finished(job.name)).state == jobs_pb2.JOB_STATE_SUCCEEDED

    run(scenario)


def test_a_user_may_keep_so_many_jobs_and_has_to_delete_some_before_the_next(tmp_path):
    async def scenario():
        async with served(tmp_path, quota_kept_jobs=2) as server:
            jobs = [await server.create(spec_message(num)) for num in (3, 4)]
            for job in jobs:
                await server.finished(job.name)
            found = await refused(server.create())
            assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (found.reason, found.quotas) == ("KEPT_JOBS_QUOTA", ["kept_jobs"])
            assert "2 jobs of yours are kept, of at most 2; delete some" in found.message
            assert (await server.create(spec_message(3))).name == jobs[0].name  # none more
            await server.stub.DeleteJob(jobs_pb2.DeleteJobRequest(name=jobs[1].name))
            assert (await server.create()).name

    run(scenario)


def test_random_bytes_are_no_request(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                for path in ("CreateJob", "GetJob", "ListJobs", "DeleteJob"):
                    call = channel.unary_unary(f"/onnxscape.v1.JobService/{path}")
                    found = await refused(call(b"\xff\xfe\x0a\x85"))
                    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
                    assert found.reason == "MALFORMED_REQUEST"
                found = await refused(
                    channel.unary_stream("/onnxscape.v1.JobService/WatchJob")(b"\xff")
                )
                assert found.reason == "MALFORMED_REQUEST"
            assert (await server.create()).name

    run(scenario)
