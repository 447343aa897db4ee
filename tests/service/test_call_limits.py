"""No caller, known or not, may use up the calls of the whole server."""

from __future__ import annotations

import asyncio
import contextlib
from unittest import mock

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from whole_server import Client, bearer, channel, digest_of, refused, run, whole

from onnxscape.service.access.call_limits import CallLimits
from onnxscape.v1 import blobs_pb2, catalog_pb2, jobs_pb2, server_pb2

Code = grpc.StatusCode
INFO = server_pb2.GetServerInfoRequest()
GET_INFO = "/onnxscape.v1.ServerService/GetServerInfo"
CHECK = "/grpc.health.v1.Health/Check"


async def never():
    """Requests that do not come."""
    await asyncio.Event().wait()
    yield b""


@contextlib.asynccontextmanager
async def silent(served, number, method=GET_INFO, metadata=()):
    """Begin calls that send nothing."""
    async with channel(served.server.address) as line:
        call = line.stream_unary(method)
        calls = [call(never(), metadata=metadata) for _ in range(number)]
        try:
            yield calls
        finally:
            for one in calls:
                one.cancel()


def limits(**fields):
    """Put other limits into servers."""
    return mock.patch(
        "onnxscape.service.server.CallLimits", lambda **named: CallLimits(**(named | fields))
    )


async def user_of(client):
    return (await client.call(client.about.GetServerInfo, INFO)).quota.user


@run
async def test_strangers_who_send_nothing_are_refused_at_once(tmp_path):
    async with whole(tmp_path, calls=10) as served, silent(served, 10) as calls:
        for call in calls:
            assert (await refused(call))[0] is Code.UNAUTHENTICATED
        assert await user_of(served.ann) == "ann"


@run
async def test_streams_open_to_all_leave_calls_to_users(tmp_path):
    with limits(of_strangers=3):
        async with whole(tmp_path, calls=20) as served, channel(served.server.address) as line:
            watch = health_pb2_grpc.HealthStub(line).Watch
            watching = [watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
            for call in watching:
                await call.read()
            one_more = watch(health_pb2.HealthCheckRequest())
            code, _, details = await refused(one_more.read())
            assert code is Code.RESOURCE_EXHAUSTED
            assert details["ErrorInfo"].reason == "TOO_MANY_CALLS"
            reflect = reflection_pb2_grpc.ServerReflectionStub(line).ServerReflectionInfo
            reflecting = [reflect(never()) for _ in range(4)]
            ended, _ = await asyncio.wait(
                [asyncio.ensure_future(refused(call.read())) for call in reflecting],
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert [task.result()[0] for task in ended] == [Code.RESOURCE_EXHAUSTED]
            assert await user_of(served.ann) == "ann"
            for call in (*watching, *reflecting):
                call.cancel()


@run
async def test_streams_open_to_all_end_after_their_time_and_may_be_opened_again(tmp_path):
    with limits(of_strangers=1, stranger_seconds=0.2):
        async with whole(tmp_path) as served:
            watch = health_pb2_grpc.HealthStub(served.stranger.channel).Watch
            for _ in range(2):
                call = watch(health_pb2.HealthCheckRequest())
                assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
                code, _, details = await refused(call.read())
                assert code is Code.UNAVAILABLE
                assert details["ErrorInfo"].reason == "CALL_TOO_LONG"
                assert "RetryInfo" in details


@run
async def test_a_request_that_does_not_come_is_not_waited_for(tmp_path):
    with limits(message_seconds=0.2, stranger_message_seconds=0.2):
        async with whole(tmp_path) as served:
            ann = bearer(served.secrets["ann"])
            for method, metadata in ((GET_INFO, ann), (CHECK, ())):
                async with silent(served, 1, method, metadata) as (call,):
                    code, _, details = await refused(call)
                    assert code is Code.DEADLINE_EXCEEDED
                    assert details["ErrorInfo"].reason == "REQUEST_TOO_SLOW"


@run
async def test_a_method_of_one_request_takes_neither_none_nor_two(tmp_path):
    async with whole(tmp_path) as served:
        call = served.stranger.channel.stream_unary(GET_INFO)
        for requests in ([], [b"", b""]):
            answer = call(iter(requests), metadata=bearer(served.secrets["ann"]))
            code, _, details = await refused(answer)
            assert code is Code.INVALID_ARGUMENT
            assert details["ErrorInfo"].reason == "NOT_ONE_REQUEST"


@run
async def test_a_user_has_so_many_calls_and_others_have_their_own(tmp_path):
    async with whole(tmp_path, calls_per_user=2) as served:
        metadata = bearer(served.secrets["ann"])
        async with silent(served, 3, metadata=metadata) as calls:
            waiting = {asyncio.ensure_future(refused(call)) for call in calls}
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            ((code, _, details),) = [task.result() for task in ended]
            assert code is Code.RESOURCE_EXHAUSTED
            assert details["ErrorInfo"].reason == "TOO_MANY_CALLS"
            assert "RetryInfo" in details
            assert await user_of(served.bob) == "bob"
            for task in waiting:
                task.cancel()
        ann = Client(served.ann.channel, metadata)
        async with asyncio.timeout(10):
            while (await outcome(ann)) is not None:
                await asyncio.sleep(0.05)
        assert await user_of(ann) == "ann"


@run
async def test_a_server_that_drains_begins_no_call_of_users_and_answers_health(tmp_path):
    going = asyncio.Event()
    async with whole(tmp_path) as served:

        async def drain(_seconds):
            await going.wait()

        with mock.patch.object(served.parts.coordinator, "drain", drain):
            draining = asyncio.create_task(served.server.drain())
            await asyncio.sleep(0.1)
            model = catalog_pb2.CreateModelRequest(blob=digest_of(b"model"))
            surface = jobs_pb2.ReadSurfaceRequest(name="jobs/a")
            ann = served.ann
            for call in (
                ann.write(b"data"),
                user_of(ann),
                ann.call(ann.catalog.CreateModel, model),
                ann.jobs.ReadSurface(surface, metadata=ann.metadata).read(),
            ):
                code, _, details = await refused(call)
                assert code is Code.UNAVAILABLE
                assert details["ErrorInfo"].reason == "DRAINING"
                assert details["RetryInfo"].retry_delay.seconds > 0
            health = health_pb2_grpc.HealthStub(served.stranger.channel)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            going.set()
            await draining


@run
async def test_a_server_that_drains_waits_for_an_upload_under_way(tmp_path):
    async with whole(tmp_path) as served:
        content, go_on = b"data" * 1000, asyncio.Event()

        async def pieces():
            yield blobs_pb2.WriteBlobRequest(digest=digest_of(content), data=content[:100])
            await go_on.wait()
            yield blobs_pb2.WriteBlobRequest(offset=100, data=content[100:])

        writing = asyncio.ensure_future(
            served.ann.blobs.WriteBlob(pieces(), metadata=served.ann.metadata)
        )
        await asyncio.sleep(0.2)
        draining = asyncio.create_task(served.server.drain())
        with mock.patch("onnxscape.service.server._STOP_SECONDS", 0.0):
            await asyncio.sleep(0.5)
            assert not draining.done()
            go_on.set()
            await writing
            await draining
        assert served.parts.folder.has(digest_of(content).sha256)


async def outcome(client):
    """Return the code of a refusal, None if there is none."""
    try:
        await user_of(client)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None
