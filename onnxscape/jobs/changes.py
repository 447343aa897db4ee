"""Who waits for a job to change, and is woken when it does."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Changes:
    """Revisions of jobs, and those who wait for the next ones. For one event loop."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._revisions: dict[str, int] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def tell(self, job_id: str, revision: int) -> None:
        """Wake who waits for a job.

        Args:
            job_id: The job.
            revision: Its revision now.
        """
        self._revisions[job_id] = max(revision, self._revisions.get(job_id, 0))
        self._wake(job_id)

    def forget(self, job_id: str) -> None:
        """Keep the revision of a job no longer; who asks looks into the store.

        Args:
            job_id: The job: finished, or deleted.
        """
        self._revisions.pop(job_id, None)
        self._wake(job_id)

    async def above(
        self,
        job_id: str,
        revision: int,
        timeout: float,
        look: Callable[[], Awaitable[int | None]],
    ) -> bool:
        """Wait until a job's revision is above one.

        Args:
            job_id: The job.
            revision: The last one seen.
            timeout: Seconds to wait at most.
            look: Returns its revision from the store; None if there is no such job.

        Returns:
            Whether it is, or the job is gone; False after the timeout.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            woken = loop.create_future()
            self._waiting[job_id].add(woken)  # before looking: nothing is missed between
            try:
                known = self._revisions.get(job_id)
                if known is None:
                    known = await look()
                if known is None or known > revision:
                    return True
                left = deadline - loop.time()
                if left <= 0 or not (await asyncio.wait([woken], timeout=left))[0]:
                    return False
            finally:
                self._leave(job_id, woken)

    def _leave(self, job_id: str, woken: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(job_id)
        if waiting is not None:
            waiting.discard(woken)
            if not waiting:
                del self._waiting[job_id]

    def _wake(self, job_id: str) -> None:
        for woken in self._waiting.pop(job_id, ()):
            if not woken.done():
                woken.set_result(None)
