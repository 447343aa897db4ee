from __future__ import annotations

import os
from pathlib import Path

import onnxruntime as ort
import pytest

from onnxscape.errors import DeviceError, UsageError
from onnxscape.runtime import devices
from onnxscape.runtime.devices import Device, device_of, find_device, usable_cores


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


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "native"])
def test_a_gpu_uses_tf32_only_if_asked_to(gpus, monkeypatch, precision):
    gpus(1)
    monkeypatch.setattr(devices, "_cuda_problem", lambda _index, _gpus: None)

    def tf32(device):
        return device.providers({"enable_cuda_graph": "1"})[0][1]["use_tf32"]

    assert tf32(find_device("cuda", precision=precision)) == "0"
    assert tf32(find_device("auto", precision="tf32")) == "1"


@pytest.mark.parametrize(
    ("precision", "where"),
    [
        ("tf32", r"with --device cuda \(an NVIDIA GPU\) only"),
        ("fp16", r"with --device cuda \(an NVIDIA GPU\) only"),
        ("bf16", r"with --device cuda .* or --device openvino \(an Intel processor\) only"),
    ],
)
def test_a_precision_that_the_cpu_lacks_is_refused_with_where_it_is(gpus, precision, where):
    gpus(0)
    with pytest.raises(DeviceError, match=rf"--precision {precision} is .*{where}.*fp32"):
        find_device("cpu", precision=precision)
    with pytest.raises(DeviceError, match="this run is on cpu, since no NVIDIA driver"):
        find_device("auto", precision=precision)


def test_another_provider_is_a_device_with_buffers_on_the_cpu(monkeypatch):
    there = ["DnnlExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    monkeypatch.setattr(devices, "_provider_problem", lambda _device: None)
    device = find_device(provider="DnnlExecutionProvider", precision="native")
    assert device.provider == str(device) == "DnnlExecutionProvider"
    assert device.providers() == there
    assert device.memory == ("cpu", 0)
    assert not device.name.startswith("Dnnl")


def test_a_provider_that_does_not_start_is_an_error_with_the_reason(monkeypatch):
    there = ["DnnlExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)

    def session(*_arguments, providers, **_options):
        assert providers == there
        raise RuntimeError("libdnnl.so\nis missing")

    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.raises(DeviceError, match=r"Dnnl.*not start it \(libdnnl.so is missing\)"):
        find_device(provider="DnnlExecutionProvider")


def test_an_unknown_provider_is_refused_with_those_there_are(monkeypatch):
    there = ["DnnlExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    with pytest.raises(
        DeviceError, match=r"no --provider 'Dnnl', only DnnlExecutionProvider;"
    ):
        find_device(provider="Dnnl")


@pytest.mark.parametrize("kind", ["cpu", "cuda", "openvino"])
def test_a_provider_with_a_device_of_its_own_is_asked_for_by_that(kind):
    provider = Device(kind, 0, "").provider
    with pytest.raises(DeviceError, match=f"asked for with --device {kind}"):
        find_device(provider=provider)
    assert device_of(provider) == (kind, None)


def test_a_provider_besides_a_device_is_refused():
    with pytest.raises(UsageError, match="got --device cpu and --provider X; leave one out"):
        find_device("cpu", provider="X")


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
