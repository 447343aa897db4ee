"""The self-test must pass what is right and catch each way of being silently wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxscape.core.direction import random_direction
from onnxscape.errors import SelfTestError
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import analyse
from onnxscape.runtime.constant_sessions import ConstantSessions
from onnxscape.runtime.devices import find_device
from onnxscape.runtime.self_test import (
    FLOOR,
    NARROW,
    TOLERANCE,
    compare,
    replay_test,
    self_test,
)
from onnxscape.runtime.strategies import STRATEGIES
from onnxscape.runtime.user_model import UserModel

every = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


class Sabotaged:
    """An evaluator whose outputs go through a function of the point."""

    def __init__(self, evaluator, change):
        self._evaluator = evaluator
        self._change = change

    def outputs(self, alpha, beta):
        def run(*point):
            return self._evaluator.outputs(*point)["logits"]

        return {"logits": self._change(run, alpha, beta)}


@pytest.fixture
def check(case):
    """Runs the self-test of the case on an evaluator."""

    def run(evaluator, samples=64, precision="fp32"):
        feeds = {"input": case.samples.inputs["input"][:samples]}
        cpu = find_device("cpu")
        self_test(
            evaluator,
            UserModel(file=case.file, device=cpu, threads=1, precision=precision),
            case.parameters,
            case.delta,
            case.eta,
            feeds,
        )

    return run


@every
def test_a_right_evaluator_passes(case, check, strategy):
    check(case.make(strategy))


@every
def test_fewer_samples_than_a_gpus_batch_pass(case, check, pretend_gpu, strategy):
    evaluator = case.make(strategy, device=pretend_gpu, batch=4096)
    assert len(evaluator.outputs(0.0, 0.0)["logits"]) == 300
    check(evaluator, samples=300)
    expected = case.make(strategy).evaluate(0.5, 0.5)
    assert evaluator.evaluate(0.5, 0.5) == pytest.approx(expected, rel=1e-6)


def test_weights_that_never_arrive_are_caught(case, check):
    stuck = Sabotaged(case.make(ConstantSessions), lambda run, _alpha, _beta: run(0.0, 0.0))
    with pytest.raises(SelfTestError, match=r"at alpha = 0.25, beta = -0.125"):
        check(stuck)


@pytest.mark.parametrize(("precision", "tolerance"), NARROW.items())
def test_a_narrow_precision_may_differ_as_much_as_it_rounds(case, check, precision, tolerance):
    def differing(share):
        def change(run, alpha, beta):
            values = run(alpha, beta)
            return values + np.float32(share * np.abs(values).max())

        return Sabotaged(case.make(ConstantSessions), change)

    check(differing(0.9 * tolerance), precision=precision)
    with pytest.raises(SelfTestError, match="use a more exact --precision"):
        check(differing(1.1 * tolerance), precision=precision)
    with pytest.raises(SelfTestError, match="please report this"):
        check(differing(0.9 * tolerance))


@pytest.mark.parametrize("precision", NARROW)
def test_weights_that_never_arrive_are_caught_in_every_precision(case, check, precision):
    for change in (
        lambda run, _alpha, _beta: run(0.0, 0.0),
        lambda run, alpha, beta: run(beta, alpha),
        lambda run, alpha, _beta: run(alpha, 0.0),
    ):
        with pytest.raises(SelfTestError, match=r"at alpha = 0.25, beta = -0.125"):
            check(Sabotaged(case.make(ConstantSessions), change), precision=precision)


def test_exchanged_directions_are_caught(case, check):
    evaluator = case.make(ConstantSessions, delta=case.eta, eta=case.delta)
    with pytest.raises(SelfTestError, match=r"at alpha = 0.25"):
        check(evaluator)


def test_one_tensor_left_behind_is_caught(case, check):
    tensors = dict(case.delta.tensors)
    tensors.pop("f2.weight")
    with pytest.raises(SelfTestError, match=r"at alpha = 0.25"):
        check(case.make(ConstantSessions, delta=type(case.delta)(tensors)))


def test_a_changed_network_is_caught_at_the_center(case, check):
    scaled = Sabotaged(
        case.make(ConstantSessions), lambda run, alpha, beta: 1.001 * run(alpha, beta)
    )
    with pytest.raises(SelfTestError, match=r"at the center.*--strategy overriding"):
        check(scaled)


def test_values_that_are_finite_in_one_only_are_caught(case, check):
    def broken(run, alpha, beta):
        outputs = run(alpha, beta).copy()
        outputs[0, 0] = np.nan
        return outputs

    with pytest.raises(SelfTestError, match="1 outputs are finite in only one"):
        check(Sabotaged(case.make(ConstantSessions), broken))


def test_another_shape_is_caught(case, check):
    shorter = Sabotaged(case.make(ConstantSessions), lambda run, a, b: run(a, b)[:, :9])
    with pytest.raises(SelfTestError, match=r"\[64, 10\], the prepared one's \[64, 9\]"):
        check(shorter)


def test_the_tolerance_is_a_fraction_of_the_largest_output():
    expected = np.array([[1000.0, 0.001]])
    step = np.array([[0.0, 1000 * TOLERANCE]])
    compare(expected + 0.9 * step, expected, "here")
    with pytest.raises(SelfTestError, match="here: outputs differ"):
        compare(expected + 1.1 * step, expected, "here")


def test_tiny_outputs_may_differ_by_the_noise_of_float32():
    expected = np.array([[9e-8, 2e-8]])
    compare(expected + 0.9 * FLOOR, expected, "here")
    with pytest.raises(SelfTestError, match="here: outputs differ"):
        compare(expected + 1.1 * FLOOR, expected, "here")
    compare(np.zeros((1, 2)), np.zeros((1, 2)), "here")


def test_the_same_infinities_pass():
    values = np.array([[np.inf, np.nan, 1.0]])
    compare(values, values, "here")
    compare(np.full((1, 2), np.nan), np.full((1, 2), np.nan), "here")


# --- several outputs ------------------------------------------------------------------------


class Several:
    """An evaluator that computes `out`, `other` and `best` from x at any weights, by numpy."""

    def __init__(self, x, weight, delta, **changes):
        self._x, self._weight, self._delta, self._changes = x, weight, delta, changes

    def outputs(self, alpha, _beta):
        out = self._x @ (self._weight + np.float32(alpha) * self._delta)
        values = {"out": out, "other": -out, "best": out.argmax(axis=1)}
        return {n: self._changes.get(n, lambda v, _: v)(v, alpha) for n, v in values.items()}


@pytest.fixture
def check_several(make_model):
    """Runs the self-test of a dense layer with three outputs on numpy's numbers, changed."""
    random = np.random.default_rng(8)
    x, weight = (np.float32(random.standard_normal(shape)) for shape in ((60, 4), (4, 3)))
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["out"]),
        onnx.helper.make_node("Neg", ["out"], ["other"]),
        onnx.helper.make_node("ArgMax", ["out"], ["best"], axis=1, keepdims=0),
    ]
    outputs = {"out": ["n", 3], "other": ["n", 3], "best": ["n"]}
    types = {"best": onnx.TensorProto.INT64}
    file = read_model(make_model(nodes, {"x": ["n", 4]}, outputs, {"w": weight}, types=types))
    parameters, _ = analyse(file)
    delta = random_direction(parameters, seed=1, axis=0)
    user = UserModel(file=file, device=find_device("cpu"), threads=1)

    def run(**changes):
        evaluator = Several(x, weight, delta.tensors["w"], **changes)
        self_test(evaluator, user, parameters, delta, None, {"x": x})

    return run


