"""The store of the jobs against a plain model of it, whatever is done in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from onnxscape.core.grid import Point
from onnxscape.errors import RequestIdConflictError
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.states import TRANSITIONS, JobEvent, JobState, TransitionError

BASE = Order(model="a" * 64, model_name="net", data=DataRef(name="digits"))
USELESS = {JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING}

users = st.sampled_from(["ann", "bob"])
places = st.tuples(st.integers(0, 2), st.integers(0, 2))


class Known:
    """What must be known of a job."""

    def __init__(self, user, seed):
        self.user, self.seed = user, seed
        self.state = JobState.QUEUED
        self.points: dict[tuple[int, int], float | str] = {}
        self.came: list[tuple[int, int]] = []
        self.revisions = [1]
        self.strikes: dict[tuple[int, int], int] = {}


class JobStoreMachine(RuleBasedStateMachine):
    """Does all that a server does, closes and copies the files in between."""

    jobs = Bundle("jobs")

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.copies = 0
        self.store = JobStore.open(self.folder / "jobs.sqlite")
        self.known: dict[str, Known] = {}
        self.requests: dict[tuple[str, str], tuple[str, int]] = {}

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    @rule(
        target=jobs,
        user=users,
        seed=st.integers(0, 2),
        request=st.sampled_from([None, "r", "s"]),
    )
    def create(self, user, seed, request):
        earlier = self.requests.get((user, request)) if request else None
        equal = [
            i
            for i, k in self.known.items()
            if (k.user, k.seed) == (user, seed) and k.state not in USELESS
        ]
        try:
            job, new = self.store.create_job(
                user=user,
                order=replace(BASE, options={"seed": seed}),
                spec="{}",
                display_name="",
                priority=0,
                estimate=Estimate(9, 1.0, 1),
                notes=(),
                warnings=(),
                total=9,
                request_id=request,
                now=1.0,
            )
        except RequestIdConflictError:
            assert earlier is not None
            assert earlier[1] != seed
            return earlier[0]
        if earlier is not None:
            assert (job.id, new) == (earlier[0], False)
        elif equal:
            assert job.id in equal
            assert not new
        else:
            assert new
            self.known[job.id] = Known(user, seed)
        if request:
            self.requests[user, request] = (job.id, seed)
        return job.id

    @rule(job=jobs, event=st.sampled_from(list(JobEvent)))
    def move(self, job, event):
        if job not in self.known:
            return
        known = self.known[job]
        expected = TRANSITIONS.get((known.state, event))
        try:
            moved = self.store.move(job, event, now=2.0)
        except TransitionError:
            assert expected is None
            return
        assert moved.state is expected
        known.state = moved.state
        known.revisions.append(moved.revision)

    @rule(job=jobs, where=st.lists(places, max_size=4), loss=st.floats())
    def put(self, job, where, loss):
        if job not in self.known:
            return
        known = self.known[job]
        rows = [(Point(r, c, 0.1 * c, 0.1 * r), {"loss": loss}, 0.1) for r, c in where]
        after = self.store.put_points(job, rows)
        for place in where:
            if place not in known.points:
                known.points[place] = loss
                known.came.append(place)
        known.revisions.append(after.revision)

    @rule(job=jobs, where=places)
    def fail(self, job, where):
        if job not in self.known:
            return
        known = self.known[job]
        after = self.store.fail_point(job, Point(*where, 0.0, 0.0), "dead")
        if where not in known.points:
            known.points[where] = "dead"
            known.came.append(where)
        known.revisions.append(after.revision)

    @rule(job=jobs, where=places)
    def strike(self, job, where):
        if job not in self.known:
            return
        strikes = self.known[job].strikes
        strikes[where] = strikes.get(where, 0) + 1
        assert self.store.strike(job, Point(*where, 0.0, 0.0)) == strikes[where]

    @rule(job=consumes(jobs))
    def delete(self, job):
        self.store.delete_job(job)
        self.known.pop(job, None)
        self.requests = {k: v for k, v in self.requests.items() if v[0] != job}

    @rule(kill=st.booleans())
    def reopen(self, kill):
        if kill:  # what a kill leaves: the files as they are while the store is open
            self.copies += 1
            copy = self.folder / str(self.copies)
            copy.mkdir()
            for file in self.folder.glob("jobs.sqlite*"):
                shutil.copy(file, copy)
            self.store.close()
            for file in copy.iterdir():
                shutil.copy(file, self.folder)
        else:
            self.store.close()
        self.store = JobStore.open(self.folder / "jobs.sqlite")

    @rule(job=jobs, revision=st.integers(0, 12), limit=st.integers(1, 3))
    def watch(self, job, revision, limit):
        if job not in self.known:
            return
        everything = self.store.points_after(job, 0)
        found, last = [], revision
        while page := self.store.points_after(job, last, limit):
            found += page
            last = page[-1].revision
        assert found == [p for p in everything if p.revision > revision] or any(
            p.metrics and p.metrics["loss"] != p.metrics["loss"] for p in everything
        )

    @invariant()
    def every_job_is_what_it_must_be(self):
        if not hasattr(self, "store"):
            return
        for identifier, known in self.known.items():
            job = self.store.job(identifier, known.user)
            assert job is not None
            assert job.state is known.state
            assert known.revisions == sorted(known.revisions)
            assert job.revision == known.revisions[-1]
            stored = self.store.points_after(identifier, 0)
            assert [(p.point.row, p.point.column) for p in stored] == known.came
            revisions = [p.revision for p in stored]
            assert revisions == sorted(set(revisions))
            assert all(1 < r <= job.revision for r in revisions)
            for p in stored:
                expected = known.points[p.point.row, p.point.column]
                got = p.failure if p.metrics is None else p.metrics["loss"]
                assert repr(got) == repr(expected)
            failed = sum(value == "dead" for value in known.points.values())
            assert (job.done, job.failed) == (len(stored) - failed, failed)
            assert self.store.strikes(identifier) == known.strikes


TestJobStoreMachine = JobStoreMachine.TestCase
TestJobStoreMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
