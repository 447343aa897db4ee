"""The worker: a process that computes chunks, asked on stdin, and tells of them on stdout.

It is started by `local_workers` and talks as `worker_messages` says. What native code prints
goes to stderr. It ends with its server: when stdin ends, and by the kernel's hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, BinaryIO

from onnxscape.errors import OnnxscapeError, OutOfMemoryError
from onnxscape.files.parent_death import die_with
from onnxscape.jobs.executor import (
    Beat,
    Chunk,
    Failed,
    Finished,
    PointDone,
    Replanned,
)
from onnxscape.jobs.failpoints import reach
from onnxscape.jobs.job_inputs import without_paths
from onnxscape.jobs.loaded_jobs import LoadedJobs
from onnxscape.jobs.process_memory import resident_memory
from onnxscape.jobs.worker_messages import Loaded, event_line, request_of, shortened
from onnxscape.jobs.worker_place import WorkerPlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.jobs.executor import ChunkEvent
    from onnxscape.jobs.loaded_jobs import LoadedJob

OUT_OF_MEMORY = 74
"""Exit status of a worker that memory ran out for."""

BEAT_SECONDS = 2.0
"""Between signs of life."""


class Worker:
    """Computes one chunk after another."""

    def __init__(self, place: WorkerPlace, requests: BinaryIO, events: BinaryIO) -> None:
        """Take both ends of the line to the server.

        Args:
            place: Where it computes.
            requests: What the server asks comes from here.
            events: What happens goes there.
        """
        self._place = place
        self._jobs = LoadedJobs(place)
        self._requests, self._events = requests, events
        self._chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        self._writing = threading.Lock()
        self._lease: int | None = None
        self._returned: int | None = None

    def run(self) -> None:
        """Compute what is asked for; the process ends with the server."""
        for body in (self._listen, self._beat):
            threading.Thread(target=body, daemon=True).start()
        while True:
            self._compute(self._chunks.get())

    def _listen(self) -> None:
        """Take what the server asks, also while a chunk is computed."""
        for line in self._requests:
            request = request_of(line)
            if isinstance(request, Chunk):
                self._chunks.put(request)
            else:
                self._returned = request
        os._exit(0)  # the server is gone, or wants this process to be

    def _beat(self) -> None:
        """Tell that this process lives while it loads or computes."""
        while True:
            time.sleep(BEAT_SECONDS)
            with self._writing:
                if self._lease is not None:
                    self._write(self._lease, Beat(resident_memory(os.getpid()) or 0))

    def _tell(self, chunk: Chunk, event: ChunkEvent | Loaded) -> None:
        with self._writing:
            self._write(chunk.lease, event)
            if isinstance(event, Finished | Failed):
                self._lease = None

    def _write(self, lease: int, event: ChunkEvent | Loaded) -> None:
        try:
            self._events.write(event_line(lease, event))
            self._events.flush()
        except OSError:
            os._exit(0)  # nobody listens

    def _compute(self, chunk: Chunk) -> None:
        with self._writing:
            self._lease = chunk.lease
        try:
            job = self._jobs.get(chunk)
            self._tell(chunk, Loaded(self._jobs.ids))
            self._tell(chunk, job.ready(self._place, chunk))
            plan = job.engine.plan.to_json()
            if chunk.plan not in {None, plan}:
                self._tell(chunk, Replanned(plan, "memory is short on this device"))
            self._evaluate(chunk, job)
        except OnnxscapeError as error:
            text = without_paths(chunk.order, self._place.blob_path, str(error))
            self._tell(chunk, Failed(type(error).__name__, shortened(text)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:  # noqa: BLE001 - the server must hear of it, whatever it is
            traceback.print_exc()
            message = f"an unexpected {type(error).__name__}; the server's log has it"
            self._tell(chunk, Failed("InternalError", message))
        else:
            self._tell(chunk, Finished())

    def _evaluate(self, chunk: Chunk, job: LoadedJob) -> None:
        """Evaluate the points, each told at once, until the chunk is asked to end."""
        missing = {(point.row, point.column): point for point in chunk.points}
        last = time.perf_counter()

        def keep(point: Point, metrics: Mapping[str, float]) -> None:
            nonlocal last
            now = time.perf_counter()
            self._tell(chunk, PointDone(point, metrics, now - last))
            reach("worker.after_point")
            last = now
            del missing[point.row, point.column]

        while True:
            wanted = self._until_returned(chunk, list(missing.values()))
            try:
                with contextlib.closing(job.engine.evaluate(wanted, keep)) as evaluated:
                    for point, metrics in evaluated:
                        keep(point, metrics)
            except OutOfMemoryError as error:
                short = str(error)
            else:
                return
            # Here the error holds nothing any more. Our own other jobs are the first to go.
            if not self._jobs.forget_others(chunk.job):
                job.engine.shrink()
                batch = job.engine.plan.batch
                warning = (
                    f"{short}: going on with batches of {batch}; the last bits of new points "
                    "may differ"
                )
                self._tell(chunk, Replanned(job.engine.plan.to_json(), shortened(warning)))

    def _until_returned(self, chunk: Chunk, points: list[Point]) -> Iterator[Point]:
        for point in points:
            if self._returned == chunk.lease:
                return
            reach("worker.before_point")
            yield point


def main() -> None:
    """Run a worker as the arguments of this process say."""
    settings = json.loads(sys.argv[1])
    die_with(settings.pop("parent"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_modest(settings.pop("niceness"))
    events = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    Worker(WorkerPlace(**settings), sys.stdin.buffer, events).run()


def _be_modest(niceness: int) -> None:
    """Let the server come first, leave no core files, and be the first to die of no memory."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(niceness)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("700")
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - there is none on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
