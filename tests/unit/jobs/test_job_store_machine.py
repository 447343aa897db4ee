"""The store of the jobs against a plain model of it, whatever is done in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
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
from onnxscape.jobs.executor import Ready
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.states import TRANSITIONS, JobEvent, JobState, TransitionError

BASE = Order(model="a" * 64, model_name="net", data=DataRef(name="digits"))
USELESS = {JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING}
ENDED = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}

users = st.sampled_from(["ann", "bob"])
places = st.tuples(st.integers(-1, 2), st.integers(-1, 2))
words = st.sampled_from(["one", "two", "three"])
happenings = st.one_of(  # those that lead on more often, so that jobs come to all ends
    st.sampled_from([JobEvent.FIRST_CHUNK, JobEvent.LAST_POINT, JobEvent.SURFACE_WRITTEN]),
    st.sampled_from(list(JobEvent)),
)


@dataclass
class Known:
    """What must be known of a job."""

    user: str
    seed: int
    state: JobState = JobState.QUEUED
    revision: int = 1
    points: dict[tuple[int, int], float | str] = field(default_factory=dict)
    came: dict[tuple[int, int], int] = field(default_factory=dict)
    strikes: Counter = field(default_factory=Counter)
    plan: str | None = None
    warnings: list[str] = field(default_factory=list)
    total: int = 9
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def take(self, place: tuple[int, int], what: float | str) -> None:
        if not self.ended and place not in self.points:
            self.revision += 1
            self.points[place] = what
            self.came[place] = self.revision


@dataclass
class Watcher:
    """Somebody who has seen a job up to a revision."""

    job: str
    revision: int = 0
    seen: list[tuple[int, int]] = field(default_factory=list)


def point(place: tuple[int, int]) -> Point:
    return Point(*place, 0.1 * place[1], 0.1 * place[0])


class JobStoreMachine(RuleBasedStateMachine):
    """Does all that a server does; closes, or is killed, in between."""

    jobs = Bundle("jobs")
    watchers = Bundle("watchers")

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.store = JobStore.open(self.folder / "jobs.sqlite")
        self.known: dict[str, Known] = {}
        self.deleted: set[str] = set()
        self.requests: dict[tuple[str, str], tuple[str, int]] = {}
        self.usage: Counter = Counter()
        self.epoch = 0

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    # --- orders ---

    @rule(
        target=jobs,
        user=users,
        seed=st.integers(0, 2),
        request=st.sampled_from([None, None, "r", "s"]),
    )
    def create(self, user, seed, request):
        earlier = self.requests.get((user, request)) if request else None
        equal = [
            identifier
            for identifier, known in self.known.items()
            if (known.user, known.seed) == (user, seed) and known.state not in USELESS
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
            assert earlier == (job.id, seed)
            assert not new
        elif equal:
            assert [job.id] == equal  # there is never a second one
            assert not new
        else:
            assert new
            assert job.id not in self.known.keys() | self.deleted
            self.known[job.id] = Known(user, seed)
        if request:
            self.requests[user, request] = (job.id, seed)
        return job.id

    @rule(job=consumes(jobs))
    def delete(self, job):
        self.store.delete_job(job)
        self.known.pop(job, None)
        self.deleted.add(job)
        self.requests = {k: v for k, v in self.requests.items() if v[0] != job}

    # --- what happens to a job ---

    @rule(job=jobs, event=happenings)
    def move(self, job, event):
        known = self.known.get(job)
        if known is None:
            return
        expected = TRANSITIONS.get((known.state, event))
        try:
            moved = self.store.move(job, event, now=2.0)
        except TransitionError:
            assert expected is None
            return
        assert moved.state is expected
        known.state = moved.state
        known.revision += 1

    @rule(job=jobs, plan=words, warning=words)
    def ready(self, job, plan, warning):
        known = self.known.get(job)
        if known is None:
            return
        report = Ready(
            plan=plan, provenance={}, outline={}, seconds_per_point=1.0, warnings=(warning,)
        )
        self.store.record_ready(job, report)
        if not known.ended and (known.plan is None or warning not in known.warnings):
            known.plan = known.plan or plan
            known.warnings = list(dict.fromkeys([*known.warnings, warning]))
            known.revision += 1

    @rule(job=jobs, total=st.integers(8, 10))
    def set_total(self, job, total):
        known = self.known.get(job)
        if known is None:
            return
        self.store.set_total(job, total)
        if not known.ended and known.total != total:
            known.total = total
            known.revision += 1

    # --- points ---

    @rule(job=jobs, where=st.lists(places, max_size=4), loss=st.floats())
    def put(self, job, where, loss):
        known = self.known.get(job)
        if known is None:
            return
        after = self.store.put_points(job, [(point(p), {"loss": loss}, 0.1) for p in where])
        for place in where:
            known.take(place, loss)
        assert after.revision == known.revision

    @rule(job=jobs, where=places)
    def fail(self, job, where):
        known = self.known.get(job)
        if known is None:
            return
        self.store.fail_point(job, point(where), "dead")
        known.take(where, "dead")

    @rule(job=jobs, where=places)
    def strike(self, job, where):
        known = self.known.get(job)
        if known is None:
            return
        known.strikes[where] += 1
        assert self.store.strike(job, point(where)) == known.strikes[where]

    @rule(job=jobs, seconds=st.integers(0, 9))
    def charge(self, job, seconds):
        known = self.known.get(job)
        user = known.user if known else "ann"
        self.store.charge(user, job, float(seconds), 60.0)
        self.usage[user] += seconds
        if known:
            known.seconds += seconds

    # --- watching ---

    @rule(target=watchers, job=jobs)
    def watch(self, job):
        return Watcher(job)

    @rule(watcher=watchers, limit=st.integers(1, 3))
    def look(self, watcher, limit):
        found = self.store.points_after(watcher.job, watcher.revision, limit)
        watcher.seen += [(stored.point.row, stored.point.column) for stored in found]
        if found:
            watcher.revision = found[-1].revision
        known = self.known.get(watcher.job)
        if known is None:
            assert found == []
            return
        came = list(known.came)
        assert watcher.seen == came[: len(watcher.seen)]  # nothing left out, nothing twice
        assert len(found) == limit or len(watcher.seen) == len(came)

    # --- the end of the process ---

    @rule()
    def close(self):
        self.store.close()
        self._open()

    @rule(map_lost=st.booleans(), torn=st.binary(max_size=40))
    def kill(self, map_lost, torn):
        self._go_back_to(self._copied(), map_lost=map_lost, torn=torn)

    @rule(job=jobs, map_lost=st.booleans(), torn=st.binary(max_size=40))
    def kill_while_points_are_put(self, job, map_lost, torn):
        if job not in self.known:
            return
        copies = []

        def points():
            for place in ((0, 0), (0, 1)):
                yield point(place), {"loss": 1.0}, 0.1
            copies.append(self._copied())

        self.store.put_points(job, points())
        if copies:  # else the job has ended and takes none
            self._go_back_to(copies[0], map_lost=map_lost, torn=torn)

    def _copied(self) -> dict[str, bytes]:
        """Returns the files as they are now, while the store is open."""
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}

    def _go_back_to(self, files, *, map_lost, torn):
        """Opens the files that a kill leaves, or, without the shared map, a power cut."""
        self.store.close()
        for file in self.folder.iterdir():
            file.unlink()
        for name, content in files.items():
            if name.endswith("-shm") and map_lost:
                continue
            end = torn if name.endswith("-wal") else b""
            (self.folder / name).write_bytes(content + end)
        self._open()

    def _open(self):
        self.store = JobStore.open(self.folder / "jobs.sqlite")
        self.epoch += 1
        assert self.store.begin_epoch() == self.epoch

    # --- what must hold ---

    @invariant()
    def every_job_is_what_it_must_be(self):
        for identifier, known in self.known.items():
            job = self.store.job(identifier, known.user)
            assert job is not None
            assert (job.state, job.revision) == (known.state, known.revision)
            assert (job.plan, list(job.warnings)) == (known.plan, known.warnings)
            assert (job.total, job.device_seconds) == (known.total, known.seconds)
            failed = sum(value == "dead" for value in known.points.values())
            assert (job.done, job.failed) == (len(known.points) - failed, failed)
            assert self.store.strikes(identifier) == known.strikes

    @invariant()
    def every_point_is_there_once(self):
        for identifier, known in self.known.items():
            stored = self.store.points_after(identifier, 0)
            came = [((p.point.row, p.point.column), p.revision) for p in stored]
            assert came == list(known.came.items())
            for (place, value), p in zip(known.points.items(), stored, strict=True):
                assert p.point == point(place)
                got = p.failure if p.metrics is None else p.metrics["loss"]
                assert repr(got) == repr(value)
            results, failures = self.store.results(identifier), self.store.failures(identifier)
            assert results.keys() | failures.keys() == known.points.keys()
            assert not results.keys() & failures.keys()

    @invariant()
    def lists_have_every_job_and_no_other(self):
        for user in ("ann", "bob"):
            own = [i for i, known in self.known.items() if known.user == user]
            listed = self.store.jobs(user, limit=100)
            assert [job.id for job in listed] == own[::-1]
            active = [i for i in own if not self.known[i].ended]
            jobs = [self.store.job(i) for i in active]
            lacking = [
                (j, max(j.total - j.done - j.failed, 0) / max(j.total, 1)) for j in jobs
            ]
            seconds = sum(j.estimate.device_seconds * share for j, share in lacking)
            assert self.store.active(user) == (len(active), pytest.approx(seconds))
            assert self.store.usage_since(user, 0.0) == self.usage[user]
        unfinished = [i for i, known in self.known.items() if not known.ended]
        assert [job.id for job in self.store.unfinished()] == unfinished
        states = Counter(known.state for known in self.known.values())
        assert Counter(self.store.counts_by_state()) == states
        for (user, request), (job, _) in self.requests.items():
            assert self.store.find_request(user, request)[0] == job


TestJobStoreMachine = JobStoreMachine.TestCase
TestJobStoreMachine.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
