"""One lease: a chunk under way on a slot, followed from its first event to its last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from onnxscape.jobs.executor import (
    Beat,
    Failed,
    Finished,
    Lost,
    PointDone,
    Ready,
    Replanned,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.jobs.executor import ChunkEvent, Executor
    from onnxscape.jobs.live_job import Lease

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Broken:
    """The executor itself failed; neither job nor points are to blame."""


Ending = Finished | Failed | Lost | Broken


class Keeper(Protocol):
    """Told what comes of a lease."""

    async def ready(self, lease: Lease, ready: Ready) -> None:
        """The worker is ready."""

    async def replanned(self, lease: Lease, plan: Replanned) -> None:
        """The points to come have another plan."""

    def point(
        self, lease: Lease, point: Point, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """A point of the lease is finished, for the first time."""


async def follow(
    lease: Lease,
    executor: Executor,
    keeper: Keeper,
    *,
    silence: float,
    longest: float,
    clock: Callable[[], float],
) -> Ending:
    """Run a chunk until it ends, or nothing is heard of it any more.

    Args:
        lease: Which.
        executor: Runs it.
        keeper: Told what comes of it.
        silence: Seconds without an event after which it is given up.
        longest: Seconds from being ready after which the worker is asked to end it.
        clock: The time.

    Returns:
        How it ended.
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(silence)
    ending: Ending | None = None
    try:
        async with limit, contextlib.aclosing(executor.run(lease.slot, lease.chunk)) as run:
            async for event in run:
                limit.reschedule(None)  # what we do ourselves is no silence
                if isinstance(event, Finished | Failed | Lost):
                    ending = event
                    break
                await _take(lease, event, keeper, clock)
                _return_if_long(lease, executor, longest, clock)
                limit.reschedule(loop.time() + silence)
    except TimeoutError:
        if not limit.expired():
            return _broken(lease)
        return Lost(
            "silent", f"nothing was heard of it for {silence:g} seconds", lease.ready is None
        )
    except Exception:  # noqa: BLE001 - executors may be anybody's
        return _broken(lease)
    return ending or Lost(
        "crashed", "its events ended without a last one", lease.ready is None
    )


def _broken(lease: Lease) -> Broken:
    extra = {"job": lease.chunk.job, "lease": lease.chunk.lease}
    _log.exception("the executor failed on slot %s", lease.slot.name, extra=extra)
    return Broken()


async def _take(
    lease: Lease, event: ChunkEvent, keeper: Keeper, clock: Callable[[], float]
) -> None:
    match event:
        case Ready():
            lease.ready = clock()
            await keeper.ready(lease, event)
        case Replanned():
            await keeper.replanned(lease, event)
        case PointDone():
            place = event.point.row, event.point.column
            point = lease.missing.pop(place, None)
            if point is not None:  # else it came before, or is none of this lease
                keeper.point(lease, point, event.metrics, event.seconds)
        case Beat():
            pass
        case _:
            raise AssertionError(event)


def _return_if_long(
    lease: Lease, executor: Executor, longest: float, clock: Callable[[], float]
) -> None:
    """Ask for the chunk back if its points take longer than was thought."""
    if lease.ready is None or lease.returning or not lease.missing:
        return
    if clock() - lease.ready > longest:
        lease.returning = True
        executor.give_back(lease.slot)
