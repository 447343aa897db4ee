"""Watching a job: its changes and points as one sequence that can be taken up anywhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.jobs.states import FINISHED
from onnxscape.service.answers.names import JOBS
from onnxscape.service.answers.rich_errors import (
    BadRequestError,
    Exceeded,
    ExhaustedError,
    NotFoundError,
    UnavailableError,
    Violation,
)
from onnxscape.service.jobs.messages import point_batches
from onnxscape.v1.jobs_pb2 import Heartbeat, WatchJobResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence

    from onnxscape.jobs.records import Job, StoredPoint
    from onnxscape.v1 import jobs_pb2

    Look = Callable[[int], Awaitable["Sight | None"]]
    Changed = Callable[[int, float], Awaitable[bool]]

BATCH = 200
"""Most points that are told at once, and held for one watcher."""

PAUSE_SECONDS = 0.2
"""Between two looks of a watcher, at least: points that come meanwhile are told together.
Without it, every point of a job would wake everybody who watches it."""

SHARE_SECONDS = 0.01
"""Between two looks for each stream that there is, if that is more: so many looks cost the
server about the same, however many watch."""

LONGEST_PAUSE = 2.0
"""Between two looks at most: so late is a watcher told."""

BACK_SECONDS = 2.0
"""When to try again while the server restarts."""


class Watchers:
    """Who watches how many jobs, and whether they have to go.

    Attributes:
        leaving: Set when the server goes down.
    """

    def __init__(self) -> None:
        """Start with nobody."""
        self._by_user: Counter[str] = Counter()
        self.leaving = asyncio.Event()

    @property
    def total(self) -> int:
        """Number of streams."""
        return self._by_user.total()

    def of(self, user: str) -> int:
        """Return how many streams a user has.

        Args:
            user: Who.
        """
        return self._by_user[user]

    @property
    def pause(self) -> float:
        """Seconds between two looks of a stream."""
        return min(max(PAUSE_SECONDS, SHARE_SECONDS * self.total), LONGEST_PAUSE)

    async def rest(self) -> None:
        """Wait for that time, or until the server goes down."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.pause):
                await self.leaving.wait()

    @contextlib.contextmanager
    def place(self, user: str, limit: int) -> Generator[None]:
        """Count one stream more.

        Args:
            user: Whose.
            limit: How many the user may have.

        Yields:
            Nothing.

        Raises:
            ExhaustedError: If that would be too many.
        """
        if self._by_user[user] >= limit:
            text = f"you watch {self._by_user[user]} jobs at once, of at most {limit}"
            raise ExhaustedError(
                "WATCHERS_QUOTA",
                f"{text}; end a stream before you begin another",
                exceeded=[Exceeded("watchers", text)],
            )
        self._by_user[user] += 1
        try:
            yield
        finally:
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]

    def refuse_leaving(self) -> None:
        """Send the caller away if the server goes down.

        Raises:
            UnavailableError: If it does.
        """
        if self.leaving.is_set():
            raise UnavailableError(
                "DRAINING",
                "the server is going down; what it has is kept; try again",
                retry_seconds=BACK_SECONDS,
            )


@dataclass(frozen=True, slots=True)
class Sight:
    """What is to be told of a job after a revision, or a first part of it.

    Attributes:
        job: The job when it was looked at.
        change: Revision up to which the job itself has changed, before the first point.
        points: Responses with the points, in the order of their revisions; a tenth of what the
            points themselves would take while somebody is slow to read.
    """

    job: Job
    change: int
    points: tuple[WatchJobResponse, ...]

    @classmethod
    def of(cls, job: Job, points: Sequence[StoredPoint]) -> Sight:
        """Put in order what was read.

        Args:
            job: The job.
            points: Its first points after the revision, in their order. They are read after
                the job, so that there may be some of later revisions; these wait for the next
                look.

        Returns:
            What is to be told.
        """
        points = _without_gaps([p for p in points if p.revision <= job.revision])
        change = points[0].revision - 1 if points else job.revision
        responses = (
            WatchJobResponse(revision=revision, points=batch)
            for revision, batch in point_batches(points)
        )
        return cls(job, change, tuple(responses))


