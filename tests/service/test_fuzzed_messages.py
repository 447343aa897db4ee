"""Messages of strangers: whatever comes, a precise status answers, and the server lives."""

from __future__ import annotations

import math
import random

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from whole_server import run, whole

from onnxscape.v1 import blobs_pb2, catalog_pb2, jobs_pb2, server_pb2

_Code = grpc.StatusCode

PRECISE = {
    _Code.OK,
    _Code.INVALID_ARGUMENT,
    _Code.NOT_FOUND,
    _Code.FAILED_PRECONDITION,
    _Code.RESOURCE_EXHAUSTED,
    _Code.ALREADY_EXISTS,
    _Code.OUT_OF_RANGE,
    _Code.PERMISSION_DENIED,
    _Code.DATA_LOSS,
}
"""What a stranger's message may be answered by; INTERNAL and UNKNOWN are mistakes of ours."""

METHODS = [
    (f"/{service.full_name}/{method.name}", method)
    for module in (blobs_pb2, catalog_pb2, jobs_pb2, server_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]

TEXTS = (
    "",
    "jobs/",
    "jobs/../../etc/passwd",
    "models/public",
    "dataSets/digits",
    "dataSets/..%2f..%2fetc",
    "../uploads",
    "/etc/passwd",
    "module:function",
    "loss.onnx",
    "\x00",
    "x" * 5000,
    "ü\u202e\N{PILE OF POO}",
    "a" * 64,
    "train",
    "cross-entropy",
    "1e999",
    "'; DROP TABLE jobs; --",
)
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 7)
WIDE = (*NUMBERS, 2**63 - 1, -(2**63), 2**40)
CHOICES = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_INT32: NUMBERS,
    FieldDescriptor.TYPE_INT64: WIDE,
    FieldDescriptor.TYPE_UINT64: (0, 1, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: (0, 1, 2, 7, 99, -5),
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_DOUBLE: (
        0.0,
        1.0,
        -1.0,
        math.nan,
        math.inf,
        -math.inf,
        1e308,
        5e-324,
    ),
}


def value(field: FieldDescriptor, draw: random.Random, depth: int):
    """Return something that a field of a message can hold."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return message(field.message_type, draw, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw.randbytes(draw.choice((0, 1, 100, 70_000)))
    return draw.choice(CHOICES[field.type])


def message(descriptor, draw: random.Random, depth: int = 0):
    """Return a message whose fields hold whatever they can."""
    made = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if draw.random() < 0.4 or depth > 5:
            continue
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            entry = field.message_type.fields_by_name
            for _ in range(draw.choice((1, 3))):
                key = value(entry["key"], draw, depth)
                if entry["value"].message_type is not None:
                    target = getattr(made, field.name)[key]
                    target.CopyFrom(value(entry["value"], draw, depth))
                else:
                    getattr(made, field.name)[key] = value(entry["value"], draw, depth)
        elif field.is_repeated:
            items = [value(field, draw, depth) for _ in range(draw.choice((0, 1, 3)))]
            getattr(made, field.name).extend(items)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(value(field, draw, depth))
        else:
            setattr(made, field.name, value(field, draw, depth))
    return made


async def answer(channel: grpc.aio.Channel, path, method, contents, metadata):
    """Send bytes as they are.

    Returns:
        The status, and what was said with it.
    """
    streams = method.client_streaming, method.server_streaming
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
    }[streams]
    request = iter(contents) if streams[0] else contents[0]
    call = make(path)(request, metadata=metadata, timeout=10)
    try:
        if streams[1]:
            async for _ in call:
                break
            call.cancel()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return _Code.OK, ""


@pytest.mark.parametrize("seed", range(6))
def test_messages_of_any_content_get_a_precise_status(tmp_path, seed):
    draw = random.Random(seed)  # noqa: S311 - no secret

    async def test():
        async with whole(tmp_path / "server") as server:
            for path, method in METHODS:
                for _ in range(12):
                    count = draw.choice((1, 1, 3)) if method.client_streaming else 1
                    made = [message(method.input_type, draw) for _ in range(count)]
                    contents = [one.SerializeToString() for one in made]
                    code, said = await answer(
                        server.ann.channel, path, method, contents, server.ann.metadata
                    )
                    assert code in PRECISE, (path, made, code, said)
                    assert str(tmp_path) not in said, said
            await server.ann.about.GetServerInfo(
                server_pb2.GetServerInfoRequest(), metadata=server.ann.metadata
            )

    run(test)()


def test_bytes_that_are_no_message_are_refused(tmp_path):
    draw = random.Random(7)  # noqa: S311 - no secret

    async def test():
        async with whole(tmp_path / "server") as server:
            for path, method in METHODS:
                for size in (1, 10, 1000):
                    contents = [b"\xff" * size, draw.randbytes(size)]
                    code, said = await answer(
                        server.ann.channel, path, method, contents, server.ann.metadata
                    )
                    assert code in {*PRECISE, _Code.INTERNAL}, (path, code, said)
                    if code is _Code.INTERNAL:  # gRPC's own word for what it cannot read
                        assert "deserializ" in said.lower(), said
            await server.ann.about.GetServerInfo(
                server_pb2.GetServerInfoRequest(), metadata=server.ann.metadata
            )

    run(test)()