def test_several_right_outputs_pass(check_several):
    check_several()


def test_an_output_is_compared_that_only_a_graph_reads(check_several):
    with pytest.raises(SelfTestError, match=r"at the center, output 'other'"):
        check_several(other=lambda values, _alpha: values * np.float32(1.001))
    with pytest.raises(SelfTestError, match=r"at alpha = 0.25, .* output 'other'"):
        check_several(other=lambda values, alpha: values * (1 + np.float32(alpha)))


def test_few_whole_numbers_may_be_on_the_other_side_of_a_step(check_several):
    check_several(best=lambda values, _: np.where(np.arange(60) < 3, values + 1, values))
    with pytest.raises(SelfTestError, match=r"output 'best': 4 of 60 whole numbers differ"):
        check_several(best=lambda values, _: np.where(np.arange(60) < 4, values + 1, values))


# --- files that round otherwise -----------------------------------------------------------


@pytest.fixture
def half(reference):
    """The reference network in float16."""
    model = onnx.load(reference / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.float16(array), tensor.name))
    return model


@pytest.fixture
def check_half(half, case_of):
    """Runs the self-test of the float16 network on its evaluator, changed or not."""
    case = case_of(half)

    def run(change):
        feeds = {"input": case.samples.inputs["input"][:64]}
        user = UserModel(file=case.file, device=find_device("cpu"), threads=1)
        assert user.outputs(feeds)[case.prepared.output].dtype == np.float16
        self_test(
            Sabotaged(case.make(ConstantSessions), change),
            user,
            case.parameters,
            case.delta,
            case.eta,
            feeds,
        )

    return run


