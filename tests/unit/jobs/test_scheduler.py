"""Turns are fair among users, by priority within one, near to what is loaded, never late."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onnxscape.jobs.executor import Slot
from onnxscape.jobs.scheduler import Scheduler, SchedulerConfig, Ticket, Turn, chunk_size

SLOT = Slot("cpu/0", "cpu")


@dataclass
class Work:
    """A job of the simulation."""

    ticket: Ticket
    points: int
    seconds: float
    left: int = 0
    begun: float = math.nan
    ended: float = math.nan
    turns: list[float] = field(default_factory=list)


class Simulation:
    """Slots that take chunks as the scheduler says, in simulated time."""

    def __init__(self, slots=1, *, cache=2, loading=0.0, config=None, used=None):
        self.config = config or SchedulerConfig()
        self.scheduler = Scheduler(self.config, used=used)
        self.scheduler.slots = slots
        self.now, self.loading = 0.0, loading
        self.jobs, self.arrivals = {}, []
        self.had, self.chunks = defaultdict(float), []
        self.order = itertools.count()
        self.events = [(0.0, next(self.order), Slot(f"cpu/{n}", "cpu")) for n in range(slots)]
        self.loaded = {f"cpu/{n}": deque(maxlen=cache) for n in range(slots)}
        self.loads = 0

    def order_at(self, when, user, points, seconds=0.1, seconds_expected=0.0, **ticket):
        """Has a user order a job; returns it."""
        name = f"{user}/{len(self.jobs)}"
        given = {"affinity": name, "seconds": seconds_expected, **ticket}
        made = Ticket(job=name, user=user, created=when, **given)
        work = Work(made, points, seconds, left=points)
        heapq.heappush(self.arrivals, (when, len(self.jobs), work))
        self.jobs[name] = work
        return work

    def run(self, until):
        """Runs for a time."""
        while self.events and self.events[0][0] <= until:
            self.now, _, slot = heapq.heappop(self.events)
            self._arrive()
            loaded = [(job, self.jobs[job].ticket.affinity) for job in self.loaded[slot.name]]
            turn = self.scheduler.pick(slot, loaded, self.now)
            if turn is None:
                heapq.heappush(self.events, (self.now + 0.1, next(self.order), slot))
                continue
            self._take(slot, self.jobs[turn.job])
        return self

    def _arrive(self):
        while self.arrivals and self.arrivals[0][0] <= self.now:
            _, _, work = heapq.heappop(self.arrivals)
            self.scheduler.add(work.ticket, self.now)
            self.scheduler.set_waiting(work.ticket.job, True, self.now)

    def _take(self, slot, work):
        name, user = work.ticket.job, work.ticket.user
        count = min(chunk_size(work.seconds, self.config.chunk, 10_000), work.left)
        seconds = count * work.seconds
        if name not in self.loaded[slot.name]:
            seconds += self.loading
            self.loads += 1
            self.loaded[slot.name].append(name)
        work.left -= count
        work.turns.append(self.now)
        if math.isnan(work.begun):
            work.begun = self.now
        self.chunks.append((self.now, slot.name, name))
        self.scheduler.charge(user, seconds, self.now)
        self.scheduler.took(name, slot, self.now)
        if work.left == 0:
            work.ended = self.now + seconds
            self.scheduler.remove(name)
        self.had[user] += seconds
        heapq.heappush(self.events, (self.now + seconds, next(self.order), slot))


def longest_wait(work, since, until):
    """The longest time in which a job had no turn."""
    turns = [since, *(turn for turn in work.turns if turn > since), until]
    return max(b - a for a, b in itertools.pairwise(turns))


def test_a_small_job_is_done_within_a_few_chunks_beside_a_huge_one():
    simulation = Simulation()
    simulation.order_at(0, "ann", 10_000)
    small = simulation.order_at(500, "bob", 20)
    simulation.run(600)
    chunk = simulation.config.chunk
    assert small.ended - 500 <= 4 * chunk + simulation.config.affinity


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("seconds", [(0.1, 0.1), (0.01, 1.7), (7.0, 0.2)])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 1.0), (1.0, 5.0)])
def test_device_time_follows_the_weights(slots, seconds, weights):
    simulation = Simulation(slots)
    for user, weight in zip("ab", weights, strict=True):
        simulation.scheduler.set_weight(user, weight, 0.0)
    for user, each in zip("ab", seconds, strict=True):
        simulation.order_at(0, user, 10**7, each)
    simulation.run(2000)
    ratio = simulation.had["a"] / simulation.had["b"]
    assert ratio == pytest.approx(weights[0] / weights[1], rel=0.1)


def test_time_is_shared_equally_among_users_not_jobs():
    simulation = Simulation(2)
    for _ in range(20):
        simulation.order_at(0, "ann", 10**6)
    simulation.order_at(0, "bob", 10**6)
    simulation.run(1000)
    assert simulation.had["ann"] == pytest.approx(simulation.had["bob"], rel=0.1)


def test_many_users_converge_to_equal_time():
    simulation = Simulation(2, cache=2, loading=0.5)
    for n in range(7):
        simulation.order_at(0, f"user{n}", 10**6, 0.05 * (n + 1))
    simulation.run(5000)
    shares = simulation.had.values()
    assert max(shares) < 1.1 * min(shares)


def test_who_was_away_gets_a_bounded_advance():
    simulation = Simulation()
    simulation.order_at(0, "ann", 10**6)
    simulation.order_at(10_000, "bob", 10**6)
    simulation.run(10_000)
    before = simulation.had["ann"]
    simulation.run(10_200)
    config = simulation.config
    ahead = simulation.had["bob"] - (simulation.had["ann"] - before)
    assert 0 <= ahead <= config.credit + config.affinity + 2 * config.chunk


def test_who_used_the_devices_alone_waits_for_a_bounded_time():
    simulation = Simulation(used={"ann": 100_000.0})
    for user in ("bob", "eve"):
        simulation.order_at(0, user, 10**6)
    work = simulation.order_at(100, "ann", 10**6)
    simulation.run(3000)
    assert longest_wait(work, 100, 3000) <= 60 + 4 * 3 * 2.5
    assert simulation.had["ann"] > 100


def test_old_use_is_forgotten():
    scheduler = Scheduler(SchedulerConfig(half_life=100.0), used={"ann": 800.0})
    assert scheduler.share("ann", 0.0) == 800.0
    assert scheduler.share("ann", 300.0) == pytest.approx(100.0)
    scheduler.set_weight("ann", 4.0, 300.0)
    assert scheduler.share("ann", 300.0) == pytest.approx(25.0)


def test_a_stream_of_newcomers_starves_nobody():
    simulation = Simulation()
    work = simulation.order_at(0, "ann", 10**6)
    for n in range(1500):
        simulation.order_at(100 + 2.5 * n, f"new{n}", 25)  # all the time that there is
    simulation.run(3700)
    newcomers = [w for w in simulation.jobs.values() if w is not work]
    assert longest_wait(work, 100, 3700) <= 450
    ended = [w.ended - w.ticket.created for w in newcomers if w.ticket.created < 3000]
    assert not any(map(math.isnan, ended))


def test_no_newcomer_starts_lower_than_the_one_before():
    scheduler = Scheduler(SchedulerConfig(credit=30.0), used={"ann": 100.0})
    for user in ("ann", "bob", "eve", "joe"):
        scheduler.add(Ticket(job=user, user=user, created=0), 0)
    assert [scheduler.share(user, 0) for user in ("bob", "eve", "joe")] == [70.0] * 3


def test_a_higher_priority_comes_first_among_the_jobs_of_one_user():
    simulation = Simulation()
    low = simulation.order_at(0, "ann", 1000)
    simulation.run(20)
    high = simulation.order_at(20, "ann", 100, priority=10)
    simulation.run(200)
    assert high.begun <= 20 + simulation.config.affinity + 2.5
    assert high.ended < low.ended


def test_a_priority_is_worth_nothing_among_users():
    simulation = Simulation()
    simulation.order_at(0, "ann", 10**6, priority=100)
    simulation.order_at(0, "bob", 10**6)
    simulation.run(1000)
    assert simulation.had["ann"] == pytest.approx(simulation.had["bob"], rel=0.1)


def test_jobs_of_equal_priority_come_in_their_order():
    simulation = Simulation()
    jobs = [simulation.order_at(n, "ann", 200) for n in range(4)]
    simulation.run(200)
    assert [job.ended for job in jobs] == sorted(job.ended for job in jobs)
    assert jobs[1].begun >= jobs[0].ended


def test_a_short_order_does_not_wait_for_a_long_job_of_the_same_user():
    simulation = Simulation()
    long = simulation.order_at(0, "ann", 10**6, seconds=0.1, seconds_expected=10.0**5)
    short = simulation.order_at(60, "ann", 10, seconds=0.1, seconds_expected=1.0)
    simulation.run(100)
    assert short.ended <= 60 + simulation.config.affinity + 5
    assert long.turns[-1] > short.ended


def test_short_orders_do_not_keep_a_long_job_waiting_for_ever():
    simulation = Simulation()
    long = simulation.order_at(0, "ann", 10, seconds_expected=10.0**5)
    for n in range(2000):
        simulation.order_at(2.5 * n, "ann", 25, seconds_expected=2.5)  # all the time there is
    simulation.run(4500)
    assert long.ended <= simulation.config.yielding + 50


def test_no_priority_keeps_a_job_waiting_for_ever():
    simulation = Simulation()
    low = simulation.order_at(0, "ann", 10)
    for n in range(3000):
        simulation.order_at(2.5 * n, "ann", 25, priority=100)  # as much as there is time
    simulation.run(8000)
    assert low.ended <= 100 * simulation.config.aging + 50


def test_what_is_loaded_is_preferred_for_a_bounded_time():
    config = SchedulerConfig(affinity=8.0)
    simulation = Simulation(cache=1, loading=1.0, config=config)
    for user in "abc":
        simulation.order_at(0, user, 10**5)
    simulation.run(600)
    assert max(longest_wait(job, 0, 600) for job in simulation.jobs.values()) <= 45
    assert simulation.loads < len(simulation.chunks) / 3
    had = simulation.had.values()
    assert max(had) < 1.1 * min(had)


def test_the_same_model_and_data_are_nearer_than_others():
    scheduler = Scheduler()
    for job, user, affinity in (("1", "ann", "x"), ("2", "bob", "y"), ("3", "eve", "z")):
        scheduler.add(Ticket(job=job, user=user, created=0, affinity=affinity), 0)
        scheduler.set_waiting(job, True, 0)
    scheduler.charge("bob", 5, 0)
    scheduler.charge("eve", 1, 0)
    assert scheduler.pick(SLOT, [], 0).job == "1"
    assert scheduler.pick(SLOT, [("0", "y")], 0).job == "2"
    assert scheduler.pick(SLOT, [("0", "y"), ("3", "z")], 0).job == "3"
    scheduler.took("3", SLOT, 0)
    assert scheduler.pick(SLOT, [("0", "y")], 4.9) == Turn("2", due="1")
    assert scheduler.pick(SLOT, [("0", "y")], 5.1).job == "1"
    assert (
        scheduler.pick(SLOT, [("0", "y")], 5.2).job == "1"
    )  # it was not leased, so it still is
    scheduler.took("1", SLOT, 5.2)
    assert scheduler.pick(SLOT, [("0", "y")], 5.3).job == "2"


def test_a_job_runs_on_its_kind_of_device_only():
    scheduler = Scheduler()
    gpu = Slot("cuda:1/0", "cuda:1")
    for job, kind in (("1", "cuda"), ("2", "cpu"), ("3", None)):
        scheduler.add(Ticket(job=job, user="ann", created=int(job), kind=kind), 0)
        scheduler.set_waiting(job, True, 0)
    assert scheduler.pick(gpu, [], 0).job == "1"
    assert scheduler.pick(SLOT, [], 0).job == "2"
    scheduler.set_waiting("1", False, 0)
    assert scheduler.pick(gpu, [], 0).job == "3"
    scheduler.remove("2")
    assert scheduler.pick(SLOT, [], 0).job == "3"
    scheduler.remove("3")
    assert scheduler.pick(SLOT, [], 0) is None


@pytest.mark.parametrize(
    ("seconds_per_point", "expected"),
    [(0.1, 25), (2.4, 1), (100.0, 1), (1e-9, 1000), (0.0, 1), (math.nan, 1), (math.inf, 1)],
)
def test_chunks_take_the_time_that_is_wanted(seconds_per_point, expected):
    assert chunk_size(seconds_per_point, 2.5, 1000) == expected


USERS = ("ann", "bob", "eve", "joe")


class SchedulerMachine(RuleBasedStateMachine):
    """Users, jobs, slots and time as they come, and what must hold whatever comes."""

    def __init__(self):
        super().__init__()
        self.config = SchedulerConfig(
            half_life=500.0, credit=10.0, debt=50.0, patience=20.0, affinity=4.0
        )
        self.scheduler = Scheduler(self.config)
        self.now, self.number = 0.0, 0
        self.tickets, self.waiting, self.since = {}, set(), {}
        self.weights = dict.fromkeys(USERS, 1.0)
        self.slots = {n: Slot(f"{k}/{n}", k) for n, k in enumerate(["cpu", "cpu", "cuda:0"])}
        self.scheduler.slots = len(self.slots)
        self.busy, self.loaded = {}, {n: deque(maxlen=2) for n in self.slots}
        self.unfair = {}
        self.most = 1.0

    @rule(user=st.sampled_from(USERS), priority=st.integers(0, 100), near=st.integers(0, 2))
    def order(self, user, priority, near):
        self.number += 1
        job = f"job{self.number}"
        ticket = Ticket(
            job=job,
            user=user,
            created=self.now,
            priority=priority,
            affinity=f"model{near}",
            kind=None if near else "cpu",
        )
        self.tickets[job] = ticket
        self.scheduler.add(ticket, self.now)
        self._wait(job)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def cancel(self, data):
        job = data.draw(st.sampled_from(sorted(self.tickets)))
        self.scheduler.remove(job)
        user = self.tickets.pop(job).user
        self._rest(job, user)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), waits=st.booleans())
    def wait(self, data, waits):
        job = data.draw(st.sampled_from(sorted(self.tickets)))
        if waits:
            self._wait(job)
        else:
            self.scheduler.set_waiting(job, False, self.now)
            self._rest(job, self.tickets[job].user)

    @rule(user=st.sampled_from(USERS), weight=st.sampled_from([0.5, 1.0, 2.0]))
    def weigh(self, user, weight):
        self.weights[user] = weight
        self.scheduler.set_weight(user, weight, self.now)

    @rule(seconds=st.floats(0.01, 30.0))
    def pass_time(self, seconds):
        """Time passes; slots whose chunks end in it are free again."""
        self.now += seconds
        for slot in [slot for slot, end in self.busy.items() if end <= self.now]:
            del self.busy[slot]

    @precondition(lambda self: len(self.busy) < len(self.slots))
    @rule(data=st.data(), seconds=st.floats(0.1, 5.0), said=st.floats(0.0, 5.0))
    def take_a_turn(self, data, seconds, said):
        number = data.draw(st.sampled_from(sorted(set(self.slots) - set(self.busy))))
        slot, kind = self.slots[number], self.slots[number].device.partition(":")[0]
        may = {j for j in self.waiting if self.tickets[j].kind in {None, kind}}
        near = list(self.loaded[number])
        turn = self.scheduler.pick(slot, near, self.now)
        assert (turn is None) == (not may)
        if turn is None:
            self.unfair.pop(number, None)
            return
        job = turn.job
        assert turn.due in may
        assert job in may
        self._check_turn(number, job, may, near)
        user = self.tickets[job].user
        self.scheduler.charge(user, said, self.now)
        self.scheduler.charge(user, seconds - said, self.now)
        self.scheduler.took(job, slot, self.now)
        self.since[user] = self.now
        self.busy[number] = self.now + seconds
        entry = (job, self.tickets[job].affinity)
        if entry in self.loaded[number]:
            self.loaded[number].remove(entry)
        self.loaded[number].append(entry)

    def _check_turn(self, number, job, may, near):
        """The turn is his who has had least, or is overdue; or near, and not for too long."""
        users = {self.tickets[j].user for j in may}
        total = sum(self.weights[u] for u in {t.user for t in self.tickets.values()})
        overdue = {}
        for user in users:
            turn = self.config.chunk * total / self.weights[user] / len(self.slots)
            if self.now - self.since[user] > self.config.patience + 2 * turn:
                overdue[user] = self.since[user]
        mine = self.tickets[job]
        if overdue:
            assert overdue.get(mine.user) == min(overdue.values())
            fair = True
        else:
            shares = {user: self.scheduler.share(user, self.now) for user in users}
            fair = shares[mine.user] == min(shares.values())
        own = [t for t in (self.tickets[j] for j in may) if t.user == mine.user]
        first = min(t.created - t.priority * self.config.aging for t in own)
        fair &= mine.created - mine.priority * self.config.aging == first
        if fair:
            self.unfair.pop(number, None)
            return
        assert job in {j for j, _ in near} or mine.affinity in {a for _, a in near}
        began = self.unfair.setdefault(number, self.now)
        assert self.now - began < self.config.affinity

    def _wait(self, job):
        self.scheduler.set_waiting(job, True, self.now)
        self.waiting.add(job)
        self.since.setdefault(self.tickets[job].user, self.now)

    def _rest(self, job, user):
        self.waiting.discard(job)
        if not any(self.tickets[j].user == user for j in self.waiting):
            self.since.pop(user, None)

    @invariant()
    def it_knows_who_waits(self):
        assert set(self.scheduler.waiting) == self.waiting

    @invariant()
    def nobody_has_had_less_than_nothing(self):
        for user in USERS:
            assert self.scheduler.share(user, self.now) >= 0.0

    @invariant()
    def nobody_comes_too_far_ahead_or_behind(self):
        active = {t.user for t in self.tickets.values()}
        for user in active:
            assert math.isfinite(self.scheduler.share(user, self.now))


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
test_the_scheduler_keeps_its_promises = SchedulerMachine.TestCase
