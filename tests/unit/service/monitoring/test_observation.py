"""Every call must be counted once under its status, logged, and answered with its id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_status import rpc_status

from onnxscape.service.monitoring import logs
from onnxscape.service.monitoring.metrics import Reading, ServerMetrics
from onnxscape.service.monitoring.observation import ObservingInterceptor
from onnxscape.v1 import jobs_pb2, jobs_pb2_grpc, server_pb2, server_pb2_grpc

INFO = "/onnxscape.v1.ServerService/GetServerInfo"
WATCH = "/onnxscape.v1.JobService/WatchJob"
DELETE = "/onnxscape.v1.JobService/DeleteJob"


def rich():
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason="FULL", domain="onnxscape"))
    status = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="full")
    status.details.append(detail)
    return rpc_status.to_status(status)


class Server(server_pb2_grpc.ServerServiceServicer, jobs_pb2_grpc.JobServiceServicer):
    def __init__(self):
        self.end = "returns"
        self.watched = asyncio.Event()

    async def GetServerInfo(self, request, context):  # noqa: N802 - gRPC's
        if self.end == "aborts":
            await context.abort(grpc.StatusCode.NOT_FOUND, "none")
        if self.end == "aborts richly":
            context.set_trailing_metadata((("other", "1"),))
            await context.abort_with_status(rich())
        if self.end == "sets a code":
            context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
        if self.end == "sets metadata":
            context.set_trailing_metadata((("other", "1"),))
        if self.end == "raises":
            raise ValueError("a mistake")
        return server_pb2.GetServerInfoResponse(version=logs.bound()["request_id"])

    async def DeleteJob(self, request, context):  # noqa: N802 - gRPC's
        logs.bind(user="alice")
        return jobs_pb2.DeleteJobResponse()

    async def WatchJob(self, request, context):  # noqa: N802 - gRPC's
        try:
            for revision in range(1, 3):
                yield jobs_pb2.WatchJobResponse(revision=revision)
            if self.end == "hangs":
                await asyncio.Event().wait()
            if self.end == "aborts":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        finally:
            self.watched.set()


class Running:
    """A server that is watched, and a channel to it."""

    def __init__(self, servicer, metrics, channel):
        self.servicer = servicer
        self.metrics = metrics
        self.info = server_pb2_grpc.ServerServiceStub(channel).GetServerInfo
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.channel = channel

    def count(self, method, code):
        labels = {"method": method, "code": code}
        name = "onnxscape_rpc_duration_seconds_count"
        return self.metrics.registry.get_sample_value(name, labels)

    def under_way(self, method):
        return self.metrics.registry.get_sample_value(
            "onnxscape_rpcs_in_flight", {"method": method}
        )


def with_server(test):
    """Runs an asynchronous test against a server."""

    async def run():
        metrics = ServerMetrics(Reading)
        server = grpc.aio.server(interceptors=[ObservingInterceptor(metrics)])
        servicer = Server()
        server_pb2_grpc.add_ServerServiceServicer_to_server(servicer, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await asyncio.wait_for(test(Running(servicer, metrics, channel)), 30)
        finally:
            await server.stop(0)

    asyncio.run(run())


async def ended(call):
    """Returns a call's code and its trailing metadata."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call
    return (await call.code()).name, dict(await call.trailing_metadata())


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("returns", "OK"),
        ("aborts", "NOT_FOUND"),
        ("aborts richly", "RESOURCE_EXHAUSTED"),
        ("sets a code", "FAILED_PRECONDITION"),
        ("raises", "UNKNOWN"),
    ],
)
def test_a_call_is_counted_once_under_the_status_that_the_client_sees(end, code):
    async def test(running):
        running.servicer.end = end
        seen, _ = await ended(running.info(server_pb2.GetServerInfoRequest()))
        assert seen == code
        assert running.count(INFO, code) == 1
        assert running.under_way(INFO) == 0

    with_server(test)


