"""Authentication: finds out who makes a call, before anything of its request is read."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio

from onnxscape.errors import OnnxscapeError
from onnxscape.service import logs
from onnxscape.service.call_limits import CallLimits, only_request
from onnxscape.service.caller import CALLER, LOCAL_USER, Caller
from onnxscape.service.rich_errors import StatusError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from onnxscape.service.tokens import TokenStore

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

_log = logging.getLogger(__name__)

OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""Methods that start so are for everybody: they tell nothing of anybody."""

_LONGEST = 200
"""Characters of a token or a name."""

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Authenticator(Protocol):
    """Finds out who makes a call."""

    async def user_of(self, context: Context) -> str:
        """Return the user.

        Args:
            context: The call's.

        Returns:
            The name under which everything of the user's is kept.

        Raises:
            UnauthenticatedError: If it cannot be found out.
        """


class UnauthenticatedError(StatusError):
    """UNAUTHENTICATED: nobody knows who makes the call."""

    def __init__(self, reason: str, message: str) -> None:
        """Say why.

        Args:
            reason: For programs.
            message: For people.
        """
        super().__init__(grpc.StatusCode.UNAUTHENTICATED, reason, message)


class LocalAuthenticator:
    """All calls are of the same user: for servers that only their own machine can reach."""

    async def user_of(self, context: Context) -> str:
        """Return the one user.

        Args:
            context: The call's.

        Returns:
            `local`.
        """
        return LOCAL_USER


class TokenAuthenticator:
    """Calls carry a token: `authorization: Bearer TOKEN` in their metadata."""

    def __init__(self, tokens: TokenStore) -> None:
        """Know tokens.

        Args:
            tokens: Those of the server.
        """
        self._tokens = tokens

    async def user_of(self, context: Context) -> str:
        """Return whose token it is.

        Args:
            context: The call's.

        Returns:
            The user.

        Raises:
            UnauthenticatedError: If there is no token, or one that is not good.
        """
        given = [v for key, v in context.invocation_metadata() or () if key == "authorization"]
        if not given:
            raise UnauthenticatedError(
                "TOKEN_MISSING",
                "expected the metadata 'authorization: Bearer TOKEN', got none",
            )
        scheme, _, secret = str(given[0]).partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not 0 < len(secret) <= _LONGEST:
            raise UnauthenticatedError(
                "TOKEN_MALFORMED",
                "expected the metadata 'authorization: Bearer TOKEN' once, got something else",
            )
        token = await asyncio.to_thread(self._tokens.find, secret)
        if token is None:
            raise UnauthenticatedError("TOKEN_UNKNOWN", "the token is none of this server's")
        state = token.state(time.time())
        if state != "active":
            raise UnauthenticatedError(
                f"TOKEN_{state.upper()}",
                f"the token {token.id} is {state}; ask the server's administrator for another",
            )
        await asyncio.to_thread(self._tokens.note_use, token)
        return token.user


