"""Calibration takes the fastest of what is right, and only where trying pays."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest

from onnxscape.errors import OutOfMemoryError, UnsupportedModelError
from onnxscape.runtime import calibration as module
from onnxscape.runtime.calibration import (
    Calibration,
    Choice,
    Trial,
    calibrate_cpu,
    calibrate_gpu,
    fastest,
    splits,
    tried_on_gpu,
)
from onnxscape.runtime.calibration_cache import OLDEST, remembered

BASE = Choice(strategy="constant", batch=64, threads=4)
GPU = Choice(strategy="resident", batch=64, threads=1)


class Evaluator:
    """Says how long a point takes with each number of threads, without computing."""

    def __init__(self, seconds, *, odd=(), threads=4):
        self._seconds, self._odd, self._threads = seconds, odd, threads

    def with_threads(self, threads):
        return Evaluator(self._seconds, odd=self._odd, threads=threads)

    def estimate(self):
        return self._seconds[self._threads]

    def outputs(self, _alpha, _beta):
        return {"y": np.array([1.0, 1.0 + 1e-16 + (self._threads in self._odd) * 1e-15])}


@pytest.mark.parametrize(
    ("threads", "points", "most", "expected"),
    [
        (1, 100, 9, [(1, 1)]),
        (2, 100, 9, [(1, 2), (2, 1)]),
        (6, 100, 9, [(1, 6), (2, 3), (4, 1), (6, 1)]),
        (8, 100, 9, [(1, 8), (2, 4), (4, 2), (8, 1)]),
        (8, 3, 9, [(1, 8), (2, 4)]),
        (8, 100, 5, [(1, 8), (2, 4), (4, 2)]),
        (8, 100, 1, [(1, 8)]),
    ],
)
def test_threads_are_shared_out_in_powers_of_two(threads, points, most, expected):
    assert list(splits(threads, points, most)) == expected


def test_the_fastest_is_taken():
    # Per worker 1.0, 1.5, 3.2 s: together 1.0, 0.75, 0.8 s per point.
    found = calibrate_cpu(Evaluator({4: 1.0, 2: 1.5, 1: 3.2}), BASE, 1000, 8)
    assert (found.chosen.workers, found.chosen.threads) == (2, 2)
    assert [t.seconds for t in found.trials] == [1.0, 0.75, 0.8]
    assert found.seconds == 0.75


def test_workers_without_a_point_at_the_end_count():
    # 5 points: 5 * 1.0 s alone, 3 rounds of 1.9 s by twos, 2 rounds of 3.8 s by fours.
    found = calibrate_cpu(Evaluator({4: 1.0, 2: 1.9, 1: 3.8}), BASE, 5, 8)
    assert found.chosen.workers == 1


def test_threads_that_change_a_bit_are_not_taken():
    found = calibrate_cpu(Evaluator({4: 1.0, 2: 1.5, 1: 1.0}, odd=(1,)), BASE, 1000, 8)
    assert found.chosen.workers == 2
    refused = found.trials[-1]
    assert (refused.choice.threads, refused.refusal) == (1, "other bits")
    assert math.isnan(refused.seconds)


def test_a_short_run_is_not_worth_trying(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))  # an estimate takes 1 s
    found = calibrate_cpu(Evaluator({4: 1.0, 2: 0.1, 1: 0.1}), BASE, 100, 8)
    assert found.chosen == BASE
    assert "too short" in found.reason
    clock = iter(range(100))
    assert calibrate_cpu(Evaluator({4: 1.0, 2: 0.1, 1: 0.1}), BASE, 200, 8).chosen != BASE


def test_a_session_is_made_while_another_runs_where_that_takes_its_time():
    # Two workers with all threads each: 1.4 s both together, 0.7 s per point.
    found = calibrate_cpu(Evaluator({1: 1.4}), replace(BASE, threads=1), 1000, 8)
    assert found.chosen.workers == 1
    found = calibrate_cpu(
        Evaluator({1: 1.4}), replace(BASE, threads=1), 1000, 8, overlapping=True
    )
    assert (found.chosen.workers, found.chosen.threads, found.seconds) == (2, 1, 0.7)
    alone = calibrate_cpu(
        Evaluator({1: 1.4}), replace(BASE, threads=1), 1000, 1, overlapping=True
    )
    assert alone.chosen.workers == 1


class Gpu:
    """Makes evaluators whose time depends on the choice; some cannot be made."""

    def __init__(self, seconds, refusals=None):
        self._seconds, self._refusals = seconds, refusals or {}
        self.made = []

    def __call__(self, choice):
        self.made.append(choice)
        for wrong, error in self._refusals.items():
            if wrong in {choice.strategy, choice.batch}:
                raise error
        return Evaluator({4: self._seconds(choice)})


def test_a_gpu_takes_the_best_batch_and_then_the_best_strategy():
    speed = {"resident": 1.0, "captured": 0.9, "in-graph": 1.5, "overriding": 1.1}
    gpu = Gpu(lambda c: speed[c.strategy] * (0.5 if c.batch == 128 else 1.0))
    found = calibrate_gpu(gpu, GPU, 1000, 500, batch_is_free=True)
    assert (found.chosen.strategy, found.chosen.batch) == ("captured", 128)
    assert found.seconds == 0.45
    assert {t.choice.batch for t in found.trials} == {32, 64, 128}


def test_a_gpu_leaves_out_what_fails():
    refusals = {"captured": UnsupportedModelError("no"), 128: OutOfMemoryError("full")}
    found = calibrate_gpu(Gpu(lambda _c: 1.0, refusals), GPU, 1000, 500, batch_is_free=True)
    assert found.chosen == GPU
    assert [t.refusal for t in found.trials if t.refusal] == ["full", "no"]


def test_a_gpu_that_can_do_nothing_says_what_the_first_choice_said():
    gpu = Gpu(
        lambda _c: 1.0,
        {
            s: UnsupportedModelError(s)
            for s in ("resident", "captured", "in-graph", "overriding")
        },
    )
    with pytest.raises(UnsupportedModelError, match="resident"):
        calibrate_gpu(gpu, GPU, 1000, 500, batch_is_free=True)


def test_a_gpu_without_memory_for_the_choice_by_rule_tries_nothing_else():
    gpu = Gpu(lambda _c: 1.0, {64: OutOfMemoryError("full")})
    with pytest.raises(OutOfMemoryError, match="full"):
        calibrate_gpu(gpu, GPU, 1000, 500, batch_is_free=True)
    assert gpu.made == [GPU]


def test_a_batch_that_is_asked_for_stays():
    gpu = Gpu(lambda c: 1.0 / c.batch)
    calibrate_gpu(gpu, GPU, 10**6, 500, batch_is_free=False)
    assert {choice.batch for choice in gpu.made} == {64}


def test_a_short_run_on_a_gpu_tries_nothing_else():
    gpu = Gpu(lambda _c: 1e-3)
    assert calibrate_gpu(gpu, GPU, 100, 500, batch_is_free=True).chosen == GPU
    assert gpu.made == [GPU]
    assert module.SHORT > 0.1


def test_a_table_shows_what_was_tried_and_what_was_taken():
    other = replace(BASE, workers=4, threads=1)
    found = Calibration(
        chosen=other,
        reason="the fastest",
        trials=(
            Trial(choice=BASE, seconds=1.0),
            Trial(choice=other, seconds=0.5),
            Trial(choice=replace(BASE, workers=2), seconds=math.nan, refusal="other bits"),
        ),
    )
    first, base, taken, refused = found.table()
    assert "the fastest" in first
    assert base.endswith("4 threads: 1 s per point")
    assert taken.endswith("4 points at a time, 1 thread each: 0.5 s per point  <- taken")
    assert refused.endswith("other bits")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "folder" / "calibration.json"


FOUND = Calibration(
    chosen=BASE,
    reason="the fastest",
    trials=(
        Trial(choice=BASE, seconds=0.25),
        Trial(choice=replace(BASE, workers=2), seconds=math.nan, refusal="other bits"),
    ),
)


def never():
    raise AssertionError("was tried again")


def recalled(circumstances, calibrate, path, *, points=100, choices=None):
    if choices is None:
        choices = [trial.choice for trial in FOUND.trials]
    return remembered(
        circumstances, calibrate, points=points, possible=lambda c: c == choices, path=path
    )


def test_what_was_found_is_remembered_under_the_same_circumstances(cache):
    assert recalled({"model": "a"}, lambda: FOUND, cache) == FOUND
    again = recalled({"model": "a"}, never, cache)
    assert (again.chosen, again.seconds) == (BASE, 0.25)
    assert again.trials[1].refusal == "other bits"
    other = replace(FOUND, reason="another model")
    assert recalled({"model": "b"}, lambda: other, cache) == other


def test_what_was_not_tried_is_not_recalled(cache):
    rule = Calibration(chosen=BASE, reason="by rule", trials=FOUND.trials[:1])
    recalled({}, lambda: rule, cache)
    assert not cache.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"KEY": 3}', b'{"KEY": {"trials": []}}'],
)
def test_a_broken_cache_is_as_good_as_none(cache, content):
    recalled({}, lambda: FOUND, cache)
    (key,) = json.loads(cache.read_bytes())
    cache.write_bytes(content.replace(b"KEY", key.encode()))
    assert recalled({}, lambda: FOUND, cache) == FOUND
    assert recalled({}, never, cache).chosen == BASE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"workers": 1', '"workers": -1'),
        ('"workers": 2', '"workers": 2000000000'),
        ('"threads": 4', '"threads": 2000000000'),
        ('"batch": 64', '"batch": 64.0'),
        ('"workers": 1', '"workers": true'),
        ('"constant"', '"unheard of"'),
        ('"constant"', '["constant"]'),
        ('"seconds": 0.25', '"seconds": 0'),
        ('"seconds": 0.25', '"seconds": NaN'),
        ('"seconds": 0.25', '"seconds": null'),
        ('"seconds": 0.25, "refusal": ""', '"seconds": null, "refusal": "other bits"'),
        ('"refusal": "other bits"', '"refusal": ""'),
        ('"time": ', '"time": 9'),
        ('"time": ', '"time": -'),
        ('"time": ', '"time": "", "then": '),
    ],
)
def test_what_would_not_be_tried_now_is_tried_again(cache, old, new):
    recalled({}, lambda: FOUND, cache)
    assert old in cache.read_text()
    cache.write_text(cache.read_text().replace(old, new))
    assert recalled({}, lambda: FOUND, cache) is FOUND


def test_what_was_tried_long_ago_is_tried_again(cache, monkeypatch):
    recalled({}, lambda: FOUND, cache)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + OLDEST - 60)
    recalled({}, never, cache)
    monkeypatch.setattr(time, "time", lambda: now + OLDEST + 60)
    assert recalled({}, lambda: FOUND, cache) is FOUND


def test_the_fastest_is_chosen_anew_for_the_points_there_are(cache):
    two, four = (replace(BASE, workers=n, threads=4 // n) for n in (2, 4))
    trials = tuple(
        Trial(choice=c, seconds=s) for c, s in ((BASE, 1.0), (two, 0.7), (four, 0.5))
    )
    found = Calibration(chosen=four, reason="the fastest", trials=trials)
    choices = [BASE, two, four]
    recalled({}, lambda: found, cache, choices=choices)
    for points, chosen in ((1, BASE), (2, two), (4, four), (6, four), (1001, four)):
        assert fastest(trials, points) == chosen
        again = recalled({}, never, cache, points=points, choices=choices)
        assert (again.chosen, again.trials) == (chosen, trials)


def test_only_what_a_gpu_may_have_tried_is_believed():
    tried = [replace(GPU, batch=batch) for batch in (64, 32, 128)]
    tried += [
        replace(GPU, strategy=name, batch=128)
        for name in ("captured", "in-graph", "overriding")
    ]
    assert tried_on_gpu(tried, GPU, 1000, batch_is_free=True)
    assert not tried_on_gpu(tried, GPU, 1000, batch_is_free=False)
    assert not tried_on_gpu(tried[:-1], GPU, 1000, batch_is_free=True)
    for changes in ({"batch": 256}, {"threads": 2}, {"workers": 2}, {"strategy": "other"}):
        wrong = [*tried[:-1], replace(tried[-1], **changes)]
        assert not tried_on_gpu(wrong, GPU, 1000, batch_is_free=True)


def test_a_cache_that_cannot_be_written_is_as_good_as_none(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert recalled({}, lambda: FOUND, file / "calibration.json") is FOUND


def test_only_the_newest_are_kept(cache, monkeypatch):
    monkeypatch.setattr("onnxscape.runtime.calibration_cache.MOST", 2)
    for number in range(4):
        recalled({"n": number}, lambda: FOUND, cache)
    recalled({"n": 3}, never, cache)
    with pytest.raises(AssertionError):
        recalled({"n": 0}, never, cache)
