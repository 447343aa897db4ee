"""The store as the event loop sees it: in threads, patient with a full disk, and told on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from onnxscape.errors import StorageError
from onnxscape.jobs.changes import Changes
from onnxscape.jobs.records import Job

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    _P = ParamSpec("_P")
    _T = TypeVar("_T")

_THREADS = 4
"""The store writes one transaction at a time; the others read."""

_THINKERS = 4
"""Threads for what takes its time without the store, so that nobody who has to store waits."""

_log = logging.getLogger(__name__)


class Ledger:
    """Calls functions that take their time, mostly the store's, without blocking the loop.

    A job that a function returns is known to have changed: who waits for it is woken.

    Attributes:
        changes: Who waits for jobs to change.
    """

    def __init__(self, retry_seconds: float) -> None:
        """Make the threads; `close` ends them.

        Args:
            retry_seconds: How long to wait before a failed disk is tried again.
        """
        self._retry_seconds = retry_seconds
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="onnxscape-store")
        self._thinkers = ThreadPoolExecutor(_THINKERS, thread_name_prefix="onnxscape-think")
        self.changes = Changes()
        self._failing: dict[object, str] = {}

    @property
    def trouble(self) -> str | None:
        """What the disk said to who could not write yet; None if nobody has to wait for it."""
        return next(iter(self._failing.values()), None)

    async def call(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call a function in a thread.

        Args:
            function: What to call.
            *args: Its arguments.
            **kwargs: Its arguments.

        Returns:
            What it returns.
        """
        loop = asyncio.get_running_loop()
        call = functools.partial(function, *args, **kwargs)
        result = await loop.run_in_executor(self._pool, call)
        if isinstance(result, Job):
            self.changes.tell(result.id, result.revision)
        return result

    async def think(self, function: Callable[[], _T], /) -> _T:
        """Call a function that computes in a thread.

        Args:
            function: What to call.

        Returns:
            What it returns.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thinkers, function)

    async def write(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call a function that writes, again and again while the disk fails.

        Args:
            function: What to call; when it fails, nothing has changed.
            *args: Its arguments.
            **kwargs: Its arguments.

        Returns:
            What it returns.
        """
        token = object()
        try:
            while True:
                try:
                    return await self.call(function, *args, **kwargs)
                except OSError as error:  # StorageError is one
                    self._failing[token] = str(error)
                    _log.error("cannot write, will try again: %s", error)
                await asyncio.sleep(self._retry_seconds)
        finally:
            self._failing.pop(token, None)

    @contextlib.asynccontextmanager
    async def holding(self, lock: asyncio.Lock, seconds: float) -> AsyncGenerator[None]:
        """Hold a lock, unless who holds it waits for the disk for long.

        Args:
            lock: The lock.
            seconds: How long to wait for it.

        Yields:
            Nothing.

        Raises:
            StorageError: If it is not free in that time.
        """
        async with self.patience(seconds):
            await lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.asynccontextmanager
    async def patience(
        self, seconds: float, others: str = "others have been writing"
    ) -> AsyncGenerator[None]:
        """Wait for others, unless they wait for the disk for long.

        Args:
            seconds: How long to wait.
            others: What they do, for people.

        Yields:
            Nothing.

        Raises:
            StorageError: If it takes longer.
            TimeoutError: What comes from inside.
        """
        timer = asyncio.timeout(seconds)
        try:
            async with timer:
                yield
        except TimeoutError as error:
            if not timer.expired():
                raise
            why = self.trouble or f"{others} for {seconds:g} s"
            raise StorageError(f"cannot write now: {why}; try again later") from error

    async def close(self) -> None:
        """Wait for the calls under way, and end the threads."""
        for pool in (self._thinkers, self._pool):
            await asyncio.to_thread(pool.shutdown)