class SharedLooks:
    """Looks at jobs, once for all who look for the same at the same time."""

    def __init__(self, look: Callable[[str, int], Awaitable[Sight | None]]) -> None:
        """Start without looks.

        Args:
            look: Looks at a job, by its ID, after a revision.
        """
        self._look = look
        self._under_way: dict[tuple[str, int], asyncio.Future[Sight | None]] = {}

    async def at(self, job_id: str, revision: int) -> Sight | None:
        """Look at a job.

        Args:
            job_id: Which.
            revision: The last one that was told.

        Returns:
            What comes after it; None if there is no such job.
        """
        key = job_id, revision
        look = self._under_way.get(key)
        if look is None:
            look = self._under_way[key] = asyncio.ensure_future(self._look(job_id, revision))
            look.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(look)  # who leaves does not take it from the others


class Watch:
    """What one stream tells of one job.

    Every revision of a job belongs to one point or to one change of the job. All responses are
    in that order, and a response bears the last revision of what it tells: a stream that
    begins after that one misses nothing and repeats nothing.
    """

    def __init__(
        self,
        job_id: str,
        after: int,
        *,
        look: Look,
        changed: Changed,
        message: Callable[[Job], jobs_pb2.Job],
        watchers: Watchers,
        heartbeat: float,
    ) -> None:
        """Begin after a revision.

        Args:
            job_id: The job.
            after: The last revision that the caller has seen.
            look: Returns what is to be told after a revision; None if there is no such job.
            changed: Waits until the revision is above one, or for some seconds.
            message: Makes the message of a job.
            watchers: Knows when the server goes down.
            heartbeat: Seconds of silence after which there is a heartbeat.
        """
        self._job_id = job_id
        self._revision = after
        self._look, self._changed, self._message = look, changed, message
        self._watchers = watchers
        self._heartbeat = heartbeat
        self._told = False

    async def responses(self) -> AsyncGenerator[WatchJobResponse]:
        """Tell what happens until the job is finished.

        Yields:
            The responses.

        Raises:
            NotFoundError: If there is no such job, or it is deleted meanwhile.
            BadRequestError: If the job has not come as far as the revision to begin after.
            UnavailableError: If the server goes down.
        """
        while True:
            self._watchers.refuse_leaving()
            seen = await self._look(self._revision)
            if seen is None:
                raise NotFoundError("job", f"{JOBS}/{self._job_id}")
            job = seen.job
            if self._revision > job.revision:
                raise BadRequestError([self._too_far(job)])
            for response in self._told_of(seen):
                yield response
            if self._revision < job.revision:
                continue
            if job.state in FINISHED:
                return
            if await self._wait():
                await self._watchers.rest()
            else:
                yield WatchJobResponse(heartbeat=Heartbeat())

    def _told_of(self, seen: Sight) -> Generator[WatchJobResponse]:
        """Tell a part of what is after the last revision, up to the job's at most.

        Yields:
            The responses.
        """
        if seen.change > self._revision or not self._told:
            # Revisions without points are changes of the job: what it is now tells them all.
            # With none to tell, the job at the start of a stream has no revision of its own.
            change = seen.change if seen.change > self._revision else 0
            yield WatchJobResponse(revision=change, job=self._message(seen.job))
            self._revision, self._told = seen.change, True
        for response in seen.points:
            yield response
            self._revision = response.revision

    def _too_far(self, job: Job) -> Violation:
        text = f"expected at most {job.revision}, the job's revision, got {self._revision}"
        return Violation("after_revision", text)

    async def _wait(self) -> bool:
        """Wait for the job to change, or the server to go down.

        Returns:
            False after the time for a heartbeat.
        """
        change = asyncio.ensure_future(self._changed(self._revision, self._heartbeat))
        leaving = asyncio.ensure_future(self._watchers.leaving.wait())
        try:
            await asyncio.wait({change, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return change.result() if change.done() else True
        finally:
            for task in (change, leaving):
                task.cancel()
            await asyncio.gather(change, leaving, return_exceptions=True)


def _without_gaps(points: Sequence[StoredPoint]) -> list[StoredPoint]:
    """Return the first points between which the job did not change."""
    count = 0
    while count < len(points) and points[count].revision == points[0].revision + count:
        count += 1
    return list(points[:count])
