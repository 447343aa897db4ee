import random

import grpc.aio
import pytest
from whole_server import run, whole

from onnxscape.v1 import blobs_pb2, catalog_pb2, jobs_pb2, server_pb2

METHODS = [
    method
    for module in (blobs_pb2, catalog_pb2, jobs_pb2, server_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
HONEST = {"OK", "INVALID_ARGUMENT"}


async def code_of(client, method, raw):
    """Return how a method answers bytes that need not be a message."""
    channel, metadata = client.channel, client.metadata
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            call = channel.stream_unary(path)(iter([raw, raw]), metadata=metadata, timeout=20)
            await call
        elif method.server_streaming:
            async for _ in channel.unary_stream(path)(raw, metadata=metadata, timeout=20):
                pass
        else:
            await channel.unary_unary(path)(raw, metadata=metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_bytes_that_are_no_message_get_a_precise_status(tmp_path, method):
    @run
    async def test():
        bytes_of = random.Random(method.name)  # noqa: S311 - no secret
        async with whole(tmp_path) as served:
            for _ in range(20):
                raw = bytes_of.randbytes(bytes_of.randrange(60))
                assert await code_of(served.ann, method, raw) in HONEST, raw
                assert await code_of(served.stranger, method, raw) in {
                    "UNAUTHENTICATED",
                    "INVALID_ARGUMENT",
                }
            await served.ann.write(b"it lives")

    test()
