"""When jobs will be finished: estimated as often as it does not hold up calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from onnxscape.jobs.states import FINISHED

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxscape.jobs.records import Job

SHARE = 0.05
"""Of the event loop's time, for estimates: each looks at all jobs that are not finished."""


class Completions:
    """Remembers estimates, and makes new ones within a share of the time."""

    def __init__(
        self, estimate: Callable[[Job], float], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Start with none.

        Args:
            estimate: Returns the seconds until a job is finished.
            clock: The time in seconds.
        """
        self._estimate, self._clock = estimate, clock
        self._ends: dict[str, float] = {}
        self._next = -float("inf")

    def of(self, job: Job, *, needed: bool = False) -> float | None:
        """Return when a job will be finished.

        Args:
            job: The job.
            needed: Whether there must be an estimate.

        Returns:
            Seconds from now; None if it is finished, or nothing is known yet.
        """
        if job.state in FINISHED:
            self._ends.pop(job.id, None)
            return None
        begin = self._clock()
        if needed or begin >= self._next:
            seconds = self._estimate(job)
            end = self._clock()
            self._next = end + (end - begin) / SHARE
            if not job.id:  # only thought of
                return seconds
            self._ends[job.id] = end + seconds
        known = self._ends.get(job.id)
        return None if known is None else max(known - begin, 0.0)
