"""A worker process as its server sees it: started, asked, listened to, watched, killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from onnxscape.files.child_environment import child_environment
from onnxscape.jobs.executor import Lost
from onnxscape.jobs.process_memory import resident_memory
from onnxscape.jobs.worker_messages import MAX_LINE, MessageError, event_of

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping

    from onnxscape.jobs.executor import ChunkEvent
    from onnxscape.jobs.worker_messages import Loaded

_LOG = logging.getLogger(__name__)

_CODE = "from onnxscape.jobs.worker import main; main()"
_OUT_OF_MEMORY = 74
"""`worker.OUT_OF_MEMORY`; this process does not import what workers do."""

_WATCH_SECONDS = 0.25
"""Between looks at memory and clock."""

_KEPT = 4096
"""Bytes of a worker's last words that are logged if it is lost."""


class WorkerProcess:
    """One worker process.

    Attributes:
        jobs: ID to affinity of the jobs that it has loaded.
    """

    def __init__(self, process: Process) -> None:
        """Take a process that `start` has started."""
        self._process = process
        self._line: asyncio.Future[bytes] | None = None
        self._why: tuple[str, str] | None = None
        self._said = b""
        self._watched = 0.0
        self._listener = asyncio.create_task(self._listen())
        self.jobs: dict[str, str] = {}

    @classmethod
    async def start(cls, settings: Mapping[str, Any]) -> WorkerProcess:
        """Start a worker: a new interpreter, never a fork of this process.

        Args:
            settings: Fields of `WorkerPlace`, and `niceness`.

        Returns:
            The worker; it may still be importing.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-c",
            _CODE,
            json.dumps({**settings, "parent": os.getpid()}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
            env=child_environment(),
            start_new_session=True,  # a Ctrl-C is for the server, which ends workers in order
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None and self._why is None

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    async def send(self, line: bytes) -> None:
        """Send a message; a worker that is gone does not get it.

        Args:
            line: The message.
        """
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError, RuntimeError):
            self._process.stdin.write(line)
            await self._process.stdin.drain()

    def send_soon(self, line: bytes) -> None:
        """Send a short message without waiting.

        Args:
            line: The message.
        """
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError, RuntimeError):
            self._process.stdin.write(line)

    async def receive(
        self, *, memory: int, deadline: float, late: str, loading: bool
    ) -> tuple[int, ChunkEvent | Loaded] | Lost:
        """Return the next message, or what became of the worker.

        Args:
            memory: Resident bytes that it may have.
            deadline: When (`time.monotonic`) the next message but a beat is due.
            late: What is said of it if that does not come.
            loading: Whether it is not ready yet.

        Returns:
            Lease and event; or why the worker is gone.
        """
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        while True:
            if self._line is None:
                self._line = asyncio.ensure_future(self._process.stdout.readline())
            done, _ = await asyncio.wait({self._line}, timeout=_WATCH_SECONDS)
            self._watch(memory)
            if not done:
                if time.monotonic() > deadline:
                    self.kill("time", late)
                continue
            reading, self._line = self._line, None
            try:
                line = reading.result()
            except ValueError:
                self.kill("crashed", f"it sent a line of more than {MAX_LINE} bytes")
                return await self.lost(loading=loading)
            if not line.endswith(b"\n"):
                return await self.lost(loading=loading)
            try:
                return event_of(line)
            except MessageError as error:
                self.kill("crashed", str(error))
                return await self.lost(loading=loading)

    def _watch(self, memory: int) -> None:
        """Kill a worker that uses more memory than it may."""
        now = time.monotonic()
        if now - self._watched < _WATCH_SECONDS:
            return
        self._watched = now
        used = resident_memory(self.pid)
        if used is not None and used > memory:
            text = f"it used {used >> 20} MiB of memory; it may use {memory >> 20} MiB"
            self.kill("memory", text)

    def kill(self, reason: str, message: str) -> None:
        """Kill it with all that it started.

        Args:
            reason: Of `Lost`, told unless another one was given before.
            message: For people.
        """
        if self._why is None:
            self._why = reason, message
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg"):
                    os.killpg(self.pid, signal.SIGKILL)
                else:
                    self._process.kill()

    async def lost(self, *, loading: bool) -> Lost:
        """Wait for the end of a worker whose output has ended, and return why it did.

        Args:
            loading: Whether it was not ready.

        Returns:
            The event.
        """
        try:
            async with asyncio.timeout(1.0):
                await self._process.wait()
        except TimeoutError:
            self.kill("crashed", "it closed its output")
        await self.ended()
        reason, message = self._why or _end_of(self._process.returncode or 0)
        _LOG.warning(
            "worker %d is lost (%s: %s); it said last: %s",
            self.pid,
            reason,
            message,
            self._said.decode(errors="replace").strip() or "nothing",
        )
        return Lost(reason, f"the worker is lost: {message}", loading)

    async def ended(self) -> None:
        """Wait until it has ended, and free what belongs to it."""
        await self._process.wait()
        self.jobs.clear()
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.close()
        left: set[asyncio.Future[Any]] = {self._listener}
        if self._line is not None:
            left.add(self._line)
        # Nobody holds the other ends any more, so all of them end by themselves.
        await asyncio.wait(left, timeout=1.0)
        with contextlib.suppress(
            RuntimeError, OSError, TimeoutError
        ):  # somebody else reads it
            async with asyncio.timeout(1.0):
                while await self._process.stdout.read(1 << 16):
                    pass

    async def _listen(self) -> None:
        """Read what it prints, and keep the end of it."""
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        while piece := await self._process.stderr.read(1 << 16):
            self._said = (self._said + piece)[-_KEPT:]


def _end_of(status: int) -> tuple[str, str]:
    """Return reason and message of an exit status."""
    if status == _OUT_OF_MEMORY:
        return "memory", "the machine had no more memory for it"
    if status >= 0:
        return "crashed", f"it ended with status {status}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
        return ("killed" if -status == signal.SIGKILL else "crashed"), f"it ended by {name}"
    return "crashed", f"it ended by signal {-status}"
