"""Watches every call: gives it an id, counts it, measures it, and logs how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
import grpc.aio

from onnxscape.service.interception import WrappingInterceptor
from onnxscape.service.monitoring import logs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from onnxscape.service.interception import Context, Continuation, Handler, Method
    from onnxscape.service.monitoring.metrics import ServerMetrics

_log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
"""Key of the id in the metadata of requests and in the trailing metadata of responses."""

_READING = ("Get", "List", "Find", "Query", "Read", "Watch", "Inspect", "Check")
_TROUBLE = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE"})
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class ObservingInterceptor(WrappingInterceptor):
    """Must be the first one: what those behind it refuse is seen as well."""

    def __init__(self, metrics: ServerMetrics) -> None:
        """Watch all calls of a server.

        Args:
            metrics: Where they are counted.
        """
        super().__init__()
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Give a call its id, and find its method.

        Args:
            continuation: Finds it as it is.
            handler_call_details: Of the call.

        Returns:
            The method, watched; None if there is none: names that a client makes up shall not
            become metrics.
        """
        metadata = handler_call_details.invocation_metadata or ()
        asked = [value for key, value in metadata if key == REQUEST_ID]
        own = asked[0] if asked and isinstance(asked[0], str) else None
        logs.bind(request_id=logs.request_id(own))
        return await super().intercept_service(continuation, handler_call_details)

    def wrapped(self, method: Method, *, name: str, handler: Handler) -> Method:
        """Return a method that is watched.

        Args:
            method: The method.
            name: Its full name.
            handler: Says what it takes and gives.
        """

        async def watched(request: Any, context: Context) -> Any:
            marked = cast("Context", _MarkedContext(context))
            async with self._observed(name, context):
                return await method(request, marked)

        return watched

    @contextlib.asynccontextmanager
    async def _observed(self, name: str, context: Context) -> AsyncGenerator[None]:
        """Count, measure and log what happens inside; errors pass through."""
        self._metrics.call_begins(name)
        context.set_trailing_metadata(_marks())
        begin = time.perf_counter()
        code = "OK"
        try:
            yield
            code = _code_of(context, "OK")
        except BaseException as error:
            code = _code_after(error, context)
            raise
        finally:
            seconds = time.perf_counter() - begin
            self._metrics.call_ends(name, code, seconds)
            _tell(name, code, seconds)


class _MarkedContext:
    """A call's context that keeps the request's id in whatever is sent at the end."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_trailing_metadata(self, trailing_metadata: Sequence[Any]) -> None:
        self._context.set_trailing_metadata((*trailing_metadata, *_marks()))

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[Any] = ()
    ) -> NoReturn:
        await self._context.abort(code, details, (*trailing_metadata, *_marks()))

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata or ())


def _marks() -> tuple[tuple[str, str], ...]:
    return ((REQUEST_ID, str(logs.bound()["request_id"])),)


def _code_of(context: Context, default: str) -> str:
    """Return the name of the status that a method has set, if any."""
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _CODES.get(code, default) if code else default


def _code_after(error: BaseException, context: Context) -> str:
    """Return the name of the status that a call has after an error came out of its method."""
    if isinstance(error, grpc.aio.AbortError):
        return _code_of(context, "UNKNOWN")
    gone = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return "CANCELLED" if gone or context.cancelled() else "UNKNOWN"


def _tell(name: str, code: str, seconds: float) -> None:
    """Log the end of a call: reading is not worth a line unless it fails."""
    method = name.rpartition("/")[2]
    level = logging.INFO
    if code in _TROUBLE:
        level = logging.WARNING
    elif code in {"OK", "CANCELLED"} and method.startswith(_READING):
        level = logging.DEBUG
    fields = {"method": name, "code": code, "seconds": round(seconds, 6)}
    _log.log(level, "call ended", extra=fields)
