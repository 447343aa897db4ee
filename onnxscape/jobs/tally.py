"""What a coordinator has done, for operators."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts since the server started.

    Attributes:
        leases: Chunks leased.
        lost: Leases that were lost, by reason: `crashed`, `killed`, `memory`, `time`,
            `silent`, or `broken` where the executor itself failed.
        points: Points that came and were taken.
        points_failed: Points given up.
        jobs_ended: Jobs that ended, by state.
        jobs_begun: Jobs that had their first turn.
        queue_seconds: What these had waited for it, together.
        device_seconds: Time of slots under a lease.
    """

    leases: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    points: int = 0
    points_failed: int = 0
    jobs_ended: Counter[str] = field(default_factory=Counter)
    jobs_begun: int = 0
    queue_seconds: float = 0.0
    device_seconds: float = 0.0
