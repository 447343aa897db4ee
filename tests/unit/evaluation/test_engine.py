"""The engine: workers leave every bit alone, and too little memory does not end a run."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from onnxscape.core.plan import Plan
from onnxscape.errors import OutOfMemoryError, SelfTestError, UsageError
from onnxscape.evaluation import engine as engine_module
from onnxscape.evaluation import run as run_module
from onnxscape.evaluation.bench import Bench
from onnxscape.evaluation.engine import Engine
from onnxscape.evaluation.run import run_in_memory
from onnxscape.runtime import calibration_cache
from onnxscape.runtime.calibration import Calibration, Choice
from onnxscape.runtime.strategies import STRATEGIES


def test_workers_and_threads_do_not_change_a_bit(request_of, recorder):
    ways = [{}, {"workers": 2, "threads": 2}, {"threads": 2}, {"workers": 3, "threads": 4}]
    alone, *others = (run_in_memory(request_of("5x5", **w), recorder()) for w in ways)
    for other in others:
        assert other.landscape.plan == alone.landscape.plan
        for name, surface in alone.landscape.surfaces.items():
            assert np.array_equal(other.landscape.surfaces[name], surface), name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_the_same_surface(request_of, recorder, strategy):
    ours, other = (
        run_in_memory(request_of(strategy=name), recorder()).landscape
        for name in ("constant", strategy)
    )
    assert other.plan.strategy == strategy
    np.testing.assert_allclose(other.loss, ours.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 3, "threads": 2}, "from 1 to 2, got 3: there are 2 threads"),
        (
            {"workers": 2, "threads": 2, "strategy": "resident"},
            "from 1 to 1, got 2: --strategy resident evaluates one point at a time",
        ),
        ({"workers": 0}, "from 1 to 1, got 0"),
    ],
)
def test_workers_that_cannot_be_are_refused(request_of, recorder, options, message):
    with pytest.raises(UsageError, match=f"expected --workers {message}"):
        run_in_memory(request_of(**options), recorder())


def test_the_outline_says_how_threads_are_shared_out_and_why(request_of, recorder):
    observer = recorder()
    run_in_memory(request_of(workers=2, threads=2), observer)
    (outline,) = observer.outlines
    assert outline.device.endswith("2 points at a time, 1 thread each")
    assert outline.calibration[0].endswith("as asked")
    assert outline.seconds_per_point > 0


def test_what_is_fastest_is_tried_once_per_model_and_machine(
    request_of, recorder, monkeypatch, tmp_path
):
    cache = tmp_path / "calibration.json"
    monkeypatch.setattr(calibration_cache, "cache_file", lambda: cache)
    monkeypatch.setattr("onnxscape.runtime.calibration.WORTH", 1e9)
    tables = []
    for _ in range(2):
        observer = recorder()
        run_in_memory(request_of(threads=2), observer)
        tables.append(observer.outlines[0].calibration)
    first, second = tables
    assert len(first) == 3  # the choice, and both ways to share out two threads
    assert "when last tried" in second[0]
    assert first[1:] == second[1:]
    assert len(json.loads(cache.read_text())) == 1


@pytest.fixture
def short_of_memory(monkeypatch):
    """Lets a run fail at its third point for want of memory while batches are above a size."""

    def limit(most):
        evaluate = Engine.evaluate

        def evaluate_or_fail(engine, points, keep=None):
            for number, result in enumerate(evaluate(engine, points, keep)):
                if engine.calibration.chosen.batch > most and number == 2:
                    raise OutOfMemoryError("not enough memory for such a batch")
                yield result

        monkeypatch.setattr(Engine, "evaluate", evaluate_or_fail)
        monkeypatch.setattr(
            Bench, "half_of", lambda _bench, choice: replace(choice, batch=choice.batch // 2)
        )

    return limit


def test_too_little_memory_on_the_way_halves_the_batch_and_goes_on(
    run, short_of_memory, recorder, request_of
):
    undisturbed = run_in_memory(request_of("5x5"), recorder()).landscape
    short_of_memory(undisturbed.plan.batch // 4)
    observer = recorder()
    report = run(observer, grid="5x5")
    assert report.landscape.complete
    assert report.landscape.plan.batch == undisturbed.plan.batch // 4
    np.testing.assert_allclose(report.landscape.loss, undisturbed.loss, rtol=1e-6)
    told = [text for text in observer.warnings if "going on with batches of" in text]
    assert len(told) == 2
    assert len(observer.points) == 25


def bench_of(kind="cuda", *, asked=None, demanded=None):
    """Return what `Bench.half_of` looks at."""
    return SimpleNamespace(
        device=SimpleNamespace(kind=kind, __str__=lambda _self: "cuda:0"),
        inputs=SimpleNamespace(request=SimpleNamespace(batch_size=asked)),
        prepared=SimpleNamespace(demanded_batch=demanded),
    )


CHOICE = Choice(strategy="resident", batch=64, threads=1)


def test_a_batch_by_rule_is_halved_down_to_one_sample():
    batches, choice = [], CHOICE
    while choice.batch > 1:
        choice = Bench.half_of(bench_of(), choice)
        batches.append(choice.batch)
    assert batches == [32, 16, 8, 4, 2, 1]
    with pytest.raises(OutOfMemoryError, match="not enough memory for a batch of 1"):
        Bench.half_of(bench_of(), choice)


@pytest.mark.parametrize("bench", [bench_of(asked=64), bench_of(demanded=64), bench_of("cpu")])
def test_a_batch_that_is_not_ours_to_change_is_an_error_that_says_what_to_do(bench):
    with pytest.raises(OutOfMemoryError, match="a batch of 64; free some, use a smaller"):
        Bench.half_of(bench, CHOICE)


def test_a_batch_that_does_not_fit_at_the_start_is_halved(recorder):
    class Fits:
        def estimate(self):
            return 1.0

    def make(choice):
        if choice.batch > 16:
            raise OutOfMemoryError("full")
        return Fits()

    observer = recorder()
    bench = bench_of()
    bench.make, bench.observer = make, observer
    bench.half_of = lambda choice: Bench.half_of(bench, choice)
    evaluator, choice = Bench.fitting(bench, CHOICE)
    assert isinstance(evaluator, Fits)
    assert choice == replace(CHOICE, batch=16)
    assert [text.split("; ")[-1] for text in observer.warnings] == [
        "going on with 32",
        "going on with 16",
    ]


class Large:
    """An evaluator that must be gone before a smaller one is made."""

    alive = 0

    def __init__(self, *, fits):
        assert Large.alive == 0, "the larger one is still there"
        Large.alive += 1
        self._fits = fits

    def __del__(self):
        Large.alive -= 1

    def estimate(self):
        if not self._fits:
            raise OutOfMemoryError("full")
        return 1.0


def test_a_batch_that_does_not_fit_gives_its_memory_back_before_the_next_is_tried(recorder):
    bench = bench_of()
    bench.make = lambda choice: Large(fits=choice.batch <= 16)
    bench.observer = recorder()
    bench.half_of = lambda choice: Bench.half_of(bench, choice)
    bench.fitting = lambda choice: Bench.fitting(bench, choice)
    evaluator, choice = bench.fitting(CHOICE)
    assert choice.batch == 16
    plan = Plan(
        provider="p", strategy="resident", batch=16, folded=False, runtime="r", machine="m"
    )
    engine = Engine(
        evaluator, plan, None, 1, Calibration(chosen=choice, reason=""), 1.0, bench
    )
    del evaluator
    engine.shrink()
    assert (engine.plan.batch, engine.calibration.chosen.batch, Large.alive) == (8, 8, 1)


def test_a_recorded_plan_that_memory_has_no_room_for_any_more_is_recorded_anew(
    run, recorder, monkeypatch
):
    with pytest.raises(KeyboardInterrupt):
        run(recorder(3), grid="5x5")
    start = engine_module.start_engine

    def smaller(*arguments):
        engine = start(*arguments)
        engine.plan = replace(engine.plan, batch=engine.plan.batch // 2)
        return engine

    monkeypatch.setattr(run_module, "start_engine", smaller)
    with pytest.raises(KeyboardInterrupt):
        run(recorder(3), grid="5x5")
    monkeypatch.undo()
    assert run(grid="5x5").landscape.plan.batch == 128


def test_workers_are_refused_on_a_gpu():
    bench = bench_of()
    bench.inputs.request.workers = 2
    with pytest.raises(
        UsageError, match=r"expected --workers 1 on .*, got 2: a GPU evaluates"
    ):
        engine_module._on_gpu(bench, CHOICE, 100, settled=False)


def test_strategies_are_tried_in_a_batch_that_memory_has_room_for(recorder, monkeypatch):
    bench = bench_of()
    bench.inputs.request.workers = None
    bench.observer = recorder()
    bench.make = lambda choice: Large(fits=choice.batch <= 8)
    bench.half_of = lambda choice: Bench.half_of(bench, choice)
    bench.fitting = lambda choice: Bench.fitting(bench, choice)

    def fastest(_bench, base, _points):
        assert Large.alive == 0
        if base.batch > 8:
            raise OutOfMemoryError("full")
        return Calibration(chosen=replace(base, strategy="captured"), reason="the fastest")

    monkeypatch.setattr(engine_module, "fastest_on_gpu", fastest)
    evaluator, calibration = engine_module._on_gpu(bench, CHOICE, 100, settled=False)
    assert isinstance(evaluator, Large)
    assert calibration.chosen == replace(CHOICE, strategy="captured", batch=8)
    assert bench.observer.warnings[-1].endswith("going on with 8")


def test_a_remembered_choice_that_fails_gives_way_to_the_one_by_rule(recorder, monkeypatch):
    other = replace(CHOICE, strategy="captured")
    bench = bench_of()
    bench.inputs.request.workers = None
    bench.observer = recorder()

    def fitting(choice):
        if choice == other:
            raise SelfTestError("outputs differ")
        return "evaluator", choice

    bench.fitting = fitting
    found = Calibration(chosen=other, reason="the fastest when last tried")
    monkeypatch.setattr(engine_module, "fastest_on_gpu", lambda *_: found)
    evaluator, calibration = engine_module._on_gpu(bench, CHOICE, 100, settled=False)
    assert (evaluator, calibration.chosen) == ("evaluator", CHOICE)
    assert "does not work now (outputs differ)" in bench.observer.warnings[0]
