"""From what a server tells of a job to what an observer is told of a run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from onnxscape.jobs.states import JobState
from onnxscape.service.client.watching import JobChanged, PointsDone

if TYPE_CHECKING:
    from onnxscape.evaluation.observer import Observer, Outline
    from onnxscape.service.client.job_info import JobInfo, PointResult
    from onnxscape.service.client.watching import WatchEvent

_FAILURES_TOLD = 5

_WORTH_SECONDS = 3.0
"""Of waiting, that a line tells."""


class Following:
    """Tells an observer of a job as if it ran here.

    Points that were there before are part of the outline, as those of a run that goes on.

    Attributes:
        job: The job when it last changed; None before the first event.
        computed: Points that came since then.
        reused: Points that were there before.
    """

    def __init__(self, observer: Observer, *, directions: str | None = None) -> None:
        """Start before the first event.

        Args:
            observer: Told what happens.
            directions: What the user calls the file that directions come from: the server
                knows its content only.
        """
        self._observer = observer
        self._directions = directions
        self._told: set[str] = set()
        self._outline: Outline | None = None
        self._outlined = False
        self._there: int | None = None
        self._losses: list[float] = []
        self._failures = 0
        self.job: JobInfo | None = None
        self.computed = 0
        self.reused = 0

    @property
    def outlined(self) -> bool:
        """Whether the outline has been told: a worker has begun."""
        return self._outlined

    def take(self, event: WatchEvent) -> None:
        """Tell of what happened.

        Args:
            event: The next event of the job.
        """
        if isinstance(event, JobChanged):
            self.changed(event.job)
        elif isinstance(event, PointsDone):
            for result in event.points:
                self._point(result)

    def changed(self, job: JobInfo) -> None:
        """Tell of a job's notes, warnings and outline, each once.

        Args:
            job: The job now.
        """
        self.job = job
        for texts, tell in (
            (job.notes, self._observer.note),
            (job.warnings, self._observer.warning),
        ):
            for text in texts:
                if text not in self._told:
                    self._told.add(text)
                    tell(text)
        if self._there is None:
            self._there = job.done + job.failed
            self._tell_queue(job)
        self._outline = job.outline or self._outline
        if self.reused >= self._there:
            self._tell_outline()

    def _tell_queue(self, job: JobInfo) -> None:
        """Tell how long a job waits that has not begun, if that is worth a line."""
        whole = job.estimate.completion_seconds
        if job.state is not JobState.QUEUED or whole is None:
            return
        ahead = whole - job.estimate.device_seconds
        if ahead >= _WORTH_SECONDS:
            about = f"{ahead:.0f} s" if ahead < 120 else f"{ahead / 60:.0f} min"
            self._observer.note(f"{'queue':<10}  behind about {about} of other work")

    def finish(self) -> None:
        """Tell what is left to tell after the last event."""
        self._tell_outline()
        more = self._failures - _FAILURES_TOLD
        if more > 0:
            self._observer.warning(f"{more} more points could not be evaluated")

    def _point(self, result: PointResult) -> None:
        if result.failure is not None:
            self._failures += 1
            if self._failures <= _FAILURES_TOLD:
                place = f"({result.point.alpha:g}, {result.point.beta:g})"
                self._observer.warning(f"no loss at {place}: {result.failure}")
        if self.reused < (self._there or 0):
            self.reused += 1
            if result.failure is None and result.point.row >= 0:
                self._losses.append(result.metrics["loss"])
            if self.reused == self._there:
                self._tell_outline()
            return
        self.computed += 1
        if result.failure is None:
            done = self.reused + self.computed
            total = max(done, self.job.total if self.job is not None else 0)
            self._observer.point(result.point, result.metrics, done, total)

    def _tell_outline(self) -> None:
        if self._outlined or self._outline is None:
            return
        self._outlined = True
        finite = [loss for loss in self._losses if math.isfinite(loss)]
        outline = replace(
            self._outline,
            reused=self.reused,
            known=(min(finite), max(finite)) if finite else None,
        )
        if self._directions is not None:
            outline = replace(outline, directions=f"from {self._directions}")
        self._observer.outline(outline)
