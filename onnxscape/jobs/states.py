"""The states of a job, and the one table of how they follow one another."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """Waits for its first turn."""
    RUNNING = "running"
    """Points are computed, or wait for their turn."""
    FINISHING = "finishing"
    """All points are there; the surface is being written."""
    CANCELLING = "cancelling"
    """Chunks under way are ended."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobEvent(StrEnum):
    """What moves a job from one state to another."""

    FIRST_CHUNK = "first chunk leased"
    LAST_POINT = "last point stored"
    SURFACE_WRITTEN = "surface written"
    POINTS_FAILED = "surface written, points failed"
    ERROR = "error that no retry mends"
    CANCEL = "cancelled by the user"
    CHUNKS_ENDED = "no chunk under way"


TRANSITIONS: Mapping[tuple[JobState, JobEvent], JobState] = {
    (JobState.QUEUED, JobEvent.FIRST_CHUNK): JobState.RUNNING,
    (JobState.QUEUED, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.QUEUED, JobEvent.ERROR): JobState.FAILED,
    (JobState.RUNNING, JobEvent.LAST_POINT): JobState.FINISHING,
    (JobState.RUNNING, JobEvent.ERROR): JobState.FAILED,
    (JobState.RUNNING, JobEvent.CANCEL): JobState.CANCELLING,
    (JobState.FINISHING, JobEvent.SURFACE_WRITTEN): JobState.SUCCEEDED,
    (JobState.FINISHING, JobEvent.POINTS_FAILED): JobState.FAILED,
    (JobState.FINISHING, JobEvent.ERROR): JobState.FAILED,
    (JobState.CANCELLING, JobEvent.CHUNKS_ENDED): JobState.CANCELLED,
}
"""State and event to the next state; what is not in it does not happen."""

FINISHED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""States that a job does not leave."""


class TransitionError(RuntimeError):
    """An event that cannot happen in a job's state: a mistake of ours."""


def next_state(state: JobState, event: JobEvent) -> JobState:
    """Return the state after an event.

    Args:
        state: The state before it.
        event: What happens.

    Returns:
        The state after it.

    Raises:
        TransitionError: If it cannot happen there.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise TransitionError(f"a job that is {state} knows no '{event}'") from None


def state_diagram() -> str:
    """Return the table as a diagram in Mermaid's language."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.QUEUED}"]
    lines += [
        f"    {state} --> {after}: {event.value}"
        for (state, event), after in TRANSITIONS.items()
    ]
    lines += [f"    {state} --> [*]" for state in JobState if state in FINISHED]
    return "\n".join(lines)