class CertificateAuthenticator:
    """Callers are who their certificates say: first alternative name, or common name."""

    async def user_of(self, context: Context) -> str:
        """Return whom the certificate names.

        Args:
            context: The call's.

        Returns:
            The user.

        Raises:
            UnauthenticatedError: If it names nobody.
        """
        known = context.auth_context()
        for key in ("x509_subject_alternative_name", "x509_common_name"):
            for raw in known.get(key, ()):
                name = bytes(raw).decode("utf-8", "replace")
                if 0 < len(name) <= _LONGEST and name.isprintable() and "\ufffd" not in name:
                    return name
                raise UnauthenticatedError(
                    "CERTIFICATE_NAME",
                    f"expected a certificate whose name is printable and has at most "
                    f"{_LONGEST} characters, got another",
                )
        raise UnauthenticatedError(
            "CERTIFICATE_NAME", "expected a certificate with a name, got one without"
        )


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Lets methods run for known callers only, and tells them who it is.

    gRPC calls a method that takes one message when it has come, and one that takes a stream
    at once. So all methods are given out as such that take streams: a caller who is refused
    is sent away without being waited for, and whoever sends nothing is not waited for long.

    It must stand behind what answers errors.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        limits: CallLimits | None = None,
        again: float = 60.0,
    ) -> None:
        """Find out callers.

        Args:
            authenticator: In this way.
            limits: For the calls under way; None for the default ones.
            again: Seconds after which it is asked again about streams that are open: a
                token may be revoked meanwhile.
        """
        self._authenticator = authenticator
        self._limits = limits or CallLimits()
        self._again = again

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the method of a call.

        Args:
            continuation: Finds the method.
            handler_call_details: Of the call.

        Returns:
            The method, wrapped; None if there is none.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        name = str(handler_call_details.method)
        for kind in _KINDS:
            method = getattr(handler, kind)
            if method is not None:
                answer = "stream" if handler.response_streaming else "unary"
                make: Callable[..., Handler] = getattr(
                    grpc, f"stream_{answer}_rpc_method_handler"
                )
                wrap = self._open_to_all if name.startswith(OPEN) else self._wrapped
                return make(
                    wrap(method, name=name, kind=kind),
                    request_deserializer=handler.request_deserializer,
                    response_serializer=handler.response_serializer,
                )
        return handler

    def _open_to_all(
        self, method: Callable[..., Any], *, name: str, kind: str
    ) -> Callable[..., Any]:
        limits = self._limits

        async def coroutine(requests: Any, context: Context) -> Any:
            async with limits.stranger(name):
                given = requests
                if kind.startswith("unary"):
                    given = await only_request(requests, limits.stranger_message_seconds)
                if not inspect.isasyncgenfunction(method):
                    return await method(given, context)
                async with contextlib.aclosing(method(given, context)) as responses:
                    async for response in responses:
                        await context.write(response)
                return None

        return coroutine

    def _wrapped(
        self, method: Callable[..., Any], *, name: str, kind: str
    ) -> Callable[..., Any]:
        del name
        limits = self._limits

        async def request_of(requests: Any) -> Any:
            if kind.startswith("stream"):
                return requests
            return await only_request(requests, limits.message_seconds)

        if inspect.isasyncgenfunction(method):

            async def generator(requests: Any, context: Context) -> AsyncGenerator[Any]:
                with limits.user(await self._enter(context)):
                    request = await request_of(requests)
                    async with contextlib.aclosing(method(request, context)) as responses:
                        async for response in responses:
                            yield response

            return generator

        async def coroutine(requests: Any, context: Context) -> Any:
            stream = "stream" in kind
            with limits.user(await self._enter(context)):
                request = await request_of(requests)
                async with self._while_known(context) if stream else contextlib.nullcontext():
                    return await method(request, context)

        return coroutine

    async def _enter(self, context: Context) -> str:
        # Every call is a task of its own, with a context that ends with it.
        user = await self._authenticator.user_of(context)
        CALLER.set(Caller(user))
        logs.bind(user=user)
        return user

    @contextlib.asynccontextmanager
    async def _while_known(self, context: Context) -> AsyncGenerator[None]:
        """End what runs inside when its caller is not known any longer.

        Yields:
            Nothing.
        """
        call, refusals = asyncio.current_task(), list[UnauthenticatedError]()
        assert call is not None  # noqa: S101 - every call runs in a task

        async def look_again() -> None:
            while not refusals:
                await asyncio.sleep(self._again)
                try:
                    await self._authenticator.user_of(context)
                except UnauthenticatedError as error:
                    refusals.append(error)
                    call.cancel()
                except OnnxscapeError:
                    _log.warning("cannot look after an open stream", exc_info=True)

        looking = asyncio.create_task(look_again())
        try:
            yield
        except BaseException:  # a cancelled write fails with an error of gRPC's own
            if refusals:
                call.uncancel()
                raise refusals[0] from None
            raise
        finally:
            looking.cancel()
