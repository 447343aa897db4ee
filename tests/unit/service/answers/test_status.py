"""Errors are answered with precise statuses that fit into the headers and leak nothing."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import grpc
import grpc.aio
import pytest
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from onnxscape import errors
from onnxscape.jobs.states import JobState
from onnxscape.service.answers.rich_errors import (
    BadRequestError,
    BlobsMissingError,
    Exceeded,
    ExhaustedError,
    NotFoundError,
    StatusError,
    Violation,
    retry_info,
)
from onnxscape.service.answers.status import CODES, StatusInterceptor, status_error
from onnxscape.service.answers.times import duration, timestamp
from onnxscape.service.jobs.messages import STATES
from onnxscape.v1 import jobs_pb2

Code = grpc.StatusCode


def subclasses(kind):
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_every_error_class_has_its_code():
    assert set(CODES) == subclasses(errors.OnnxscapeError)


@pytest.mark.parametrize(
    ("kind", "code"),
    [  # as the comments of the .proto files promise
        (errors.UsageError, Code.INVALID_ARGUMENT),
        (errors.GridError, Code.INVALID_ARGUMENT),
        (errors.DataError, Code.INVALID_ARGUMENT),
        (errors.ModelFileError, Code.INVALID_ARGUMENT),
        (errors.RequestIdConflictError, Code.ALREADY_EXISTS),
        (errors.ServerBusyError, Code.RESOURCE_EXHAUSTED),
        (errors.DiskFullError, Code.RESOURCE_EXHAUSTED),
        (errors.StorageError, Code.UNAVAILABLE),
    ],
)
def test_errors_have_the_codes_that_the_contract_promises(kind, code):
    assert status_error(kind("what went wrong")).code is code


def test_no_error_is_told_as_one_that_is_not_known():
    assert not {Code.UNKNOWN, Code.OK, Code.UNIMPLEMENTED} & set(CODES.values())


def test_every_state_has_its_number():
    assert set(STATES) == set(JobState)
    numbers = set(jobs_pb2.JobState.values()) - {jobs_pb2.JOB_STATE_UNSPECIFIED}
    assert set(STATES.values()) == numbers
    for state, number in STATES.items():
        assert jobs_pb2.JobState.Name(number) == f"JOB_STATE_{state.name}"


@pytest.mark.parametrize("kind", sorted(CODES, key=lambda kind: kind.__name__))
def test_an_errors_class_is_its_reason(kind):
    status = status_error(kind("what was expected")).to_status()
    info = ErrorInfo()
    status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (kind.__name__, "onnxscape")
    assert status.code == CODES[kind].value[0]


@pytest.mark.parametrize(
    "error",
    [ValueError("/secret"), KeyError("/secret"), errors.StorageError("/secret"),
     errors.SurfaceFileError("/secret"), errors.OutputError("/secret")],
)  # fmt: skip
def test_the_servers_own_trouble_is_logged_under_an_id_and_not_told(error, caplog):
    with caplog.at_level(logging.ERROR):
        status = status_error(error).to_status()
    assert "secret" not in str(status)
    info = ErrorInfo()
    status.details[0].Unpack(info)
    assert info.metadata["error_id"] in status.message
    assert info.metadata["error_id"] in caplog.text
    assert "/secret" in caplog.text


def test_trouble_that_passes_says_when_to_try_again():
    for kind in (errors.StorageError, errors.ServerBusyError):
        status = status_error(kind("x")).to_status()
        assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)


def test_bytes_that_are_no_message_are_the_callers_mistake():
    assert status_error(DecodeError("x")).code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("seconds", "parts"), [(0, (0, 0)), (1.5, (1, 500_000_000)), (-3, (0, 0))]
)
def test_delays_are_told_to_the_nanosecond(seconds, parts):
    delay = retry_info(seconds).retry_delay
    assert (delay.seconds, delay.nanos) == parts


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300])
def test_times_that_no_message_holds_are_the_longest(seconds):
    assert duration(seconds).ToJsonString() == "315576000000s"


def test_times_before_the_epoch_and_just_before_a_second_are_valid():
    assert timestamp(-0.25).ToJsonString() == "1969-12-31T23:59:59.750Z"
    assert timestamp(1 - 1e-12).nanos < 10**9


class Failing(grpc.GenericRpcHandler):
    """Methods of all four kinds, made by a test."""

    def __init__(self, **methods):
        self._methods = methods

    def service(self, details):
        name = details.method.rpartition("/")[2]
        kind, method = self._methods[name]
        return getattr(grpc, f"{kind}_rpc_method_handler")(method)


async def status_of(kind, method):
    """Call a method; return the status that the client sees."""
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    server.add_generic_rpc_handlers((Failing(Method=(kind, method)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            make = getattr(channel, kind)("/service/Method")
            call = make(b"") if kind.startswith("unary") else make(iter([b"", b""]))
            try:
                if kind.endswith("unary"):
                    return await call
                answers = [answer async for answer in call]
            except grpc.aio.AioRpcError as error:
                return error
            return answers
    finally:
        await server.stop(0)


def raising(kind, error):
    async def coroutine(_request, _context):
        raise error

    async def generator(_request, _context):
        yield b"first"
        raise error

    return generator if kind.endswith("stream") else coroutine


KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_methods_of_all_kinds_answer_what_they_raise(kind):
    error = asyncio.run(status_of(kind, raising(kind, errors.GridError("no points"))))
    assert (error.code(), error.details()) == (Code.INVALID_ARGUMENT, "no points")


@pytest.mark.parametrize("kind", KINDS)
def test_methods_of_all_kinds_keep_a_mistake_of_ours_to_themselves(kind):
    error = asyncio.run(status_of(kind, raising(kind, RuntimeError("/secret"))))
    assert error.code() is Code.INTERNAL
    assert "secret" not in error.details()


def test_a_status_that_a_method_gives_itself_is_left_alone():
    async def aborting(_request, context):
        await context.abort(Code.ABORTED, "mine")

    error = asyncio.run(status_of("unary_unary", aborting))
    assert (error.code(), error.details()) == (Code.ABORTED, "mine")


def test_a_method_that_is_not_there_is_not_implemented():
    async def scenario():
        server = grpc.aio.server(interceptors=[StatusInterceptor()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/nothing/Here")(b"")
        await server.stop(0)
        assert caught.value.code() is Code.UNIMPLEMENTED

    asyncio.run(scenario())


HUGE = ["x" * 10**5, "ü" * 10**5, "%\n" * 10**5, "\U0001f600" * 10**5]


@pytest.mark.parametrize("text", HUGE)
@pytest.mark.parametrize(
    "make",
    [
        lambda text: StatusError(Code.INTERNAL, "REASON", text),
        lambda text: BadRequestError([Violation(text, text)] * 1000),
        lambda text: NotFoundError("job", text),
        lambda _text: BlobsMissingError(f"{n:064x}" for n in range(1000)),
        lambda text: ExhaustedError("R", text, exceeded=[Exceeded("s", text)] * 9,
                                    retry_seconds=1),
    ],
)  # fmt: skip
def test_whatever_is_said_arrives(make, text):
    error = asyncio.run(status_of("unary_unary", raising("unary_unary", make(text))))
    assert error.code() is make(text).code, error.details()
    assert error.details()


def test_a_server_of_jobs_never_loads_what_runs_models():
    code = (
        "import sys, onnxscape.service.jobs.job_service, onnxscape.jobs.coordinator;"
        "print([m for m in ('onnxruntime', 'onnx', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert found.stdout.split() == [b"[]"]
