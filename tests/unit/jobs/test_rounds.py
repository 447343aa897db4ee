"""A job's points are leased, brought back and finished, each once, round by round."""

from __future__ import annotations

import numpy as np
import pytest
from coordination import spec_of
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxscape.evaluation.progress import Progress
from onnxscape.evaluation.schedule import make_schedule
from onnxscape.jobs.rounds import Rounds

KINDS = [{}, {"tolerance": 0.05}, {"two_level": 20}]


def loss_of(point):
    return 1 + point.alpha**2 + float(np.tanh(20 * (point.beta - 0.3 * point.alpha)))


def place(point):
    return point.row, point.column


def asked(spec):
    """The rounds of a spec, as one loop goes through them."""
    progress, schedule = Progress(spec.grid), make_schedule(spec)
    rounds = []
    for points in schedule.rounds(progress):
        rounds.append(list(progress.missing(points)))
        for point in rounds[-1]:
            progress.add(point.row, point.column, loss_of(point))
    return rounds


def ready(rounds):
    """The points that can be leased now, leased."""
    while rounds.waits_for_ahead:
        rounds.ahead()
    return list(rounds.take(10**9))


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("grid", ["17x17", "33", "6x6"])
def test_rounds_are_those_of_one_loop(grid, changes):
    spec = spec_of(grid, **changes)
    rounds = Rounds(spec)
    for expected in filter(None, asked(spec)):
        points = ready(rounds)
        assert points == expected
        assert ready(rounds) == []
        for point in points[:-1]:
            rounds.finish(point, loss_of(point))
        assert ready(rounds) == []
        assert not rounds.over
        rounds.finish(points[-1], loss_of(points[-1]))
    assert ready(rounds) == []
    assert rounds.over
    assert rounds.total == sum(map(len, asked(spec)))


def test_points_are_made_ready_bit_by_bit():
    rounds = Rounds(spec_of("9x9"))
    taken = []
    while not rounds.over:
        rounds.ahead(10)
        points = rounds.take(7)
        taken += points
        for point in points:
            rounds.finish(point, 1.0)
    assert taken == asked(spec_of("9x9"))[0]


def test_what_is_given_back_comes_first_and_in_order():
    rounds = Rounds(spec_of("9x9"))
    rounds.ahead()
    first, second = rounds.take(5), rounds.take(5)
    rounds.finish(first[1], 1.0)
    rounds.give_back(first)
    assert rounds.take(4) == [first[0], *first[2:]]
    rounds.give_back(second)
    assert rounds.leased == 4
    assert rounds.take(6)[:5] == second


def test_what_was_not_leased_is_not_given_back():
    rounds = Rounds(spec_of("5x5"))
    rounds.ahead()
    points = rounds.take(5)
    rounds.give_back(points)
    rounds.give_back(points)
    assert rounds.ready == 25
    assert len(set(rounds.take(100))) == 25


def test_a_struck_point_comes_alone():
    rounds = Rounds(spec_of("5x5"))
    rounds.ahead()
    points = rounds.take(5)
    rounds.strike(points[2], 1)
    rounds.give_back(points)
    assert rounds.take(5) == points[:2]
    assert rounds.take(5) == [points[2]]
    assert rounds.take(2) == points[3:]


def test_failed_points_are_not_asked_for_again():
    rounds = Rounds(spec_of("5x5"))
    points = ready(rounds)
    for point in points:
        rounds.finish(point, float("nan"))
    assert not rounds.over
    rounds.ahead()
    assert rounds.over
    assert rounds.tolerant
    assert not Rounds(spec_of("5x5", tolerance=0.05)).tolerant


@pytest.mark.parametrize("changes", KINDS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_new_server_asks_for_what_is_missing(changes, data):
    spec = spec_of("17x17", **changes)
    everything = [point for points in asked(spec) for point in points]
    count = data.draw(st.integers(0, len(everything)))
    found = {place(p): {"loss": loss_of(p)} for p in everything[:count]}
    failed = [place(everything[0])] if changes == {} and count == 0 else []
    rounds = Rounds(spec)
    rounds.take_up(found, failed, {place(everything[-1]): 1})
    left = []
    while not rounds.over:
        points = ready(rounds)
        left += points
        for point in points:
            rounds.finish(point, loss_of(point))
        while not points and rounds.waits_for_ahead:
            rounds.ahead()
    assert left == everything[count + len(failed) :]


def test_what_a_store_holds_beyond_what_is_asked_for_changes_nothing():
    spec = spec_of("17x17", tolerance=0.05)
    everything = [point for points in asked(spec) for point in points]
    others = {place(p): {"loss": loss_of(p)} for p in spec.grid.points()}
    extra = {at: loss for at, loss in others.items() if at not in set(map(place, everything))}
    rounds = Rounds(spec)
    rounds.take_up(extra)
    left = []
    while points := ready(rounds):
        left += points
        for point in points:
            rounds.finish(point, loss_of(point))
    assert left == everything
    assert rounds.over


@settings(max_examples=30)
@given(data=st.data())
def test_whatever_happens_to_leases_every_point_is_finished_once(data):
    spec = spec_of("9x9", **data.draw(st.sampled_from(KINDS)))
    rounds, leases, finished = Rounds(spec), [], []
    steps = 0
    while not rounds.over:
        steps += 1
        assert steps < 5000
        if rounds.waits_for_ahead:
            rounds.ahead(data.draw(st.integers(1, 30)))
            continue
        if rounds.ready and (not leases or data.draw(st.booleans())):
            leases.append(list(rounds.take(data.draw(st.integers(1, 20)))))
            continue
        lease = leases.pop(data.draw(st.integers(0, len(leases) - 1)))
        for _ in range(data.draw(st.integers(0, len(lease))) if steps < 200 else len(lease)):
            point = lease.pop(0)
            finished.append(point)
            rounds.finish(point, loss_of(point))
        if lease and data.draw(st.booleans()):
            rounds.strike(lease[0], 1)
        rounds.give_back(lease)
    expected = [point for points in asked(spec) for point in points]
    assert len(finished) == len(set(finished))
    assert set(finished) == set(expected)
    assert rounds.total == len(expected)


def test_points_keep_how_many_samples_they_take():
    spec = spec_of("17x17", two_level=20)
    rounds = Rounds(spec)
    first = ready(rounds)
    assert {point.samples for point in first} == {None}
    for point in first:
        rounds.finish(point, 1.0)
    assert {point.samples for point in ready(rounds)} == {20}
