"""The table of a job's states: what follows from it, and that the documentation shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxscape.jobs.states import (
    FINISHED,
    TRANSITIONS,
    JobEvent,
    JobState,
    TransitionError,
    next_state,
    state_diagram,
)

PAGE = Path(__file__).parents[3] / "docs" / "server" / "states.md"


def test_a_finished_job_stays_as_it_is():
    assert not {state for state, _ in TRANSITIONS} & FINISHED


def test_every_state_is_reached_and_every_job_can_end():
    reached, grown = set(), {JobState.QUEUED}
    while grown != reached:
        reached = set(grown)
        grown |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(JobState)
    for state in set(JobState) - FINISHED:
        ends, more = {state}, True
        while more:
            found = ends | {b for (a, _), b in TRANSITIONS.items() if a in ends}
            more, ends = found != ends, found
        assert ends & FINISHED


def test_every_event_happens_somewhere():
    assert {event for _, event in TRANSITIONS} == set(JobEvent)


def test_what_is_not_in_the_table_does_not_happen():
    assert next_state(JobState.QUEUED, JobEvent.CANCEL) is JobState.CANCELLED
    with pytest.raises(TransitionError, match="succeeded"):
        next_state(JobState.SUCCEEDED, JobEvent.CANCEL)


def test_the_page_shows_the_table():
    text = PAGE.read_text()
    assert state_diagram() in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{state}` | {event} | `{after}` |" for (state, event), after in TRANSITIONS.items()
    ]
