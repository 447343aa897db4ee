"""A job's points: which are wanted next, which are leased, and which are finished.

The schedule of an evaluation asks for points in rounds; before the next round all points of
one have to be there. Here several slots take points of a round at the same time, bring them
back unfinished, or never come back.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import TYPE_CHECKING

from onnxscape.evaluation.progress import Progress
from onnxscape.evaluation.schedule import make_schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from onnxscape.core.grid import Point
    from onnxscape.core.spec import EvalSpec

    Place = tuple[int, int]

AHEAD = 8192
"""Points that are made ready at a time."""


class Rounds:
    """What of a job's schedule is ready to be leased, leased, and finished.

    All methods return at once but `take_up` and `ahead`, which are for a thread: they may walk
    over the whole grid, and refine it. While one of them runs, the others may be called: a
    point that changes hands is never in neither, or a thread might find the round finished.

    Attributes:
        over: Whether all rounds are: every point is finished, or failed.
        tolerant: Whether the schedule goes on without points that failed.
    """

    def __init__(self, spec: EvalSpec) -> None:
        """Start with no point finished.

        Args:
            spec: What the job evaluates.
        """
        self._progress = Progress(spec.grid)
        self._schedule = make_schedule(spec)
        self._rounds = self._schedule.rounds(self._progress)
        self._round: Iterator[Point] | None = None
        self._used_up = False
        self._ready: deque[Point] = deque()  # its ends are safe to use from two threads
        self._leased: dict[Place, Point] = {}
        self._strikes: dict[Place, int] = {}
        self.tolerant = spec.tolerance is None and spec.two_level is None
        self.over = False

    @property
    def total(self) -> int:
        """Number of points of the whole job, as far as known."""
        return self._schedule.total

    @property
    def ready(self) -> int:
        """Number of points that can be leased now."""
        return len(self._ready)

    @property
    def leased(self) -> int:
        """Number of points that are leased."""
        return len(self._leased)

    @property
    def waits_for_ahead(self) -> bool:
        """Whether more points, or the end, may come of `ahead`."""
        if self.over:
            return False
        if self._used_up:
            return not self._ready and not self._leased
        return len(self._ready) < AHEAD // 2

    def take_up(
        self,
        results: Mapping[Place, Mapping[str, float]],
        failed: Iterable[Place] = (),
        strikes: Mapping[Place, int] | None = None,
    ) -> None:
        """Take up what an earlier server left; before anything else.

        Args:
            results: (row, column) to the metrics of finished points.
            failed: Those that could not be evaluated.
            strikes: How many workers died on which points.
        """
        for (row, column), metrics in results.items():
            self._progress.add(row, column, metrics["loss"])
        for row, column in failed:
            self._progress.add(row, column, math.nan)
        self._strikes.update(strikes or {})

    def ahead(self, most: int = AHEAD) -> None:
        """Make points ready, of the next round if this one is finished; or find it all over.

        Only one call may run at a time.

        Args:
            most: How many.
        """
        left = most
        while left > 0:
            if self._round is None:
                points = next(self._rounds, None)
                if points is None:
                    self.over = True
                    return
                self._round = iter(self._progress.missing(points))
                self._used_up = False
            before = left
            for point in itertools.islice(self._round, left):
                self._ready.append(point)
                left -= 1
            if left == 0:
                return
            if before != left or self._ready or self._leased:
                self._used_up = True
                return
            self._round = None

    def take(self, most: int) -> Sequence[Point]:
        """Lease points, those given back first.

        Args:
            most: How many.

        Returns:
            The points, none if none is ready. A point that a worker died on comes alone.
        """
        points: list[Point] = []
        while self._ready and len(points) < most:
            struck = _place(self._ready[0]) in self._strikes
            if struck and points:
                break
            point = self._ready[0]
            points.append(point)
            self._leased[_place(point)] = point
            self._ready.popleft()
            if struck:
                break
        return points

    def finish(self, point: Point, loss: float) -> None:
        """Count a point as finished, leased or not.

        Args:
            point: Which; it is stored for good.
            loss: Its loss; NaN if it failed.
        """
        self._progress.add(point.row, point.column, loss)
        self._leased.pop(_place(point), None)

    def give_back(self, points: Sequence[Point]) -> None:
        """End the lease of points; those that are not finished are the next ones to be leased.

        Args:
            points: In their order; of those that are not leased nothing is changed.
        """
        for point in reversed(points):
            if _place(point) in self._leased:
                self._ready.appendleft(point)
                del self._leased[_place(point)]

    def strike(self, point: Point, count: int) -> None:
        """Have a point that a worker died on leased alone from now on.

        Args:
            point: Which.
            count: How many workers have died on it.
        """
        self._strikes[_place(point)] = count


def _place(point: Point) -> Place:
    return point.row, point.column
