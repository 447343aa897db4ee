"""Local workers: an executor of processes on this machine, one for each slot.

This process never imports what evaluates models; its workers do, and live on between chunks
and jobs.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxscape.jobs.executor import (
    Beat,
    Counters,
    Failed,
    Finished,
    Lost,
    PointDone,
    Ready,
    Replanned,
    WorkerLimits,
)
from onnxscape.jobs.worker_messages import Loaded, chunk_line, give_back_line
from onnxscape.jobs.worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from onnxscape.core.grid import Point
    from onnxscape.jobs.executor import Chunk, ChunkEvent, Slot

_GRACE = 1.0
"""Seconds in which a worker may end a chunk that was given up, before it is killed."""


@dataclass(slots=True)
class _Course:
    """How far a chunk is, to know what may come next.

    Attributes:
        lease: Its lease.
        limits: What the worker may use.
        missing: Points that have not come, by row and column.
        deadline: When the next event but a beat is due.
        ready: Whether the worker is.
        returning: Whether the worker was asked to end the chunk.
    """

    lease: int
    limits: WorkerLimits
    missing: dict[tuple[int, int], Point]
    deadline: float
    ready: bool = False
    returning: bool = False

    @classmethod
    def of(cls, chunk: Chunk, limits: WorkerLimits) -> _Course:
        """Return the course of a chunk that is asked for now.

        Args:
            chunk: The chunk.
            limits: What the worker may use.
        """
        missing = {(point.row, point.column): point for point in chunk.points}
        return cls(chunk.lease, limits, missing, time.monotonic() + limits.loading_seconds)

    @property
    def late(self) -> str:
        """What is said of a worker that misses the deadline."""
        return "it took too long " + ("for a point" if self.ready else "to load")

    def fault(self, event: ChunkEvent) -> str | None:
        """Return what is wrong with an event, if anything is, and go on.

        Args:
            event: What came.
        """
        fault = None
        match event:
            case Ready() if self.ready:
                fault = "it was ready twice"
            case Ready():
                self.ready = True
            case PointDone(point=point):
                if self.missing.pop((point.row, point.column), None) != point:
                    fault = f"it sent the point ({point.row}, {point.column}) unasked"
            case Finished() if self.missing and not self.returning:
                fault = f"it finished with {len(self.missing)} points missing"
        if not self.ready and isinstance(event, PointDone | Replanned | Finished):
            fault = f"it sent {type(event).__name__} before it was ready"
        if isinstance(event, Ready | PointDone | Replanned):
            self.deadline = time.monotonic() + self.limits.point_seconds
        return fault


@dataclass(slots=True)
class _Place:
    """A slot, and what is there.

    Attributes:
        slot: The slot.
        worker: Its process, if there is one.
        course: Of the chunk under way.
    """

    slot: Slot
    worker: WorkerProcess | None = None
    course: _Course | None = None


class LocalExecutor:
    """Evaluates chunks in processes on this machine.

    Attributes:
        counters: What was seen so far.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        blobs: Path,
        data_dir: Path | None,
        limits: WorkerLimits | None = None,
        offline: bool = True,
    ) -> None:
        """Take what there is; nothing is started.

        Args:
            slots: Places for workers.
            blobs: Folder of the blobs: `ab/abcd...`.
            data_dir: Where data known by name are kept; None for the user's cache folder.
            limits: What a worker may use.
            offline: Whether data known by name must be there already.
        """
        self._limits = WorkerLimits() if limits is None else limits
        self._places = {slot.name: _Place(slot) for slot in slots}
        self._settings: Mapping[str, Any] = {
            "threads": self._limits.threads,
            "blobs": str(blobs),
            "data_dir": None if data_dir is None else str(data_dir),
            "offline": offline,
            "cache": self._limits.cache,
            "niceness": self._limits.niceness,
        }
        self._closing = False
        self.counters = Counters()

    @property
    def slots(self) -> Sequence[Slot]:
        """Where chunks can be computed."""
        return tuple(place.slot for place in self._places.values())

    async def start(self) -> None:
        """Start all workers, so that the first chunks need not wait for imports."""
        for place in self._places.values():
            await self._worker(place)

    def loaded(self, slot: Slot) -> Sequence[tuple[str, str]]:
        """Return what the worker of a slot has loaded: job ID and affinity of each.

        Args:
            slot: The slot.
        """
        worker = self._places[slot.name].worker
        return () if worker is None or not worker.alive else tuple(worker.jobs.items())

    def give_back(self, slot: Slot) -> None:
        """Ask for the chunk of a slot to end after the point under way.

        Args:
            slot: Where; nothing happens if it is free.
        """
        place = self._places[slot.name]
        if place.worker is not None and place.course is not None:
            place.course.returning = True
            place.worker.send_soon(give_back_line(place.course.lease))

    async def close(self) -> None:
        """End all workers, whatever they do."""
        self._closing = True
        for place in self._places.values():
            worker, place.worker = place.worker, None
            if worker is not None:
                worker.kill("killed", "the server is going down")
                await worker.ended()

    async def run(self, slot: Slot, chunk: Chunk) -> AsyncGenerator[ChunkEvent]:
        """Compute a chunk; see `Executor`.

        Args:
            slot: Where; no other chunk may run there meanwhile.
            chunk: What.

        Yields:
            What happens.

        Raises:
            RuntimeError: If another chunk runs there.
        """
        place = self._places[slot.name]
        if place.course is not None:
            raise RuntimeError(f"{slot.name} computes another chunk")
        if self._closing:
            yield Lost("killed", "the server is going down", loading=True)
            return
        course = place.course = _Course.of(chunk, self._limits)
        over = False
        try:
            async with contextlib.aclosing(self._events(place, chunk, course)) as events:
                async for event in events:
                    over = isinstance(event, Finished | Failed | Lost)
                    if isinstance(event, Lost):
                        lost = self.counters.lost
                        lost[event.reason] = lost.get(event.reason, 0) + 1
                    yield event
        finally:
            try:
                if not over:
                    await self._abandon(place, chunk)
            finally:
                place.course = None

    async def _worker(self, place: _Place) -> WorkerProcess:
        """Return the worker of a slot; a new one if there is none that lives."""
        if place.worker is not None and place.worker.alive:
            return place.worker
        if place.worker is not None:
            await place.worker.ended()
        place.worker = await WorkerProcess.start(
            {**self._settings, "device": place.slot.device}
        )
        self.counters.started += 1
        return place.worker

    async def _events(
        self, place: _Place, chunk: Chunk, course: _Course
    ) -> AsyncGenerator[ChunkEvent]:
        worker = await self._worker(place)
        affinities = {**worker.jobs, chunk.job: chunk.order.affinity}
        await worker.send(chunk_line(chunk))
        if course.returning:  # the request came while there was nobody to be told
            worker.send_soon(give_back_line(chunk.lease))
        while True:
            got = await worker.receive(
                memory=self._limits.memory,
                deadline=course.deadline,
                late=course.late,
                loading=not course.ready,
            )
            if isinstance(got, Lost):
                yield got
                return
            lease, event = got
            stale = lease != chunk.lease  # of a chunk that was given up
            if (stale or isinstance(event, Beat)) and time.monotonic() > course.deadline:
                worker.kill("time", course.late)  # it talks, and does nothing
            if stale:
                continue
            if isinstance(event, Loaded):
                worker.jobs = {job: affinities[job] for job in event.jobs if job in affinities}
                continue
            fault = course.fault(event)
            if fault is not None:
                worker.kill("crashed", fault)
                yield await worker.lost(loading=not course.ready)
                return
            yield event
            if isinstance(event, Finished | Failed):
                return

    async def _abandon(self, place: _Place, chunk: Chunk) -> None:
        """Have a chunk end that nobody waits for, or kill its worker."""
        worker = place.worker
        if worker is None:
            return
        worker.send_soon(give_back_line(chunk.lease))
        deadline = time.monotonic() + _GRACE
        try:
            while True:
                got = await worker.receive(
                    memory=self._limits.memory,
                    deadline=deadline,
                    late="its chunk was given up",
                    loading=False,
                )
                if isinstance(got, Lost):
                    return
                if got[0] == chunk.lease and isinstance(got[1], Finished | Failed):
                    return
        except BaseException:
            worker.kill("time", "its chunk was given up")
            raise