@pytest.mark.parametrize("end", ["returns", "aborts", "aborts richly", "sets metadata"])
def test_the_id_that_the_client_chose_is_the_calls_and_comes_back(end):
    async def test(running):
        running.servicer.end = end
        call = running.info(
            server_pb2.GetServerInfoRequest(), metadata=(("x-request-id", "mine.1"),)
        )
        _, metadata = await ended(call)
        assert metadata["x-request-id"] == "mine.1"
        if end == "returns":
            assert (await call).version == "mine.1"
        if end == "sets metadata":
            assert metadata["other"] == "1"

    with_server(test)


def test_details_of_an_error_are_left_as_they_are():
    async def test(running):
        running.servicer.end = "aborts richly"
        call = running.info(server_pb2.GetServerInfoRequest())
        _, metadata = await ended(call)
        status = Status.FromString(metadata["grpc-status-details-bin"])
        assert status.message == "full"
        detail = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(detail)
        assert detail.reason == "FULL"

    with_server(test)


def test_calls_without_an_id_get_different_ones():
    async def test(running):
        ids = set()
        for _ in range(3):
            _, metadata = await ended(running.info(server_pb2.GetServerInfoRequest()))
            assert re.fullmatch(r"[0-9a-f]{16}", metadata["x-request-id"])
            ids.add(metadata["x-request-id"])
        assert len(ids) == 3

    with_server(test)


@pytest.mark.parametrize(("end", "code"), [("returns", "OK"), ("aborts", "UNAVAILABLE")])
def test_a_stream_passes_as_it_is_and_is_counted_at_its_end(end, code):
    async def test(running):
        running.servicer.end = end
        call = running.jobs.WatchJob(jobs_pb2.WatchJobRequest(name="jobs/a"))
        revisions = [(await call.read()).revision for _ in range(2)]
        with contextlib.suppress(grpc.aio.AioRpcError):
            assert await call.read() is grpc.aio.EOF
        assert revisions == [1, 2]
        assert (await call.code()).name == code
        assert "x-request-id" in dict(await call.trailing_metadata())
        assert running.count(WATCH, code) == 1

    with_server(test)


def test_a_client_that_leaves_a_stream_ends_it_and_is_counted_as_cancelled():
    async def test(running):
        running.servicer.end = "hangs"
        call = running.jobs.WatchJob(jobs_pb2.WatchJobRequest(name="jobs/a"))
        await call.read()
        assert running.under_way(WATCH) == 1
        call.cancel()
        await asyncio.wait_for(running.servicer.watched.wait(), 10)
        deadline = time.monotonic() + 10
        while running.count(WATCH, "CANCELLED") != 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert running.under_way(WATCH) == 0

    with_server(test)


def test_methods_that_clients_make_up_do_not_become_metrics():
    async def test(running):
        for name in ("/onnxscape.v1.JobService/Nothing", "/a/b", "/" + "x" * 100):
            call = running.channel.unary_unary(name)
            code, _ = await ended(call(b""))
            assert code == "UNIMPLEMENTED"
        text = running.metrics.exposition().decode()
        assert "Nothing" not in text
        assert "xxx" not in text

    with_server(test)


def test_health_is_answered_as_without_watching():
    async def test(running):
        answer = await running.health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = running.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()

    with_server(test)


def test_the_end_of_a_change_is_logged_with_id_and_user_reading_only_if_it_fails(caplog):
    caplog.set_level(logging.DEBUG, logger="onnxscape.service.monitoring.observation")
    handler = caplog.handler
    handler.setFormatter(logs.JsonFormatter())

    async def test(running):
        mine = (("x-request-id", "mine.2"),)
        await running.jobs.DeleteJob(jobs_pb2.DeleteJobRequest(name="a"), metadata=mine)
        await running.info(server_pb2.GetServerInfoRequest())
        running.servicer.end = "raises"
        await ended(running.info(server_pb2.GetServerInfoRequest()))

    with_server(test)
    lines = [json.loads(line) for line in handler.stream.getvalue().splitlines()]
    ends = [line for line in lines if line["event"] == "call ended"]
    assert [(line["level"], line["code"]) for line in ends] == [
        ("info", "OK"),
        ("debug", "OK"),
        ("warning", "UNKNOWN"),
    ]
    assert ends[0]["method"] == DELETE
    assert (ends[0]["request_id"], ends[0]["user"]) == ("mine.2", "alice")
    assert ends[0]["seconds"] >= 0
