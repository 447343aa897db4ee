"""Interceptors that wrap methods: each method once, whatever its kind."""

from __future__ import annotations

import contextlib
import functools
import inspect
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Method = Callable[[Any, Context], Awaitable[Any]]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
    Deserializer = Callable[[bytes], Any]


class WrappingInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the methods of a server when they are called first, and keeps what that gave.

    A method is a coroutine function of its request, or of the stream of its requests, and of
    the call's context; what streams responses writes them to the context.
    """

    takes_streams = False
    """Whether methods that take one request are given out as such that take a stream."""

    def __init__(self) -> None:
        """Start without methods."""
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    @abstractmethod
    def wrapped(self, method: Method, *, name: str, handler: Handler) -> Method:
        """Return what is called in place of a method.

        Args:
            method: The method.
            name: Its full name.
            handler: Says what it takes and gives.
        """

    def deserializer(self, handler: Handler) -> Deserializer | None:
        """Return what reads the requests of a method.

        Args:
            handler: Has the method's own.
        """
        return handler.request_deserializer

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Find the method of a call.

        Args:
            continuation: Finds it as it is.
            handler_call_details: Of the call.

        Returns:
            The method, wrapped; None if there is none: names that a client makes up are not
            kept.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = str(handler_call_details.method)
        known = self._wrapped.get(name)
        if known is None or known[0] is not handler:
            known = self._wrapped[name] = handler, self._remade(handler, name)
        return known[1]

    def _remade(self, handler: Handler, name: str) -> Handler:
        takes = "stream" if handler.request_streaming or self.takes_streams else "unary"
        gives = "stream" if handler.response_streaming else "unary"
        make: Callable[..., Handler] = getattr(grpc, f"{takes}_{gives}_rpc_method_handler")
        return make(
            self.wrapped(_method_of(handler), name=name, handler=handler),
            request_deserializer=self.deserializer(handler),
            response_serializer=handler.response_serializer,
        )


def _method_of(handler: Handler) -> Method:
    """Return the method of a handler; one that yields responses as one that writes them."""
    kind = "_".join(
        "stream" if streaming else "unary"
        for streaming in (handler.request_streaming, handler.response_streaming)
    )
    method: Method = getattr(handler, kind)
    yields = inspect.isasyncgenfunction(method)
    return functools.partial(_write_all, method) if yields else method


async def _write_all(method: Callable[..., Any], request: Any, context: Context) -> None:
    async with contextlib.aclosing(method(request, context)) as responses:
        async for response in responses:
            await context.write(response)
