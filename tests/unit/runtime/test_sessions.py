from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxscape.errors import DeviceError, OutOfMemoryError, UnsupportedModelError
from onnxscape.runtime.devices import Device, find_device
from onnxscape.runtime.sessions import (
    failures_told,
    first_line,
    open_session,
    run,
    session_options,
)


@pytest.fixture
def model(dense_model):
    return dense_model(np.eye(3), np.zeros(3)).SerializeToString()


def session(model):
    return open_session(model, find_device("cpu"), session_options(1))


def test_a_session_computes(model):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (out,) = run(session(model), ["out"], {"x": x})
    assert np.array_equal(out, x)


def test_a_session_reads_a_model_from_a_path(model, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model)
    x = np.ones((1, 3), dtype=np.float32)
    assert np.array_equal(run(session(path), ["out"], {"x": x})[0], x)


def test_a_model_that_the_runtime_refuses_is_one_line(model):
    proto = onnx.load_from_string(model)
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(UnsupportedModelError, match=r"refuses the model: .*NoSuchOp") as error:
        session(proto.SerializeToString())
    assert "\n" not in str(error.value)


def test_a_model_that_fails_on_its_inputs_is_one_line(model):
    with pytest.raises(UnsupportedModelError, match=r"fails on inputs x \[2, 4\]") as error:
        run(session(model), ["out"], {"x": np.zeros((2, 4), dtype=np.float32)})
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("without_gpus")
def test_a_session_never_falls_back_to_another_device(model):
    with pytest.raises(DeviceError, match="did not run the model on cuda:0"):
        open_session(model, Device("cuda", 0, "GPU"), session_options(1))


@pytest.mark.parametrize(
    "said",
    [
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: the resource allocation failed ; expr=cublasCreate(&handle);",
        "CUDNN failure 5000: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "Failed to allocate memory for requested buffer of size 9",
    ],
)
def test_whatever_says_that_memory_is_short_is_told_as_such(said):
    where = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 " * 9
    told = re.escape(said.split(" ;", maxsplit=1)[0])
    with (
        pytest.raises(OutOfMemoryError, match=rf"{told}.*a smaller --batch-size"),
        failures_told(),
    ):
        raise RuntimeError(f"{where} {said}" if "failure" in said else said)


def test_whatever_else_the_runtime_raises_is_one_line():
    with (
        pytest.raises(UnsupportedModelError, match=r"ONNX Runtime .* fails: a b") as error,
        failures_told(),
    ):
        raise RuntimeError("a\nb")
    assert "\n" not in str(error.value)


def test_our_own_mistakes_stay_what_they_are():
    with pytest.raises(KeyError), failures_told():
        raise KeyError("x")


def test_long_messages_are_cut():
    text = first_line(RuntimeError("a\nb  c " + "x" * 1000))
    assert text.startswith("a b c xxx")
    assert len(text) == 300


def test_an_empty_message_names_the_error():
    assert first_line(KeyError()) == "KeyError"


def test_float_weights_between_quantized_activations_stay_floats(make_model):
    # By default ONNX Runtime would round such a weight to 8 bits when it is a constant.
    rng = np.random.default_rng(0)
    w = np.float32(0.05 * rng.standard_normal((6, 5, 1)))
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"]),
        helper.make_node("Conv", ["f", "w"], ["g"]),
        helper.make_node("QuantizeLinear", ["g", "t", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "t", "z"], ["y"]),
    ]
    step = 0.004
    model = make_model(
        nodes,
        {"x": ["n", 5, 4]},
        {"y": ["n", 6, 4]},
        {"w": w, "s": np.float32(0.03), "t": np.float32(step), "z": np.uint8(128)},
        types={"x": onnx.TensorProto.UINT8},
    )
    x = rng.integers(0, 255, (20, 5, 4)).astype(np.uint8)
    (y,) = run(session(model.SerializeToString()), ["y"], {"x": x})
    exact = np.einsum("oi,nit->not", w[:, :, 0].astype(float), (x - 128.0) * 0.03)
    exact = np.clip(exact, -128 * step, 127 * step)
    np.testing.assert_allclose(y, exact, atol=0.501 * step)
