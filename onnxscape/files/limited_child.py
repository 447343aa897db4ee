"""A function on bytes, called in a fresh process that has little memory and time.

For native code that reads what strangers wrote: whatever it does, it can neither crash nor
exhaust this process. The child is a new interpreter, never a fork, so that threads of this
process (ONNX Runtime, gRPC) do not matter. One pipe leads back, and what is read from it is
limited: with a second one a child that fills either would wait for ever. The child ends with
this process, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from onnxscape.files.child_environment import child_environment
from onnxscape.files.parent_death import die_with

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable

_CODE = "from onnxscape.files.limited_child import serve; serve()"
_FAILED = 3
"""Exit status of a child whose function raised: its output is the message, not a result."""

_MOST_SAID = 300
"""Characters of such a message."""


class ChildError(RuntimeError):
    """The function failed in the child; the message is one line and says how."""


def run_in_child(
    function: Callable[[bytes], bytes],
    data: bytes,
    *,
    seconds: int,
    memory: int,
    most: int,
) -> bytes:
    """Call a function of a module in a child process.

    Args:
        function: A public function of an importable module.
        data: Its argument.
        seconds: Limit of processor time, and of time altogether.
        memory: Limit of the child's address space in bytes (where the system knows limits).
        most: Largest result in bytes.

    Returns:
        Its result.

    Raises:
        ChildError: If it raises, crashes, exceeds a limit, or returns too much.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    child = subprocess.Popen(
        _command(name, seconds, memory),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(OPENBLAS_NUM_THREADS="1"),
    )
    # Not `communicate`: it would keep whatever a child that went mad writes.
    timer = threading.Timer(seconds, child.kill)
    timer.start()
    feeder = threading.Thread(target=_feed, args=(child, data), daemon=True)
    feeder.start()
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    kept = max(most, 4 * _MOST_SAID)  # bytes of a character
    with child:
        written = child.stdout.read(kept + 1)
        if len(written) > kept:
            child.kill()
        child.wait()
        feeder.join()
    timed_out = not timer.is_alive()
    timer.cancel()
    failed = child.returncode != 0 and len(written) <= kept
    if failed:
        raise ChildError(_what_happened(child.returncode, written, timed_out, seconds))
    if len(written) > most:
        raise ChildError(f"its result has more than {most} bytes")
    return written


class WaitingChild:
    """A child process that has imported its function and waits for the argument."""

    def __init__(self, process: Process) -> None:
        """Take a process that `start` has started."""
        self._process = process

    @classmethod
    async def start(
        cls,
        function: str,
        *,
        seconds: int,
        memory: int,
        threads: int = 1,
        niceness: int = 0,
    ) -> WaitingChild:
        """Start a child; it imports what it needs meanwhile.

        Args:
            function: `module:name` of a public function; this process need not import it.
            seconds: Limit of processor time for each thread.
            memory: Limit of its address space in bytes (where the system knows limits).
            threads: How many compute.
            niceness: Added to its scheduling priority.

        Returns:
            The child, to be asked once, or ended.
        """
        process = await asyncio.create_subprocess_exec(
            *_command(function, seconds * threads, memory, niceness),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(OPENBLAS_NUM_THREADS="1"),
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.returncode is None

    async def answer(self, data: bytes, *, seconds: int, most: int) -> bytes:
        """Have it call its function, and let the event loop go on meanwhile.

        Leaving this (by a cancellation) kills the child.

        Args:
            data: The argument.
            seconds: Limit of time from now.
            most: Largest result in bytes.

        Returns:
            The result.

        Raises:
            ChildError: If it raises, crashes, exceeds a limit, or returns too much.
        """
        kept, timed_out, written = max(most, 4 * _MOST_SAID), False, bytearray()
        try:
            async with asyncio.timeout(seconds):
                await self._ask(data)
                assert self._process.stdout is not None  # noqa: S101 - it is a pipe
                while len(written) <= kept:
                    piece = await self._process.stdout.read(1 << 16)
                    if not piece:
                        await self._process.wait()
                        break
                    written += piece
        except TimeoutError:
            timed_out = True
        finally:
            await self.end()
        status = self._process.returncode or 0
        if timed_out or (status != 0 and len(written) <= kept):
            raise ChildError(_what_happened(status, bytes(written), timed_out, seconds))
        if len(written) > most:
            raise ChildError(f"its result has more than {most} bytes")
        return bytes(written)

    async def end(self) -> None:
        """Kill it if it has not ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _ask(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError):  # a child that died does not read it
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        self._process.stdin.close()


def _command(name: str, seconds: int, memory: int, niceness: int = 0) -> list[str]:
    numbers = map(str, (seconds, memory, niceness, os.getpid()))
    return [sys.executable, "-P", "-c", _CODE, name, *numbers]


def _feed(child: subprocess.Popen[bytes], data: bytes) -> None:
    """Write the argument; a child that died does not read it."""
    assert child.stdin is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(OSError):
        child.stdin.write(data)
    with contextlib.suppress(OSError):
        child.stdin.close()  # or leaving the child would, and fail on what was not read


def _what_happened(status: int, said: bytes, timed_out: bool, seconds: int) -> str:
    if timed_out:
        return f"it took more than {seconds} seconds"
    if status == _FAILED:
        return said.decode(errors="replace")
    return f"the process that tried ended with status {status}"


def serve() -> None:
    """Do in the child what `run_in_child` asks: the function, on stdin, to stdout.

    What else is printed, be it by native code, goes where stderr goes.
    """
    name, seconds, memory, niceness, parent = sys.argv[1:]
    die_with(int(parent))
    with contextlib.suppress(OSError, AttributeError):
        os.nice(int(niceness))
    _limit(int(seconds), int(memory))
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            module, function = name.split(":")
            result = getattr(importlib.import_module(module), function)(
                sys.stdin.buffer.read()
            )
        except Exception as error:  # noqa: BLE001 - every failure is the parent's to report
            line = " ".join((str(error) or type(error).__name__).split())[:_MOST_SAID]
            output.write(line.encode(errors="replace"))
            output.flush()
            os._exit(_FAILED)
        output.write(result)


def _limit(seconds: int, memory: int) -> None:
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (allowed, allowed))
