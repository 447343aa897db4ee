"""Points that are evaluated side by side: all once, none lost, none left running."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from onnxscape.core.grid import Grid
from onnxscape.runtime.constant_sessions import ConstantSessions
from onnxscape.runtime.evaluator import EvaluationStopped
from onnxscape.runtime.side_by_side import evaluate_points

POINTS = list(Grid.parse("5x5").points())


class Evaluator:
    """Gives back the point; or waits until it is stopped."""

    def __init__(self, *, waits_at=None, fails_at=None):
        self.running = 0
        self.most = 0
        self.started = threading.Event()
        self.stopped = None
        self._waits_at = waits_at
        self._fails_at = fails_at
        self._lock = threading.Lock()

    def evaluate(self, alpha, beta, stop=None, samples=None):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            if (alpha, beta) == self._fails_at:
                self.started.wait(10)
                raise ArithmeticError("at the point that fails")
            if (alpha, beta) == self._waits_at:
                self.started.set()
                self.stopped = stop.wait(10)
                raise EvaluationStopped
            return {"loss": alpha + 10 * beta}
        finally:
            with self._lock:
                self.running -= 1


@pytest.mark.parametrize("workers", [1, 2, 3, 40])
def test_every_point_comes_once_with_its_own_result(workers):
    found = dict(evaluate_points(Evaluator(), POINTS, workers))
    assert found.keys() == set(POINTS)
    assert all(m["loss"] == p.alpha + 10 * p.beta for p, m in found.items())


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_points_are_under_way_than_there_are_workers(workers):
    evaluator = Evaluator()
    list(evaluate_points(evaluator, POINTS, workers))
    assert 1 <= evaluator.most <= workers


def test_points_are_taken_only_as_workers_become_free():
    taken = []

    def points():
        for point in POINTS:
            taken.append(point)
            yield point

    with closing(evaluate_points(Evaluator(), points(), 2)) as results:
        next(results)
        assert len(taken) <= 4


def test_leaving_the_iteration_gives_up_what_is_under_way():
    first, second = POINTS[:2]
    evaluator = Evaluator(waits_at=(second.alpha, second.beta))
    with closing(evaluate_points(evaluator, [first, second], 2)) as results:
        assert next(results)[0] == first
        assert evaluator.started.wait(10)
    assert evaluator.running == 0
    assert evaluator.stopped


def test_a_failure_is_passed_on_and_ends_the_others():
    first, second = POINTS[:2]
    evaluator = Evaluator(
        waits_at=(first.alpha, first.beta), fails_at=(second.alpha, second.beta)
    )
    with pytest.raises(ArithmeticError, match="at the point that fails"):
        list(evaluate_points(evaluator, [first, second], 2))
    assert evaluator.running == 0
    assert evaluator.stopped


def test_workers_do_not_change_a_bit(case):
    evaluator = case.make(ConstantSessions, threads=1)
    alone = dict(evaluate_points(evaluator, POINTS[:9]))
    assert dict(evaluate_points(evaluator, POINTS[:9], 3)) == alone
    assert dict(evaluate_points(evaluator.with_threads(2), POINTS[:9], 2)) == alone


class InTurn:
    """Finishes all points but the first at once; the first fails when it is told to."""

    def __init__(self):
        self.others = threading.Event()
        self._finished = 0
        self._lock = threading.Lock()

    def evaluate(self, alpha, beta, _stop=None, samples=None):
        point = POINTS[0]
        if (alpha, beta) == (point.alpha, point.beta):
            assert self.others.wait(10)
            raise ArithmeticError("the first")
        with self._lock:
            self._finished += 1
            if self._finished == 3:
                self.others.set()
        return {"loss": alpha}


def test_what_was_finished_comes_before_the_failure():
    results = evaluate_points(InTurn(), POINTS[:4], 4)
    came = {next(results)[0] for _ in range(3)}
    assert came == set(POINTS[1:4])
    with pytest.raises(ArithmeticError):
        next(results)


def test_what_was_finished_when_the_iteration_is_left_is_kept():
    gate = threading.Barrier(4, timeout=10)

    class Together:
        def evaluate(self, alpha, beta, _stop=None, samples=None):
            gate.wait()
            return {"loss": alpha + 10 * beta}

    kept = {}
    results = evaluate_points(Together(), POINTS[:4], 4, keep=kept.__setitem__)
    first, _ = next(results)
    results.close()
    assert {first, *kept} == set(POINTS[:4])
    assert all(m["loss"] == p.alpha + 10 * p.beta for p, m in kept.items())
