"""Surfaces that are being read: so many of a user, and opened one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxscape.service.answers.rich_errors import Exceeded, ExhaustedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from onnxscape.service.jobs.surface_messages import Reading

MOST_OF_USER = 4
"""Surfaces of a user that are open, or about to be."""

_THREADS = 2
"""Surfaces that are opened at once, of different users: each takes memory."""


class _LeftError(Exception):
    """Nobody waits for the surface any more."""


@dataclass(slots=True)
class _OfUser:
    """What a user reads.

    Attributes:
        opening: Held while one is opened.
        count: How many are open, or about to be.
    """

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    count: int = 0


@dataclass(slots=True)
class _Caller:
    """Who waits for a surface.

    Attributes:
        left: Whether the caller does not any more.
        next: Whether it is the turn of the caller's surface to be opened.
    """

    left: threading.Event = field(default_factory=threading.Event)
    next: bool = False


class SurfaceReadings:
    """Opens surfaces in threads of its own."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="onnxscape-surfaces")
        self._users: dict[str, _OfUser] = {}
        self._openings: set[asyncio.Task[Reading]] = set()

    @contextlib.asynccontextmanager
    async def opened(
        self, user: str, open_surface: Callable[[], Reading]
    ) -> AsyncGenerator[Reading]:
        """Open a surface, and close it at the end.

        A user's place is taken until the surface is closed, also if the caller leaves before
        it is open.

        Args:
            user: Who reads.
            open_surface: Called in a thread, unless the caller has left by then.

        Yields:
            The surface.

        Raises:
            ExhaustedError: If the user reads too many.
        """
        own = self._users.setdefault(user, _OfUser())
        if own.count >= MOST_OF_USER:
            raise ExhaustedError(
                "SURFACES",
                f"{MOST_OF_USER} surfaces are being sent to you; try again when one of them "
                "is there",
                exceeded=[Exceeded("surfaces", f"{MOST_OF_USER} at once")],
                retry_seconds=1.0,
            )
        own.count += 1
        caller = _Caller()
        opening = asyncio.create_task(self._open(own, open_surface, caller))
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)

        def close(opening: asyncio.Future[Reading]) -> None:
            if not opening.cancelled() and opening.exception() is None:
                opening.result().close()
            own.count -= 1
            if not own.count:
                del self._users[user]

        try:
            yield await asyncio.shield(opening)
        finally:
            caller.left.set()
            if not caller.next:
                opening.cancel()
            opening.add_done_callback(close)

    async def close(self) -> None:
        """Wait for what is being opened, and end the threads."""
        if self._openings:
            await asyncio.wait(self._openings)
        await asyncio.to_thread(self._pool.shutdown)

    async def _open(
        self, own: _OfUser, open_surface: Callable[[], Reading], caller: _Caller
    ) -> Reading:
        def call() -> Reading:
            if caller.left.is_set():
                raise _LeftError
            return open_surface()

        async with own.opening:
            caller.next = True  # a thread cannot be left in the middle
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
