"""Precisions of a GPU, where there is one; the truth is float32 on the CPU."""

from __future__ import annotations

from pathlib import Path

import fixture_evaluation
import numpy as np
import pytest
from onnx import helper

import onnxscape as ox
from onnxscape.errors import DeviceError
from onnxscape.runtime.devices import find_device
from onnxscape.runtime.sessions import open_session, session_options

pytestmark = pytest.mark.gpu

MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        return find_device("cuda")
    except DeviceError as error:
        pytest.skip(str(error))


def test_tf32_rounds_the_factors_of_products(make_model):
    x, w = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    model = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["out"])],
        {"x": x.shape},
        {"out": exact.shape},
        {"w": w},
    )
    device = find_device("cuda", precision="tf32")
    session = open_session(model.SerializeToString(), device, session_options(1))
    error = np.linalg.norm(session.run(None, {"x": x})[0] - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 2**-10


@pytest.mark.parametrize(
    ("precision", "rtol"), [("tf32", 1e-2), ("fp16", 2e-2), ("bf16", 1e-1)]
)
@pytest.mark.parametrize("strategy", ["resident", "captured", "in-graph", "constant"])
def test_surfaces_are_near_those_of_float32(precision, rtol, strategy):
    options = {"grid": "3x3", "radius": 0.5, "samples": 300}
    model = MODELS / "digits_cnn.onnx"
    exact = ox.evaluate(model, "digits", device="cpu", **options)
    ours = ox.evaluate(
        model, "digits", device="cuda", precision=precision, strategy=strategy, **options
    )
    np.testing.assert_allclose(ours.loss, exact.loss, rtol=rtol, atol=rtol / 10)
    assert (ours.loss != exact.loss).any()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(
    "fixture",
    [
        "bag_torch_dynamo_plain",
        "cnn_torch_legacy_nofolding_eval",
        "encoder_torch_dynamo_optimized",
        "gpt_torch_legacy_nofolding",
        "lstm_torch_legacy_nofolding",
        "residual_torch_dynamo_optimized",
        "rnn_torch_legacy_looped",
        "upsample_torch_dynamo_optimized",
    ],
)
def test_networks_of_all_kinds_run_in_half(fixture, precision):
    exact = fixture_evaluation.evaluate(fixture, device="cpu")
    ours = fixture_evaluation.evaluate(fixture, device="cuda", precision=precision)
    np.testing.assert_allclose(ours.loss, exact.loss, rtol=5e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("precision", "rtol"), [("tf32", 1e-2), ("fp16", 2e-2), ("bf16", 1e-1)]
)
def test_a_deep_network_passes_its_self_tests_in_batches_larger_than_theirs(precision, rtol):
    noise = np.random.default_rng(0)
    data = noise.normal(size=(500, 3, 32, 32)).astype(np.float32), noise.integers(10, size=500)
    model, options = MODELS / "resnet20_cifar10.onnx", {"grid": "3x3", "radius": 0.5}
    exact = ox.evaluate(model, data, device="cuda", **options)
    ours = ox.evaluate(model, data, device="cuda", precision=precision, **options)
    np.testing.assert_allclose(ours.loss, exact.loss, rtol=rtol)
