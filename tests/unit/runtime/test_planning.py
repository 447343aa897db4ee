from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnxruntime as ort
import pytest

from onnxscape.core.execution import STRATEGY_NAMES
from onnxscape.core.samples import Samples
from onnxscape.errors import UnsupportedModelError, UsageError
from onnxscape.runtime import planning
from onnxscape.runtime.devices import Device
from onnxscape.runtime.evaluator import filled_up
from onnxscape.runtime.planning import make_evaluator, make_plan
from onnxscape.runtime.strategies import STRATEGIES

CPU = Device("cpu", 0, "some processor")
CUDA = Device("cuda", 0, "some GPU")


def samples(*shape, count=10):
    return Samples(
        inputs={"x": np.zeros((count, *shape), dtype=np.float32)},
        labels=np.zeros(count, dtype=np.int64),
        population=count,
        name="zeros",
        digest="0" * 64,
    )


@pytest.mark.parametrize(
    ("device", "shape", "batch"),
    [
        (CPU, (3, 32, 32), 64),  # 2^18 / 3072 = 85.3
        (CPU, (1, 8, 8), 256),  # the most
        (CPU, (3, 224, 224), 8),  # the least
        (CPU, (1024,), 256),
        (CPU, (1025,), 128),
    ],
)
def test_the_batch_of_a_cpu_is_the_power_of_two_that_fits_its_caches(device, shape, batch):
    many = samples(*shape, count=4096 if math.prod(shape) < 2**16 else 32)
    assert make_plan(many, device).batch == batch


@pytest.mark.parametrize(
    ("shape", "count", "batch"),
    [
        ((3, 32, 32), 1000, 1000),  # all at once
        ((3, 32, 32), 10_000, 2504),  # 2^23 / 3072 = 2730.7, so four, multiples of 8
        ((8,), 60_000, 7504),  # at most 8192
        ((3, 1024, 1024), 100, 32),  # at least 32
        ((3, 1024, 1024), 5, 5),
        ((8,), 1, 1),
    ],
)
def test_the_batches_of_a_gpu_are_equal_and_hold_little_but_the_samples(shape, count, batch):
    assert make_plan(samples(*shape, count=count), CUDA).batch == batch


@pytest.mark.parametrize(
    ("subset", "batch"), [(100, 100), (5, 32), (5000, 2504), (20_000, 2504)]
)
def test_a_batch_of_a_gpu_reaches_no_further_than_points_that_take_fewer_samples(
    subset, batch
):
    some = dataclasses.replace(samples(3, 32, 32, count=10_000), subset=subset)
    assert make_plan(some, CUDA).batch == batch


def test_all_inputs_count_for_the_batch():
    two = Samples(
        inputs={name: np.zeros((4, 1024), dtype=np.float32) for name in ("a", "b")},
        labels=np.zeros(4, dtype=np.int64),
        population=4,
        name="zeros",
        digest="0" * 64,
    )
    assert make_plan(two, CPU).batch == 128


def test_a_plan_names_what_defines_the_bits():
    plan = make_plan(samples(4), CPU, folded=False)
    assert plan.provider == "CPUExecutionProvider"
    assert plan.runtime == f"onnxruntime {ort.__version__}"
    assert plan.machine == "some processor"
    assert plan.folded is False


@pytest.mark.parametrize(("device", "strategy"), [(CPU, "constant"), (CUDA, "resident")])
def test_the_strategy_follows_from_the_device(device, strategy):
    assert make_plan(samples(4), device).strategy == strategy


def test_the_users_choices_win():
    plan = make_plan(samples(4), CPU, strategy="overriding", batch=7)
    assert (plan.strategy, plan.batch) == ("overriding", 7)


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"constant, .* or shared, got 'fast'"):
        make_plan(samples(4), CPU, strategy="fast")


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_needs_a_sample(batch):
    with pytest.raises(UsageError, match=f"at least 1, got {batch}"):
        make_plan(samples(4), CPU, batch=batch)


def test_a_model_of_fixed_batch_decides_the_batch():
    assert make_plan(samples(4), CPU, demanded=5).batch == 5
    assert make_plan(samples(4), CPU, batch=5, demanded=5).batch == 5


def test_another_batch_than_the_models_is_refused():
    with pytest.raises(UsageError, match=r"8 is not possible.*batches of 5 only"):
        make_plan(samples(4), CPU, batch=8, demanded=5)


def test_a_batch_is_filled_up_with_its_last_sample():
    feeds = {"x": np.arange(6).reshape(3, 2), "rate": np.array(0.5)}
    full = filled_up(feeds, 5)
    assert full["x"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]
    assert full["rate"] == 0.5
    assert filled_up(feeds, 3)["x"] is feeds["x"]


@pytest.mark.parametrize("size", [2**28, 2**62])
def test_a_batch_that_no_memory_holds_is_refused_before_it_is_filled_up(size):
    with pytest.raises(UnsupportedModelError, match=f"a batch of {size} samples"):
        filled_up(samples(4).inputs, size)


def test_every_strategy_has_its_name_in_core():
    assert tuple(STRATEGIES) == STRATEGY_NAMES


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_evaluator_is_the_one_the_plan_names(case, monkeypatch, strategy):
    made = []

    def recorded(*arguments, **options):
        made.append(strategy)
        return STRATEGIES[strategy](*arguments, **options)

    monkeypatch.setattr(planning, "STRATEGIES", {**STRATEGIES, strategy: recorded})
    plan = make_plan(case.samples, CPU, strategy=strategy)
    evaluator = make_evaluator(
        plan, case.prepared, case.samples, case.delta, case.eta, device=CPU, threads=1
    )
    assert made == [strategy]
    assert len(evaluator.outputs(0.0, 0.0)["logits"]) == plan.batch
