"""What is worth another try, and what is not."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from onnxscape.service.client.server_errors import retry_delay


@pytest.mark.parametrize(
    ("code", "details", "delay"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", 0.0),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", 0.0),  # written too late
        (grpc.StatusCode.INTERNAL, "the server has failed; error 4f2a", None),
        (grpc.StatusCode.INVALID_ARGUMENT, "no digest", None),
    ],
)
def test_what_has_passed_by_then_is_tried_again(code, details, delay):
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(code, nothing, nothing, details)
    assert retry_delay(error) == delay
