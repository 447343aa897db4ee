"""Authentication: finds out who makes a call, before anything of its request is read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from onnxscape.errors import OnnxscapeError
from onnxscape.service.access.call_limits import CallLimits, only_request
from onnxscape.service.answers.rich_errors import StatusError
from onnxscape.service.caller import CALLER, LOCAL_USER, Caller
from onnxscape.service.interception import WrappingInterceptor
from onnxscape.service.monitoring import logs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from onnxscape.service.access.tokens import TokenStore
    from onnxscape.service.interception import Context, Handler, Method

_log = logging.getLogger(__name__)

OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""Methods that start so are for everybody: they tell nothing of anybody."""

_LONGEST = 200
"""Characters of a token or a name."""


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


class AuthInterceptor(WrappingInterceptor):
    """Lets methods run for known callers only, and tells them who it is.

    gRPC calls a method that takes one message when it has come, and one that takes a stream
    at once. So all methods are given out as such that take streams: a caller who is refused
    is sent away without being waited for, and whoever sends nothing is not waited for long.

    It must stand behind what answers errors.
    """

    takes_streams = True

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
        super().__init__()
        self._authenticator = authenticator
        self._limits = limits or CallLimits()
        self._again = again

    def wrapped(self, method: Method, *, name: str, handler: Handler) -> Method:
        """Return a method for those who may call it.

        Args:
            method: The method.
            name: Its full name.
            handler: Says what it takes and gives.
        """
        if name.startswith(OPEN):
            return self._open_to_all(method, name, handler)
        return self._for_the_known(method, handler)

    def _open_to_all(self, method: Method, name: str, handler: Handler) -> Method:
        limits, seconds = self._limits, self._limits.stranger_message_seconds

        async def limited(requests: Any, context: Context) -> Any:
            async with limits.stranger(name):
                return await method(await _given(requests, handler, seconds), context)

        return limited

    def _for_the_known(self, method: Method, handler: Handler) -> Method:
        limits, seconds = self._limits, self._limits.message_seconds

        async def known(requests: Any, context: Context) -> Any:
            with limits.user(await self._enter(context)):
                return await method(await _given(requests, handler, seconds), context)

        async def known_throughout(requests: Any, context: Context) -> Any:
            with limits.user(await self._enter(context)):
                request = await _given(requests, handler, seconds)
                async with self._while_known(context):
                    return await method(request, context)

        streams = handler.request_streaming or handler.response_streaming
        return known_throughout if streams else known

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


async def _given(requests: Any, handler: Handler, seconds: float) -> Any:
    """Return what a method takes: its request as soon as it comes, or all of them."""
    return requests if handler.request_streaming else await only_request(requests, seconds)
