"""What a GPU computes, where there is one; the truth is the CPU's, or float64 arithmetic."""

from __future__ import annotations

from pathlib import Path

import fixture_evaluation
import numpy as np
import pytest
from fixture_observer import Recorder
from onnx import helper

import onnxscape as ox
from onnxscape.errors import DeviceError
from onnxscape.runtime import bound_batches, devices
from onnxscape.runtime.device_memory import free_memory
from onnxscape.runtime.devices import find_device
from onnxscape.runtime.sessions import open_session, session_options
from onnxscape.runtime.strategies import STRATEGIES

pytestmark = pytest.mark.gpu

MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="module")
def gpu():
    try:
        return find_device("cuda")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def evaluate(gpu):
    """Returns what evaluates digits on the GPU and on the CPU, and gives both landscapes."""

    def run(model, data="digits", **options):
        return [ox.evaluate(model, data, device=d, **options) for d in (str(gpu), "cpu")]

    return run


def test_a_gpu_that_is_there_is_taken_by_auto_under_its_own_name(gpu):
    assert find_device("auto") == gpu
    assert "CUDA GPU" not in gpu.name


@pytest.mark.parametrize("operator", ["Conv", "MatMul"])
def test_float32_is_not_rounded_to_tf32(gpu, make_model, operator):
    noise = np.random.default_rng(0)
    x, w = noise.normal(size=(2, 512, 512)).astype(np.float32)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    if operator == "Conv":  # of kernels of one pixel, which is a product, too
        x, w = x[:, :, None, None], np.ascontiguousarray(w.T)[:, :, None, None]
        exact = exact[:, :, None, None]
    model = make_model(
        [helper.make_node(operator, ["x", "w"], ["out"])],
        {"x": x.shape},
        {"out": exact.shape},
        {"w": w},
    )
    session = open_session(model.SerializeToString(), gpu, session_options(1))
    error = np.linalg.norm(session.run(None, {"x": x})[0] - exact) / np.linalg.norm(exact)
    assert error < 1e-5  # TF32 is off by 3e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_surfaces_are_the_cpus(evaluate, strategy):
    ours, expected = evaluate(
        MODELS / "digits_cnn.onnx", grid="5x5", strategy=strategy, samples=300
    )
    np.testing.assert_allclose(ours.loss, expected.loss, rtol=1e-4)
    np.testing.assert_allclose(
        ours.surfaces["loss_stderr"], expected.surfaces["loss_stderr"], rtol=1e-3
    )
    assert np.abs(ours.surfaces["accuracy"] - expected.surfaces["accuracy"]).max() <= 1 / 300


def test_a_gpu_tells_how_much_of_its_memory_is_free(gpu):
    assert 2**20 < free_memory(gpu) < 2**40


def test_samples_that_do_not_fit_are_copied_batch_by_batch(evaluate, monkeypatch):
    monkeypatch.setattr(bound_batches, "free_memory", lambda _device: 1000)
    ours, expected = evaluate(
        MODELS / "digits_cnn.onnx", grid="3x3", strategy="resident", batch_size=64, samples=300
    )
    np.testing.assert_allclose(ours.loss, expected.loss, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 64, 300, 512])
def test_the_batch_size_does_not_matter(gpu, batch):
    losses = [
        ox.evaluate(
            MODELS / "digits_cnn.onnx",
            "digits",
            grid="3x3",
            device=str(gpu),
            samples=300,
            batch_size=size,
        ).loss
        for size in (batch, 100)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("diagonal", "finite"), [((1, 1), True), ((1e38, 1), False), ((-1e38, 1), False)]
)
def test_losses_that_are_not_finite_are_the_cpus(evaluate, dense_model, diagonal, finite):
    model = dense_model(np.diag(diagonal), [0.0, 0.0])
    x = np.array([[100.0, 1.0], [50.0, 2.0]], dtype=np.float32)
    ours, expected = evaluate(model, (x, np.array([0, 0])), grid="3")
    assert np.isfinite(expected.loss[1]) == finite
    np.testing.assert_allclose(ours.loss, expected.loss, rtol=1e-6, atol=1e-15)


def test_a_batch_that_the_arena_has_no_room_for_is_halved(gpu, monkeypatch):
    options = {"grid": "3x3", "device": str(gpu), "samples": 1024}
    noise = np.random.default_rng(0)
    data = (
        noise.normal(size=(1024, 3, 32, 32)).astype(np.float32),
        noise.integers(10, size=1024),
    )
    model = MODELS / "resnet20_cifar10.onnx"
    expected = ox.evaluate(model, data, **options)
    assert expected.plan.batch == 1024
    small = {**devices._CUDA_OPTIONS, "gpu_mem_limit": str(100 << 20)}
    monkeypatch.setattr(devices, "_CUDA_OPTIONS", small)
    for strategy in ("resident", "captured"):
        observer = Recorder()
        ours = ox.evaluate(model, data, strategy=strategy, observer=observer, **options)
        assert 1 < ours.plan.batch < 1024
        assert any("does not fit into the memory" in text for text in observer.warnings)
        np.testing.assert_allclose(ours.loss, expected.loss, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["resident", "captured"])
def test_points_that_take_fewer_samples_take_them_on_a_gpu_as_well(evaluate, strategy):
    for some in ({"samples": "auto", "stderr": 0.05}, {"samples": 1024, "two_level": 128}):
        ours, expected = evaluate(
            MODELS / "digits_cnn.onnx", grid="5x5", strategy=strategy, **some
        )
        np.testing.assert_allclose(ours.loss, expected.loss, rtol=1e-4)
        used = (landscape.surfaces["samples_used"] for landscape in (ours, expected))
        np.testing.assert_array_equal(*used)


@pytest.mark.parametrize("batch", [None, 16])
def test_samples_that_see_each_other_are_evaluated_in_the_batches_of_the_run(gpu, batch):
    fixture = "block_quantized_dynamic"
    ours = fixture_evaluation.evaluate(fixture, device=str(gpu), batch_size=batch)
    size = ours.plan.batch
    expected = fixture_evaluation.evaluate(fixture, device="cpu", batch_size=size)
    np.testing.assert_allclose(ours.loss, expected.loss, rtol=5e-3)


def test_an_interrupted_run_goes_on_with_the_plan_it_began(gpu, tmp_path):
    model, options = MODELS / "digits_cnn.onnx", {"grid": "5x5", "out": tmp_path / "s.h5"}
    with pytest.raises(KeyboardInterrupt):
        ox.evaluate(
            model,
            "digits",
            device=str(gpu),
            strategy="captured",
            batch_size=100,
            observer=Recorder(7),
            **options,
        )
    observer = Recorder()
    continued = ox.evaluate(model, "digits", observer=observer, **options)
    assert len(observer.points) < 25
    assert continued.complete
    plan = continued.plan
    assert (plan.provider, plan.strategy) == ("CUDAExecutionProvider", "captured")
    assert plan.batch == 100
    whole = ox.evaluate(
        model, "digits", grid="5x5", device=str(gpu), strategy="captured", batch_size=100
    )
    assert np.array_equal(continued.loss, whole.loss)
