"""Estimates take a small share of the time, however much each of them takes."""

from __future__ import annotations

import dataclasses

from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate, Job
from onnxscape.jobs.states import JobState
from onnxscape.service.jobs.completions import SHARE, Completions

JOB = Job(
    id="a", user="alice", order=Order(model="m", model_name="m", data=DataRef(name="d")),
    display_name="", priority=0, state=JobState.RUNNING, failure=None, revision=1, spec="{}",
    plan=None, outline=None, provenance=None, notes=(), warnings=(), total=100, done=0,
    failed=0, estimate=Estimate(100, 1.0, 1), created=0.0, started=None, ended=None,
    device_seconds=0.0,
)  # fmt: skip


class Slow:
    """Estimates 100 seconds in one, by its own clock."""

    def __init__(self) -> None:
        self.now = self.spent = 0.0
        self.completions = Completions(self.estimate, lambda: self.now)

    def estimate(self, _job):
        self.now += 1.0
        self.spent += 1.0
        return 100.0


def test_estimates_take_no_more_than_their_share():
    slow = Slow()
    for number in range(10_000):
        slow.now += 0.01
        slow.completions.of(dataclasses.replace(JOB, id=str(number % 100)))
    assert 0.5 * SHARE < slow.spent / slow.now <= SHARE * 1.3


def test_meanwhile_an_earlier_estimate_goes_on():
    slow = Slow()
    assert slow.completions.of(JOB) == 101.0  # from before it was made
    slow.now += 5.0
    assert slow.completions.of(JOB) == 95.0
    assert slow.completions.of(dataclasses.replace(JOB, id="b")) is None
    slow.now += 14.0
    assert slow.completions.of(JOB) == 81.0
    slow.now += 2.0
    assert slow.completions.of(JOB) == 101.0  # made anew


def test_an_estimate_that_is_needed_is_made():
    slow = Slow()
    slow.completions.of(JOB)
    for identifier in ("", "b"):
        job = dataclasses.replace(JOB, id=identifier)
        assert slow.completions.of(job, needed=True) >= 100.0
    assert slow.spent == 3.0


def test_what_should_be_finished_by_now_is_soon():
    slow = Slow()
    slow.completions.of(JOB)
    slow.completions.of(dataclasses.replace(JOB, id="b"), needed=True)
    slow.now += 110.0
    slow.completions.of(dataclasses.replace(JOB, id="b"))
    assert slow.completions.of(JOB) == 0.0


def test_a_finished_job_has_none():
    slow = Slow()
    slow.completions.of(JOB)
    done = dataclasses.replace(JOB, state=JobState.SUCCEEDED)
    assert slow.completions.of(done) is None
    assert slow.completions.of(done, needed=True) is None
    assert slow.spent == 1.0
