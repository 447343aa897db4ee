"""How long until a job is finished, with what waits before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Load:
    """What a user has ordered that is not computed yet.

    Attributes:
        seconds: Device-seconds.
        weight: The user's share.
    """

    seconds: float
    weight: float = 1.0


def completion(own: Load, others: Iterable[Load], slots: int) -> float:
    """Estimate when a job is finished if devices are shared as the scheduler does.

    As in generalized processor sharing (Parekh and Gallager, IEEE/ACM Transactions on
    Networking 1993): until the user has got what he needs, any other one gets his share of
    that, or less if he needs less.

    Args:
        own: The job, with the jobs of its user that come before it.
        others: Each other user.
        slots: Number of chunks that are computed at a time.

    Returns:
        Seconds.
    """
    before = sum(min(o.seconds, own.seconds * o.weight / own.weight) for o in others)
    return (own.seconds + before) / max(slots, 1)
