from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort
import pytest

from onnxscape.errors import DeviceError
from onnxscape.runtime import devices
from onnxscape.runtime.devices import Device, find_device, usable_cores


@pytest.fixture
def gpus(monkeypatch):
    """Sets how many GPUs the driver reports."""
    return lambda count: monkeypatch.setattr(devices, "_driver_gpus", lambda: ["GPU"] * count)


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cuda:x", "cpu:1", "", "cuda:-1"])
def test_an_unknown_device_is_refused_with_the_known_ones(name):
    with pytest.raises(
        DeviceError, match=f"auto, cpu, openvino, cuda or cuda:N, got {name!r}"
    ):
        find_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_an_absent_gpu_is_an_error_that_says_what_to_do(gpus, name):
    gpus(0)
    with pytest.raises(DeviceError, match=f"--device {name} cannot.*no NVIDIA.*--device cpu"):
        find_device(name)


def test_a_gpu_beyond_the_last_is_an_error(gpus):
    gpus(2)
    with pytest.raises(DeviceError, match=r"has 2 GPU\(s\), the first is cuda:0"):
        find_device("cuda:2")


def test_a_runtime_without_cuda_is_an_error(gpus, monkeypatch):
    gpus(1)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="built for the CPU only; install onnxruntime-gpu"):
        find_device("cuda")


def test_auto_takes_the_cpu_where_there_is_no_gpu(gpus):
    gpus(0)
    device = find_device("auto")
    assert device == find_device("cpu")
    assert (str(device), device.providers()) == ("cpu", ["CPUExecutionProvider"])
    assert device.name


def test_a_gpu_computes_in_full_float32():
    device = Device("cuda", 1, "GPU")
    ((provider, options), fallback) = device.providers()
    assert (provider, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["device_id"] == "1"
    assert options["use_tf32"] == "0"
    assert str(device) == "cuda:1"


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _path: "max 100000")
    assert usable_cores() == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2), ("50000", 1), ("99900000", 3)])
def test_a_containers_quota_limits_the_cores(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _path: f"{quota} 100000\n")
    assert usable_cores() == cores


def test_a_gpu_that_cannot_be_started_is_an_error_with_the_reason(gpus, monkeypatch, capsys):
    def refuse(*_arguments, **options):
        assert options["enable_fallback"] is False
        raise RuntimeError(
            "/src/cuda_call.cc:146\nCUDA failure 2: out of memory ; GPU=0 ; line=1"
        )

    gpus(1)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "set_default_logger_severity", lambda _severity: None)
    monkeypatch.setattr(ort, "InferenceSession", refuse)
    with pytest.raises(DeviceError, match=r"\(CUDA failure 2: out of memory\).*--device cpu"):
        find_device("cuda")
    assert find_device("auto").kind == "cpu"
    assert capsys.readouterr().out == ""
