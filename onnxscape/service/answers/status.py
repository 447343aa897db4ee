"""From errors to statuses: one table, and the interceptor that applies it to every call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from onnxscape import errors
from onnxscape.service.answers.rich_errors import StatusError, retry_info
from onnxscape.service.interception import WrappingInterceptor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping

    from onnxscape.service.interception import Context, Deserializer, Handler, Method

_log = logging.getLogger(__name__)

_Code = grpc.StatusCode

CODES: Mapping[type[errors.OnnxscapeError], grpc.StatusCode] = {
    errors.OnnxscapeError: _Code.INTERNAL,
    errors.UsageError: _Code.INVALID_ARGUMENT,
    errors.GridError: _Code.INVALID_ARGUMENT,
    errors.DirectionError: _Code.INVALID_ARGUMENT,
    errors.SpecConflictError: _Code.FAILED_PRECONDITION,
    errors.RequestIdConflictError: _Code.ALREADY_EXISTS,
    errors.DataError: _Code.INVALID_ARGUMENT,
    errors.UnknownDataError: _Code.NOT_FOUND,
    errors.DataUnavailableError: _Code.FAILED_PRECONDITION,
    errors.ModelFileError: _Code.INVALID_ARGUMENT,
    errors.UnsupportedModelError: _Code.INVALID_ARGUMENT,
    errors.NoParametersError: _Code.INVALID_ARGUMENT,
    errors.DeviceError: _Code.FAILED_PRECONDITION,
    errors.OutOfMemoryError: _Code.RESOURCE_EXHAUSTED,
    errors.SelfTestError: _Code.FAILED_PRECONDITION,
    errors.SurfaceFileError: _Code.DATA_LOSS,
    errors.OutputError: _Code.INTERNAL,
    errors.OutputBusyError: _Code.INTERNAL,
    errors.StorageError: _Code.UNAVAILABLE,
    errors.DiskFullError: _Code.RESOURCE_EXHAUSTED,
    errors.ServerError: _Code.INTERNAL,
    errors.ServerUnreachableError: _Code.INTERNAL,
    errors.AccessError: _Code.PERMISSION_DENIED,
    errors.ServerLimitError: _Code.RESOURCE_EXHAUSTED,
    errors.ServerBusyError: _Code.RESOURCE_EXHAUSTED,
    errors.JobFailedError: _Code.FAILED_PRECONDITION,
}
"""Every error class has its row; a test proves it."""

_HIDDEN: Mapping[grpc.StatusCode, str] = {
    _Code.INTERNAL: "the server failed",
    _Code.DATA_LOSS: "a file of the server is damaged",
    _Code.UNAVAILABLE: "the server's storage failed; what is stored is kept; try again",
}
# The server's own trouble. Its log has the text of the error, which may name files.

_PASSING = frozenset({errors.StorageError, errors.ServerBusyError})

_MOMENT = 0.2
"""Seconds after a failed write in which it must be known that the client has left."""

RETRY_SECONDS = 5.0
"""When to try again after trouble that passes."""


def status_error(error: Exception) -> StatusError:
    """Return the status that an error ends a call with.

    What the caller can do nothing about is logged, and told by an ID only.

    Args:
        error: What a method raised.

    Returns:
        The status.
    """
    if isinstance(error, StatusError):
        return error
    if isinstance(error, DecodeError):
        return StatusError(
            _Code.INVALID_ARGUMENT,
            "MALFORMED_REQUEST",
            "expected a message of this method's type, got bytes that are none; make requests "
            "from the .proto files of this server's version",
        )
    code, reason = _Code.INTERNAL, "INTERNAL"
    if isinstance(error, errors.OnnxscapeError):
        code, reason = CODES.get(type(error), code), type(error).__name__
    details = [retry_info(RETRY_SECONDS)] if type(error) in _PASSING else []
    if code not in _HIDDEN:
        return StatusError(code, reason, str(error), details=details)
    number = secrets.token_hex(8)
    _log.error("call failed, error id %s", number, exc_info=error)
    return StatusError(
        code,
        reason,
        f"{_HIDDEN[code]}; if you ask its administrator, name the error {number}",
        details=details,
        metadata={"error_id": number},
    )


@contextlib.asynccontextmanager
async def answered(context: Context) -> AsyncGenerator[None]:
    """Turn what is raised inside into the status of a call.

    Args:
        context: The call's.

    Yields:
        Nothing.

    Raises:
        AbortError: After the call got its status: nothing is left to do.
        BaseError: If gRPC itself was used in a wrong way.
    """
    try:
        yield
    except grpc.aio.AbortError:
        raise  # has its status
    except grpc.aio.BaseError:
        # The call is over: a write to a client that left fails so, a moment before gRPC
        # cancels the call.
        if not _is_over(context):
            await asyncio.sleep(_MOMENT)
            if not _is_over(context):
                raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a clean status
        status = rpc_status.to_status(status_error(error).to_status())
        await context.abort_with_status(status)


def _is_over(context: Context) -> bool:
    return bool(context.cancelled() or context.done())


class StatusInterceptor(WrappingInterceptor):
    """Makes every method of the service answer errors with precise statuses."""

    def wrapped(self, method: Method, *, name: str, handler: Handler) -> Method:
        """Return a method whose errors are answered.

        Args:
            method: The method.
            name: Its full name.
            handler: Says what it takes and gives.
        """

        async def answering(request: Any, context: Context) -> Any:
            async with answered(context):
                return await method(_checked(request), context)

        return answering

    def deserializer(self, handler: Handler) -> Deserializer:
        """Return what reads requests, and gives back what went wrong with them.

        Args:
            handler: Has the method's own.
        """
        return _deferring(super().deserializer(handler))


def _deferring(read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Return what gives back an error, for `_checked`: what it raises gRPC answers itself."""

    def deserialize(data: bytes) -> Any:
        try:
            return data if read is None else read(data)
        except DecodeError as error:
            return error

    return deserialize


def _checked(request: Any) -> Any:
    """Return a request, or a stream of them, unless it could not be read."""
    if isinstance(request, DecodeError):
        raise request
    return _checked_stream(request) if hasattr(request, "__aiter__") else request


async def _checked_stream(requests: AsyncIterable[Any]) -> AsyncGenerator[Any]:
    async for request in requests:
        yield _checked(request)