def test_a_half_file_passes_though_it_rounds(check_half):
    check_half(lambda run, alpha, beta: run(alpha, beta))


def test_a_half_file_that_is_far_off_at_the_center_is_caught(check_half):
    with pytest.raises(SelfTestError, match=r"at the center.* more than 0\.02 of the largest"):
        check_half(lambda run, alpha, beta: run(alpha, beta) * (1.03 if alpha == 0 else 1))


def test_off_the_center_a_half_file_is_compared_as_closely_as_others(check_half):
    with pytest.raises(SelfTestError, match=r"at alpha = 0\.25.* more than 0\.0001 of"):
        check_half(lambda run, alpha, beta: run(alpha, beta) * (1.001 if alpha else 1))


def test_a_file_in_training_mode_is_run_as_in_inference(reference):
    model = onnx.load(reference / "model.onnx")
    norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    x = {"input": np.load(reference / "data.npz")["x"][:8]}
    cpu = find_device("cpu")
    truth = UserModel(file=read_model(model), device=cpu, threads=1).outputs(x)["logits"]
    assert norms
    for norm in norms:
        norm.attribute.append(onnx.helper.make_attribute("training_mode", 1))
        norm.output.extend([f"{norm.name}.mean", f"{norm.name}.var"])
    ours = UserModel(file=read_model(model), device=cpu, threads=1).outputs(x)["logits"]
    np.testing.assert_allclose(ours, truth, rtol=1e-6)


class Stale:
    """A bound evaluator that repeats what it gave first, like a CUDA graph of old weights."""

    def __init__(self, evaluator):
        self._evaluator = evaluator
        self._first = None

    def first_results(self, alpha, beta, *, plain=False):
        if plain:
            return self._evaluator.first_results(alpha, beta, plain=True)
        if self._first is None:
            self._first = self._evaluator.first_results(alpha, beta)
        return self._first


def test_the_batches_of_the_run_are_tested_as_they_will_be_run(case):
    few, many = (case.make(STRATEGIES["captured"], batch=n) for n in (32, 128))
    replay_test(many, few)
    with pytest.raises(SelfTestError, match="in the batches of the run"):
        replay_test(Stale(many), few)


class Mixing:
    """A bound evaluator whose losses depend on how many samples there are in the batch."""

    def __init__(self, evaluator, amount=0.01):
        self._evaluator = evaluator
        self._amount = amount

    def first_results(self, alpha, beta, *, plain=False):
        losses, *others = self._evaluator.first_results(alpha, beta, plain=plain)
        return [losses * (1 + self._amount * len(losses)), *others]


def test_batches_of_other_sizes_may_round_otherwise_as_far_as_the_precision_does(case):
    few, many = (Mixing(case.make(STRATEGIES["resident"], batch=n), 5e-4) for n in (32, 128))
    replay_test(many, few, precision="bf16")  # 4.7 % apart
    for precision in ("fp32", "tf32", "fp16"):
        with pytest.raises(SelfTestError, match="in the batches of the run"):
            replay_test(many, few, precision=precision)


def test_where_samples_see_each_other_a_batch_is_compared_with_itself_without_a_graph(case):
    few, many = (Mixing(case.make(STRATEGIES["captured"], batch=n)) for n in (32, 128))
    replay_test(many, few, mixing=True)
    with pytest.raises(SelfTestError, match="in the batches of the run"):
        replay_test(many, few)
    with pytest.raises(SelfTestError, match="in the batches of the run"):
        replay_test(Stale(many), few, mixing=True)
