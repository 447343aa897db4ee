"""An event loop on a thread of its own: what waits for nobody, for those who wait."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

_T = TypeVar("_T")

_SECONDS_TO_END = 5.0
_SECONDS_TO_A_SIGNAL = 0.5


class _LoopThread:
    """One loop for all clients of a process: gRPC serves all of them at one place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_exception_handler(_without_noise)
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="onnxscape-client", daemon=True
                )
                self._thread.start()
            return self._loop

    def end(self) -> None:
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_SECONDS_TO_END)
            if not self._thread.is_alive():
                self._loop.close()
            self._loop = self._thread = None


def _without_noise(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Leave out what gRPC says where two loops of a process use it: it is harmless."""
    if isinstance(context.get("exception"), BlockingIOError):
        return
    loop.default_exception_handler(context)


_THREAD = _LoopThread()
atexit.register(_THREAD.end)


def run(make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine on the private loop, and wait for it.

    An interrupt cancels it, and is raised when it has cleaned up.

    Args:
        make: Makes the coroutine; called on the loop's thread.

    Returns:
        What it returns.
    """

    async def made() -> _T:
        return await make()

    future = asyncio.run_coroutine_threadsafe(made(), _THREAD.loop())
    try:
        # Python acts on a signal only when the main thread runs: a lock may not end for it.
        while not future.done():
            concurrent.futures.wait([future], timeout=_SECONDS_TO_A_SIGNAL)
    except BaseException:
        future.cancel()
        concurrent.futures.wait([future], timeout=_SECONDS_TO_END)
        raise
    return future.result()


def iterate(make: Callable[[], AsyncGenerator[_T]]) -> Generator[_T]:
    """Go through an asynchronous generator on the private loop.

    Args:
        make: Makes the generator.

    Yields:
        What it yields, as soon as it is there.
    """
    generator = make()
    try:
        while True:
            try:
                item = run(generator.__anext__)
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(generator.aclose)
