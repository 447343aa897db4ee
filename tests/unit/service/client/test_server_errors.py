"""What is worth another try, and what people read of what went wrong."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from grpc_status import rpc_status

from onnxscape.errors import ServerUnreachableError, UsageError
from onnxscape.service.answers.rich_errors import BadRequestError, Violation
from onnxscape.service.client.address import Address
from onnxscape.service.client.server_errors import error_of, retry_delay


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


def refused(error):
    """Return the status of an error as a client gets it."""
    status = rpc_status.to_status(error.to_status())
    metadata = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), metadata, status.details)


def test_fields_are_called_as_a_user_of_the_client_knows_them():
    found = error_of(
        refused(
            BadRequestError(
                [
                    Violation("spec.grid.x.num", "expected a number from 2 to 9, got 1"),
                    Violation("execution.device", "expected one of auto, cpu, got 'spec.tpu'"),
                ]
            )
        ),
        Address("localhost", 1),
    )
    assert type(found) is UsageError
    assert str(found) == (
        "grid.x.num: expected a number from 2 to 9, got 1; "
        "device: expected one of auto, cpu, got 'spec.tpu'"
    )


@pytest.mark.parametrize(
    ("details", "why"),
    [
        (
            (
                "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
                "Failed to connect to remote host: Connection refused"
            ),
            "nobody listens there",
        ),
        (
            (
                "DNS resolution failed for nowhere:1: C-ares status is not ARES_SUCCESS "
                "qtype=A name=nowhere: Domain name not found"
            ),
            "no address is known for that name",
        ),
        (
            (
                "failed to connect to all addresses; last error: UNKNOWN: Ssl handshake: "
                "SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: self-signed certificate"
            ),
            "the certificates do not agree",
        ),
        ("something new", "something new"),
    ],
)
def test_a_server_that_is_not_reached_is_told_in_few_words(details, why):
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details)
    found = error_of(error, Address("127.0.0.1", 1))
    assert type(found) is ServerUnreachableError
    assert str(found).startswith(f"cannot reach a server at 127.0.0.1:1 ({why}); check")
