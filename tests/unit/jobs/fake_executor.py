"""An executor without workers: closed-form losses at once, and the faults that it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnxscape.core.plan import Plan
from onnxscape.jobs.executor import (
    Beat,
    Failed,
    Finished,
    Lost,
    PointDone,
    Ready,
    Replanned,
    Slot,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from onnxscape.core.grid import Point
    from onnxscape.jobs.executor import Chunk, ChunkEvent

PLAN = Plan(
    provider="CPUExecutionProvider",
    strategy="constant",
    batch=100,
    folded=True,
    runtime="fake",
    machine="fake",
)
"""The plan of every job that has none recorded."""

OUTLINE = {
    "model": "fake", "moved": 2, "elements": 20, "others": 1, "directions": "random, seed 0",
    "loss": "closed form", "data": "fake: as is", "samples": 100, "population": 100,
    "points": 25, "at_most": False, "growing": False, "two_level": None, "reused": 0,
    "center_apart": False, "known": None, "device": "fake", "strategy": "constant weights",
    "seconds_per_point": 0.0, "calibration": [],
}  # fmt: skip
"""Fields of `Outline`, as JSON holds them."""


def bowl(point: Point) -> dict[str, float]:
    """Return the metrics of every job: loss alpha^2 + 2 beta^2 + 1.

    Args:
        point: Where.
    """
    loss = point.alpha**2 + 2 * point.beta**2 + 1
    return {"loss": loss, "accuracy": 1 / loss, "loss_stderr": 0.0}


@dataclass(frozen=True, slots=True)
class Crash:
    """The worker dies (before the point's result, or before it is ready)."""

    reason: str = "killed"


@dataclass(frozen=True, slots=True)
class Break:
    """The job cannot be computed."""

    reason: str = "SelfTestError"
    message: str = "scripted"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing comes for some time, then everything goes on: silence, late results.

    Attributes:
        seconds: How long; None until the executor is closed or the chunk given up.
        beats: Seconds between signs of life meanwhile; None for silence.
    """

    seconds: float | None = None
    beats: float | None = None


@dataclass(slots=True)
class Hold:
    """The point is not finished before `go` is set; `reached` is set when it is waited for."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Shrink:
    """The points from here on have another plan, of half the batch."""


@dataclass(frozen=True, slots=True)
class Twice:
    """The point comes twice, against the protocol."""


Fault = Crash | Break | Wait | Hold | Shrink | Twice


@dataclass(slots=True)
class Run:
    """A chunk that was run.

    Attributes:
        slot: Where.
        chunk: What.
        events: What came of it so far.
        over: Whether it has ended, or was given up.
    """

    slot: Slot
    chunk: Chunk
    events: list[ChunkEvent] = field(default_factory=list)
    over: bool = False

    @property
    def points(self) -> list[Point]:
        """Those that came."""
        return [event.point for event in self.events if isinstance(event, PointDone)]


class FakeExecutor:
    """Evaluates chunks in no time, by a formula.

    Attributes:
        runs: Every chunk in the order of its lease.
        closed: Whether it was closed.
        seconds: What a point is said to take.
        pace: Seconds that a point really takes.
    """

    def __init__(
        self,
        slots: int = 1,
        *,
        metrics: Callable[[Point], Mapping[str, float]] = bowl,
        seconds: float = 0.5,
        pace: float = 0.0,
        cache: int = 2,
    ) -> None:
        """Start with no faults.

        Args:
            slots: How many.
            metrics: The metrics of a point.
            seconds: What a point is said to take.
            pace: Seconds that a point really takes.
            cache: Jobs that a slot keeps loaded.
        """
        self._slots = [Slot(f"fake/{number}", "cpu") for number in range(slots)]
        self._metrics, self.seconds, self.pace = metrics, seconds, pace
        self._at_points: dict[tuple[int, int], deque[Fault]] = defaultdict(deque)
        self._at_loading: deque[Fault] = deque()
        self._loaded: dict[str, deque[tuple[str, str]]] = {
            slot.name: deque(maxlen=cache) for slot in self._slots
        }
        self._given_back: set[str] = set()
        self._crashing: dict[str, asyncio.Event] = {}
        self.runs: list[Run] = []
        self.closed = False

    def at_point(self, row: int, column: int, *faults: Fault) -> None:
        """Have faults at a point: one each time that it is evaluated, then none.

        Args:
            row: Its row.
            column: Its column.
            faults: The faults in their order.
        """
        self._at_points[row, column].extend(faults)

    def at_loading(self, *faults: Fault) -> None:
        """Have faults before the next chunks are ready, one a chunk.

        Args:
            faults: The faults in their order.
        """
        self._at_loading.extend(faults)

    def crash(self, slot: Slot) -> None:
        """Kill the worker of a slot now.

        Args:
            slot: Where a chunk is under way.
        """
        self._crashing[slot.name].set()

    def add_slot(self) -> Slot:
        """Return one more slot, as an executor of several machines may get."""
        slot = Slot(f"fake/{len(self._slots)}", "cpu")
        self._slots.append(slot)
        self._loaded[slot.name] = deque(maxlen=2)
        return slot

    @property
    def slots(self) -> Sequence[Slot]:
        """Where chunks can be computed."""
        return tuple(self._slots)

    async def start(self) -> None:
        """Do nothing."""

    def loaded(self, slot: Slot) -> Sequence[tuple[str, str]]:
        """Return what a slot has loaded."""
        return tuple(self._loaded[slot.name])

    def give_back(self, slot: Slot) -> None:
        """End the chunk of a slot after the point under way."""
        if slot.name in self._crashing:
            self._given_back.add(slot.name)

    async def close(self) -> None:
        """End all chunks as lost."""
        self.closed = True
        for crash in self._crashing.values():
            crash.set()

    async def run(self, slot: Slot, chunk: Chunk) -> AsyncGenerator[ChunkEvent]:
        """Compute a chunk."""
        assert slot.name not in self._crashing, f"{slot.name} has a chunk already"
        assert not self.closed, "closed"
        run = Run(slot, chunk)
        self.runs.append(run)
        crash = self._crashing[slot.name] = asyncio.Event()
        self._given_back.discard(slot.name)
        try:
            async with contextlib.aclosing(self._events(slot, chunk, crash)) as events:
                async for event in events:
                    if isinstance(event, Lost):
                        self._loaded[slot.name].clear()
                    run.events.append(event)
                    yield event
        finally:
            run.over = True
            del self._crashing[slot.name]

    async def _events(
        self, slot: Slot, chunk: Chunk, crash: asyncio.Event
    ) -> AsyncGenerator[ChunkEvent]:
        plan = PLAN.to_json() if chunk.plan is None else chunk.plan
        fault = self._at_loading.popleft() if self._at_loading else None
        async for event in self._suffer(fault, crash, loading=True):
            yield event
            if isinstance(event, Lost | Failed):
                return
        self._keep_loaded(slot, chunk)
        yield Ready(
            plan=plan,
            provenance={"device": "fake", "threads": 1, "onnxscape": "fake"},
            outline=OUTLINE,
            seconds_per_point=self.seconds,
        )
        for point in chunk.points:
            if slot.name in self._given_back:
                break
            faults = self._at_points[point.row, point.column]
            fault = faults.popleft() if faults else None
            async for event in self._suffer(fault, crash, loading=False):
                yield event
                if isinstance(event, Lost | Failed):
                    return
            if isinstance(fault, Shrink):
                plan = _half(plan)
                yield Replanned(plan, "scripted shortage of memory")
            for _ in range(2 if isinstance(fault, Twice) else 1):
                yield PointDone(point, dict(self._metrics(point)), self.seconds)
        yield Finished()

    async def _suffer(
        self, fault: Fault | None, crash: asyncio.Event, *, loading: bool
    ) -> AsyncGenerator[ChunkEvent]:
        """Yield what a fault makes happen before the point, a last event included."""
        if isinstance(fault, Crash):
            yield Lost(fault.reason, "scripted crash", loading)
            return
        if isinstance(fault, Break):
            yield Failed(fault.reason, fault.message)
            return
        beats, left = None, self.pace
        go = asyncio.Event()
        if isinstance(fault, Wait):
            beats, left = fault.beats, fault.seconds
        elif isinstance(fault, Hold):
            fault.reached.set()
            go, left = fault.go, None
        while not crash.is_set() and not go.is_set() and (left is None or left > 0):
            turn = min((t for t in (beats, left) if t is not None), default=None)
            await _first_of(go, crash, turn)
            left = None if left is None or turn is None else left - turn
            if beats is not None and not (crash.is_set() or go.is_set()):
                yield Beat(1 << 20)
        await asyncio.sleep(0)
        if crash.is_set():
            yield Lost("killed", "killed from outside", loading)

    def _keep_loaded(self, slot: Slot, chunk: Chunk) -> None:
        entry = (chunk.job, chunk.order.affinity)
        kept = self._loaded[slot.name]
        if entry in kept:
            kept.remove(entry)
        kept.append(entry)


async def _first_of(go: asyncio.Event, crash: asyncio.Event, seconds: float | None) -> None:
    """Wait until either is set, or for some time."""
    tasks = [asyncio.ensure_future(event.wait()) for event in (go, crash)]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _half(plan: str) -> str:
    values: dict[str, Any] = json.loads(plan)
    return Plan.from_dict(values | {"batch": values["batch"] // 2}).to_json()
