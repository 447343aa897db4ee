"""How many calls may be under way, and for how long those that anybody may make.

What is unlimited here would let one caller use up the calls of the whole server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from onnxscape.service.answers.rich_errors import (
    ExhaustedError,
    StatusError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator

_RETRY_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class CallLimits:
    """Refuses calls beyond what callers may have under way.

    Attributes:
        of_user: Calls of a user at once.
        of_strangers: Calls at once of a method that needs no authentication.
        message_seconds: For the request of a call to come.
        stranger_seconds: For a call without authentication, which may be a stream.
        stranger_message_seconds: For its request to come.
        draining: Whether the server goes down: no call of a user begins any more.
    """

    of_user: int = 100
    of_strangers: int = 16
    message_seconds: float = 60.0
    stranger_seconds: float = 60.0
    stranger_message_seconds: float = 5.0
    draining: bool = False
    _under_way: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    @property
    def of_users(self) -> int:
        """Calls of users that are under way."""
        return sum(n for (kind, _), n in self._under_way.items() if kind == "user")

    @contextlib.contextmanager
    def user(self, name: str) -> Generator[None]:
        """Count a call of a user while it is under way.

        Args:
            name: The user's.

        Yields:
            Nothing.

        Raises:
            ExhaustedError: If the user has too many of them.
            UnavailableError: If the server goes down.
        """
        if self.draining:
            raise UnavailableError(
                "DRAINING",
                "the server is going down; what it has is kept; try again",
                retry_seconds=_RETRY_SECONDS,
            )
        with self._counted(("user", name), self.of_user, "of a user"):
            yield

    @contextlib.asynccontextmanager
    async def stranger(self, method: str) -> AsyncGenerator[None]:
        """Count a call without authentication, and end it when it takes long.

        Args:
            method: Full name of its method.

        Yields:
            Nothing.

        Raises:
            ExhaustedError: If there are too many of them.
            UnavailableError: If it took its time.
            TimeoutError: If the method raises it.
            BaseError: Likewise.
        """
        subject = "of this method, which is open to all"
        with self._counted(("method", method), self.of_strangers, subject):
            timer = asyncio.timeout(self.stranger_seconds)
            try:
                async with timer:
                    yield
            except (TimeoutError, grpc.aio.BaseError):
                # A cancelled write fails with an error of gRPC's own.
                if not timer.expired():
                    raise
                raise UnavailableError(
                    "CALL_TOO_LONG",
                    f"calls without authentication may take {self.stranger_seconds:g} s; "
                    "call again",
                    retry_seconds=0.0,
                ) from None

    @contextlib.contextmanager
    def _counted(self, key: tuple[str, str], limit: int, whose: str) -> Generator[None]:
        if self._under_way[key] >= limit:
            raise ExhaustedError(
                "TOO_MANY_CALLS",
                f"expected at most {limit} calls {whose} at once, got another one; wait for "
                "one to end",
                retry_seconds=_RETRY_SECONDS,
            )
        self._under_way[key] += 1
        try:
            yield
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]


async def only_request(requests: AsyncIterator[Any], seconds: float) -> Any:
    """Return the request of a call that has one.

    Args:
        requests: What comes.
        seconds: How long to wait for it.

    Returns:
        The request.

    Raises:
        StatusError: If none comes in that time, or another number of them.
    """
    try:
        async with asyncio.timeout(seconds):
            found = []
            async for request in requests:
                found.append(request)
                if len(found) > 1:
                    break
    except TimeoutError:
        raise StatusError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "REQUEST_TOO_SLOW",
            f"expected the request within {seconds:g} s, got none; send it with the call",
        ) from None
    if len(found) != 1:
        number = "none" if not found else "several"
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "NOT_ONE_REQUEST",
            f"expected one message, as this method takes, got {number}",
        )
    return found[0]
