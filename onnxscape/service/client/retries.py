"""Trying again: how often, how long, and what for."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.service.client.server_errors import retry_delay

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc.aio


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client tries again.

    Attributes:
        call: Seconds from the first failure of a call to giving it up.
        stream: Seconds without anything from a job that is watched, or of an upload, to giving
            it up: a server may be restarted meanwhile.
        silence: Seconds without a heartbeat after which a connection counts as lost.
        first: Seconds before the second try; each wait is twice the one before.
        longest: Longest wait.
    """

    call: float = 8.0
    stream: float = 120.0
    silence: float = 60.0
    first: float = 0.2
    longest: float = 5.0


class Backoff:
    """Decides, failure by failure, whether to try once more, and waits.

    Attributes:
        failures: Since the last success.
    """

    def __init__(self, patience: Patience, seconds: float) -> None:
        """Start without a failure.

        Args:
            patience: How long to wait.
            seconds: From the first failure to the last try.
        """
        self._patience = patience
        self._seconds = seconds
        self.succeeded()

    def succeeded(self) -> None:
        """Forget all failures: something went on."""
        self._give_up: float | None = None
        self._wait = self._patience.first
        self.failures = 0

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self.failures > 0

    async def wait(
        self, error: grpc.aio.AioRpcError, tell: Callable[[], None] | None = None
    ) -> bool:
        """Wait before the next try.

        Args:
            error: What the last try ended with.
            tell: Called before it waits; not if there is no next try.

        Returns:
            Whether there is to be one; False, at once, if it would not help or be too late.
        """
        self.failures += 1
        least = retry_delay(error)
        now = time.monotonic()
        if self._give_up is None:
            self._give_up = now + self._seconds
        if least is None or now + least >= self._give_up:
            return False
        if tell is not None:
            tell()
        # All clients of a server that comes back shall not come at the same moment.
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        await asyncio.sleep(min(max(least, self._wait * jitter), self._give_up - now))
        self._wait = min(2 * self._wait, self._patience.longest)
        return True
