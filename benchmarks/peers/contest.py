"""The contest: all contestants in turns, block by block, in one process."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from common.machine import rounded
from common.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    Points = Sequence[tuple[float, float]]


class Contestant(Protocol):
    """Evaluates points, one block after the other."""

    def advance(self, points: Points) -> Sequence[float]:
        """Evaluate a block and return when all of it is done.

        Args:
            points: The points (alpha, beta); who walks a way of his own evaluates as many.

        Returns:
            The mean losses, in the order of `path`, or nothing where there are none.
        """

    def path(self, points: Points) -> Points | None:
        """Say where `advance` really was; None if it cannot be told in those coordinates.

        Args:
            points: All the points of the contest.
        """

    def close(self) -> None:
        """Free what is held."""


@dataclass(slots=True)
class Row:
    """What a contestant did.

    Attributes:
        name: What it is.
        note: What it does that others do not, or the reverse.
        batch: Samples per forward pass.
        seconds: Of each block.
        intervals: Start and end of each block.
        losses: Of the points in the order of its path.
        error: Why it gave up.
    """

    name: str
    note: str
    batch: int
    seconds: list[float] = field(default_factory=list)
    intervals: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    error: str = ""


def race(
    contestants: dict[str, Contestant],
    rows: dict[str, Row],
    points: Points,
    block: int,
    device: str,
) -> None:
    """Let all evaluate all points in turns; who fails is out.

    The order is turned by one with every block, so that no one always follows the same.

    Args:
        contestants: By name; each has evaluated something already.
        rows: By name; filled in.
        points: The points.
        block: Points per turn.
        device: `cuda` to watch the GPU meanwhile.
    """
    names = list(contestants)
    watch = Watch(device)
    for turn, start in enumerate(range(0, len(points), block)):
        part = points[start : start + block]
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            row = rows[name]
            if row.error:
                continue
            begin = time.perf_counter()
            try:
                losses = contestants[name].advance(part)
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the results
                row.error = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                continue
            end = time.perf_counter()
            row.seconds.append(end - begin)
            row.intervals.append((begin, end))
            row.losses += losses
        print(f"  {min(start + block, len(points))} of {len(points)} points", flush=True)
    watch.stop()
    busy = {name: watch.during(row.intervals) for name, row in rows.items()}
    for name, seen in busy.items():
        if seen:
            rows[name].note = "; ".join(
                filter(None, [rows[name].note, f"GPU {seen['utilization.gpu']:.0f} % busy"])
            )


def compared(
    row: Row, path: Points | None, expected: dict[tuple[float, float], float]
) -> float:
    """Compare the losses of a contestant with ours.

    Args:
        row: The contestant.
        path: Where it was.
        expected: Our losses by point.

    Returns:
        The largest difference, relative to what is above 1; NaN if no point is shared.
    """
    if path is None:
        return math.nan
    worst = math.nan
    for point, loss in zip(path, row.losses, strict=False):
        ours = expected.get(key(point))
        if ours is None or not math.isfinite(ours):
            continue
        difference = abs(loss - ours) / max(1.0, abs(ours))
        if math.isnan(difference):
            return math.inf  # ours is finite
        worst = difference if math.isnan(worst) else max(worst, difference)
    return worst


def key(point: tuple[float, float]) -> tuple[float, float]:
    """Return a point as the key of a table: coordinates that were added up are inexact."""
    return round(point[0], 6) + 0.0, round(point[1], 6) + 0.0


def ratios(rows: dict[str, Row], limit: str, points: int) -> list[dict[str, object]]:
    """Relate all to the limit, block by block.

    Args:
        rows: The contestants.
        limit: Name of the one that the others are related to.
        points: Points of the contest.

    Returns:
        One record each: `ms_per_point`, `over_bare` (of all seconds), and the quartiles of
        the blocks' own ratios.
    """
    base = rows[limit].seconds
    table = []
    for row in rows.values():
        record: dict[str, object] = {"name": row.name, "note": row.note, "batch": row.batch}
        if row.error or not row.seconds:
            table.append(record | {"error": row.error or "did not start"})
            continue
        blocks = [mine / theirs for mine, theirs in zip(row.seconds, base, strict=True)]
        low, middle, high = _quartiles(blocks)
        record |= {
            "ms_per_point": rounded(1e3 * sum(row.seconds) / points),
            "over_bare": rounded(sum(row.seconds) / sum(base)),
            "over_bare_blocks": [rounded(low), rounded(middle), rounded(high)],
        }
        table.append(record)
    return table


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
