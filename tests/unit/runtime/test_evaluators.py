"""All strategies against each other, and against themselves in other batches and orders."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from onnxscape.errors import OutOfMemoryError, UnsupportedModelError
from onnxscape.graph.heads import LABELS
from onnxscape.graph.prepared import prepare
from onnxscape.runtime import bound_batches
from onnxscape.runtime.constant_sessions import ConstantSessions
from onnxscape.runtime.evaluator import Collector, EvaluationStopped, WeightPath, batches
from onnxscape.runtime.overriding_inputs import overriding_inputs
from onnxscape.runtime.strategies import STRATEGIES

POINTS = ((0.0, 0.0), (0.5, -0.25), (-1.0, 1.0))
every = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def close(a, b, relative):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value == pytest.approx(b[name], rel=relative), name


@every
def test_all_strategies_agree(case, strategy):
    constant, other = (case.make(s) for s in (ConstantSessions, strategy))
    for point in POINTS:
        close(constant.evaluate(*point), other.evaluate(*point), 1e-5)


@pytest.mark.parametrize("strategy", ["resident", "captured", "in-graph", "shared"])
def test_weights_that_move_elsewhere_have_the_bits_of_those_moved_by_the_host(case, strategy):
    host, other = (case.make(make) for make in (overriding_inputs, STRATEGIES[strategy]))
    for point in (*POINTS, (1e-3, 0.0), (0.0, -7.25), (1 / 3, 2 / 3)):
        assert other.evaluate(*point) == host.evaluate(*point)


@every
def test_the_batch_size_does_not_change_the_result(case, strategy):
    expected = {p: case.make(strategy, batch=300).evaluate(*p) for p in POINTS}
    for batch in (1, 7, 64, 512):
        evaluator = case.make(strategy, batch=batch)
        for point in POINTS:
            close(evaluator.evaluate(*point), expected[point], 1e-6)


@every
def test_the_order_of_samples_does_not_change_a_bit(case, shuffled, strategy):
    one_by_one = case.make(strategy, batch=1)
    in_other_order = case.make(strategy, batch=1, samples=shuffled)
    point = (0.5, 0.5)
    assert one_by_one.evaluate(*point) == in_other_order.evaluate(*point)


@every
def test_the_same_point_gives_the_same_bits_whatever_came_between(case, strategy):
    evaluator = case.make(strategy)
    first = evaluator.evaluate(0.3, -0.7)
    evaluator.evaluate(1e3, 1e3)
    assert evaluator.evaluate(0.3, -0.7) == first


@every
def test_folding_normalizations_does_not_change_the_result(case, strategy):
    names = set(case.delta.tensors)
    unfolded = prepare(
        case.file, case.parameters, moved=names, loss=case.prepared.head.loss, fold=False
    )
    assert (case.prepared.folded, unfolded.folded) == (3, 0)
    evaluators = case.make(strategy), case.make(strategy, prepared=unfolded)
    for point in POINTS:
        close(*(evaluator.evaluate(*point) for evaluator in evaluators), 1e-4)


@pytest.fixture(scope="module")
def bound(case_of, reference, fixed_to):
    """The case of the reference network, for batches of 32 only."""
    return case_of(fixed_to(reference / "model.onnx", 32, bound=True))


@every
def test_a_model_of_fixed_batch_gives_the_same_as_one_of_any(case, bound, strategy):
    assert bound.prepared.demanded_batch == 32
    evaluator = bound.make(strategy, batch=32, pad=True)
    for point in POINTS:
        close(evaluator.evaluate(*point), case.make(strategy, batch=32).evaluate(*point), 1e-9)


@every
def test_a_model_freed_from_its_batch_takes_any(case, case_of, reference, fixed_to, strategy):
    freed = case_of(fixed_to(reference / "model.onnx", 32))
    assert freed.prepared.batch.dynamic
    assert freed.prepared.demanded_batch is None
    for batch in (1, 50):
        evaluators = (c.make(strategy, batch=batch) for c in (freed, case))
        close(*(evaluator.evaluate(0.5, -0.25) for evaluator in evaluators), 1e-9)


@pytest.mark.parametrize(
    ("strategy", "free"),
    [
        pytest.param(make, free, id=f"{name}-{free}")
        for name, make in STRATEGIES.items()
        for free in (10_000, 10_000_000)
        if (name, free) != ("captured", 10_000)  # refused: see below
    ],
)
def test_samples_beyond_a_gpus_memory_are_copied_batch_by_batch(
    case, pretend_gpu, monkeypatch, strategy, free
):
    monkeypatch.setattr(bound_batches, "free_memory", lambda _device: free)
    before = case.samples.inputs["input"].copy()
    evaluator = case.make(strategy, device=pretend_gpu)
    for point in POINTS:
        assert evaluator.evaluate(*point) == case.make(strategy, pad=True).evaluate(*point)
    assert len(evaluator.outputs(0.5, 0.5)["logits"]) == 64
    assert np.array_equal(case.samples.inputs["input"], before)


@every
def test_a_point_nobody_wants_is_given_up_before_its_next_batch(case, strategy):
    stop = threading.Event()
    evaluator = case.make(strategy)
    assert evaluator.evaluate(0.0, 0.0, stop) == evaluator.evaluate(0.0, 0.0)
    stop.set()
    with pytest.raises(EvaluationStopped):
        evaluator.evaluate(0.0, 0.0, stop)


@every
def test_the_outputs_are_those_of_the_first_batch(case, strategy):
    small, large = (case.make(strategy, batch=n) for n in (5, 300))
    outputs = small.outputs(0.5, 0.5)
    assert list(outputs) == ["logits"]
    assert outputs["logits"].shape == (5, 10)
    expected = large.outputs(0.5, 0.5)["logits"][:5]
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-5, atol=1e-5)


def test_a_cuda_graph_needs_all_samples_on_the_device(case, pretend_gpu, monkeypatch):
    monkeypatch.setattr(bound_batches, "free_memory", lambda _device: 10_000)
    with pytest.raises(OutOfMemoryError, match="fewer --samples, or --strategy resident"):
        case.make(STRATEGIES["captured"], device=pretend_gpu)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA failure 2: out of memory"), MemoryError("no room")]
)
def test_memory_that_is_short_while_data_are_copied_is_told_as_such(case, monkeypatch, error):
    evaluator = case.make(overriding_inputs)

    def copy(_array):
        raise error

    monkeypatch.setattr(bound_batches.BoundBatches, "run", lambda *_: copy(None))
    with pytest.raises(OutOfMemoryError, match="a smaller --batch-size"):
        evaluator.evaluate(0.0, 0.0)


@every
def test_the_estimate_is_a_time(case, strategy):
    assert 0 < case.make(strategy).estimate() < 60


@every
def test_a_line_needs_only_its_own_direction(case, strategy):
    plane = case.make(strategy)
    along_delta = case.make(strategy, eta=None)
    along_eta = case.make(strategy, delta=None)
    assert along_delta.evaluate(0.5, 0.0) == plane.evaluate(0.5, 0.0)
    assert along_eta.evaluate(0.0, 0.5) == plane.evaluate(0.0, 0.5)


@every
def test_a_model_that_fails_while_running_is_one_line(bound, strategy):
    evaluator = bound.make(strategy, batch=50)
    with pytest.raises(UnsupportedModelError, match="the model fails") as error:
        evaluator.evaluate(0.0, 0.0)
    assert "\n" not in str(error.value)


def test_weights_are_moved_afresh_from_the_center(case):
    path = WeightPath(case.prepared, case.delta, case.eta)
    center = [weight.copy() for weight in path.at(0.0, 0.0)]
    for step in np.linspace(-1, 1, 11):
        path.at(step, -step)
    for before, after in zip(center, path.at(0.0, 0.0), strict=True):
        assert np.array_equal(before, after)


def test_batches_hold_every_sample_once_in_order(case):
    cut = batches(case.samples, case.prepared, 64, pad=False)
    assert [part.count for part in cut] == [64, 64, 64, 64, 44]
    x = np.concatenate([part.feeds["input"] for part in cut])
    y = np.concatenate([part.feeds[LABELS] for part in cut])
    assert np.array_equal(x, case.samples.inputs["input"])
    assert np.array_equal(y, case.samples.labels)
    assert all(np.shares_memory(p.feeds["input"], case.samples.inputs["input"]) for p in cut)


def test_padding_repeats_the_last_sample(case):
    last = batches(case.samples, case.prepared, 64, pad=True)[-1]
    assert last.count == 44
    assert len(last.feeds["input"]) == len(last.feeds[LABELS]) == 64
    assert (last.feeds["input"][44:] == case.samples.inputs["input"][-1]).all()
    assert (last.feeds[LABELS][44:] == case.samples.labels[-1]).all()


def test_padded_rows_are_not_collected(case):
    three = dataclasses.replace(
        case.samples,
        inputs={"input": case.samples.inputs["input"][:3]},
        labels=case.samples.labels[:3],
        population=3,
    )
    collector = Collector(case.prepared, three)
    rows = np.array([[1.0], [2.0], [9.0]]), np.array([[1.0], [0.0], [1.0]])
    collector.add([*rows], 2, 3)
    collector.add([*rows], 1, 3)
    assert collector.summary() == {
        "loss": pytest.approx(4 / 3),
        "loss_stderr": 0.0,
        "accuracy": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize("shape", [(9, 1), (3, 3), (1, 1), (3,)])
def test_results_whose_rows_are_no_samples_are_refused(case, shape):
    collector = Collector(case.prepared, case.samples)
    with pytest.raises(
        UnsupportedModelError, match=r"the accuracy of a batch of 3 .*\[3, 1\]"
    ):
        collector.add([np.zeros((3, 1)), np.zeros(shape)], 3, 3)


def test_only_what_is_asked_for_leaves_the_graph(case):
    prepared = case.prepared
    head = dataclasses.replace(prepared.head, results=prepared.head.results[:1])
    evaluator = case.make(ConstantSessions, prepared=dataclasses.replace(prepared, head=head))
    assert set(evaluator.evaluate(0.0, 0.0)) == {"loss", "loss_stderr"}
