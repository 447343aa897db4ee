"""From the status of a call back to the error that the server meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from onnxscape import errors
from onnxscape.errors import (
    AccessError,
    OnnxscapeError,
    ServerError,
    ServerLimitError,
    ServerUnreachableError,
    UsageError,
)
from onnxscape.service.answers.rich_errors import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.service.client.address import Address

_DETAILS = "grpc-status-details-bin"

_Code = grpc.StatusCode

_PASSING = frozenset({_Code.UNAVAILABLE, _Code.ABORTED, _Code.DEADLINE_EXCEEDED})
"""What another try may mend."""

_TOO_LATE = "Internal error from Core"
"""gRPC's own words, with no status of the server."""

_WORDS = (
    ("connection refused", "nobody listens there"),
    ("name resolution", "no address is known for that name"),
    ("domain name", "no address is known for that name"),
    ("DNS", "no address is known for that name"),
    ("no route to host", "there is no way to that host"),
    ("network is unreachable", "there is no way to that host"),
    ("certificate", "the certificates do not agree"),
    ("ssl", "it did not agree on TLS"),
    ("socket closed", "the connection was lost"),
    ("connection reset", "the connection was lost"),
    ("timed out", "it did not answer in time"),
)
"""What is in gRPC's own words, and what it means; the first one that fits."""

_PREFIX = re.compile(r"(^|; )(?:spec|execution)\.(?=[a-z])")
"""At the beginning of a field's path: a message that a user of the client does not know."""

_SERVERS_OWN = frozenset({_Code.INTERNAL, _Code.DATA_LOSS, _Code.UNAVAILABLE, _Code.UNKNOWN})
"""Trouble of the server: an error's class would say that it happened here."""

_CLASSES: Mapping[grpc.StatusCode, type[OnnxscapeError]] = {
    _Code.INVALID_ARGUMENT: UsageError,
    _Code.NOT_FOUND: UsageError,
    _Code.ALREADY_EXISTS: UsageError,
    _Code.FAILED_PRECONDITION: UsageError,
    _Code.OUT_OF_RANGE: UsageError,
    _Code.UNAUTHENTICATED: AccessError,
    _Code.PERMISSION_DENIED: AccessError,
    _Code.RESOURCE_EXHAUSTED: ServerLimitError,
}
"""What a status means whose reason is no class of ours; all others are `ServerError`."""


def details_of(error: grpc.aio.AioRpcError) -> tuple[ErrorInfo | None, RetryInfo | None]:
    """Return what a status says besides code and message.

    Args:
        error: The status.

    Returns:
        What went wrong, for programs, and when to try again; None for what it does not say.
    """
    info = retry = None
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            status = Status.FromString(value)
            for detail in status.details:
                if detail.Is(ErrorInfo.DESCRIPTOR):
                    info = ErrorInfo()
                    detail.Unpack(info)
                elif detail.Is(RetryInfo.DESCRIPTOR):
                    retry = RetryInfo()
                    detail.Unpack(retry)
        except DecodeError:
            continue
    return info, retry


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """Return the reason that an onnxscape server gave.

    Args:
        error: The status.

    Returns:
        For instance `BLOBS_MISSING`; None if it gave none.
    """
    info, _ = details_of(error)
    return info.reason if info is not None and info.domain == DOMAIN else None


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """Return whether, and when at the earliest, another try may help.

    Args:
        error: The status.

    Returns:
        Seconds to wait at least; None if it would not help.
    """
    _, retry = details_of(error)
    if retry is not None:
        delay = retry.retry_delay
        seconds: float = delay.seconds + delay.nanos / 1e9
        return max(0.0, seconds)
    # A piece was written after the server had ended the call: how, gRPC does not tell then.
    too_late = error.code() is _Code.INTERNAL and _TOO_LATE in (error.details() or "")
    return 0.0 if too_late or error.code() in _PASSING else None


def error_of(error: grpc.aio.AioRpcError, address: Address) -> OnnxscapeError:
    """Return the error that a status stands for.

    Args:
        error: The status.
        address: Of the server, for messages.

    Returns:
        An error of the class that the server raised, if that is the caller's to mend; else
        one of `ServerError`.
    """
    code, text = error.code(), error.details() or "no details"
    reason = reason_of(error)
    if code is _Code.UNAVAILABLE and reason is None:
        return ServerUnreachableError(unreachable(address, plain_reason(error)))
    if code is _Code.DEADLINE_EXCEEDED:
        return ServerUnreachableError(f"{address} did not answer in time; try again later")
    if code is _Code.UNIMPLEMENTED:
        return ServerError(
            f"expected an onnxscape server of this version at {address}, got one that does "
            f"not know the call ({text}); check the address and both versions"
        )
    found: type[OnnxscapeError] | None = None
    if reason is not None and reason in errors.__all__:
        found = getattr(errors, reason)
    if found is not None and code not in _SERVERS_OWN:
        return found(text)
    if reason == "INVALID_REQUEST":
        text = _PREFIX.sub(r"\1", text)
    kind = _CLASSES.get(code, ServerError)
    if kind is AccessError:
        text += "; check --token or ONNXSCAPE_TOKEN, or the client's certificate"
    return kind(text if kind is not ServerError else f"{address}: {text}")


def plain_reason(error: grpc.aio.AioRpcError) -> str:
    """Return why a call failed, in few words.

    Args:
        error: Its status; gRPC's own words name addresses and say the same twice.
    """
    text = error.details() or "no details"
    if reason_of(error) is not None:
        return text  # the server's words
    for sign, words in _WORDS:
        if sign.casefold() in text.casefold():
            return words
    return text


def away(address: Address, error: grpc.aio.AioRpcError) -> str:
    """Return the message for a call that is tried again.

    Args:
        address: Of the server.
        error: Why the call failed.
    """
    what = "away" if error.code() in _PASSING else "busy"
    return f"{address} is {what} ({plain_reason(error)}); trying again"


def unreachable(address: Address, why: str) -> str:
    """Return the message for a server that does not answer.

    Args:
        address: Where it should be.
        why: What went wrong.

    Returns:
        The message.
    """
    return (
        f"cannot reach a server at {address} ({why}); check the address, that `onnxscape "
        "serve` runs there, and that both sides agree on TLS (--tls-ca, --insecure)"
    )
