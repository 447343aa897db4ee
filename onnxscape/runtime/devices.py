"""Devices: which one computes, and whether it is really there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime as ort

from onnxscape.errors import DeviceError, UsageError
from onnxscape.runtime import openvino
from onnxscape.runtime.device_memory import cuda_driver
from onnxscape.runtime.sessions import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CUDA_OPTIONS = {
    # Without this ONNX Runtime computes float32 convolutions in TF32 (10 bits of mantissa).
    "use_tf32": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "do_copy_in_default_stream": "1",
}


_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": openvino.PROVIDER,
}
"""By kind of device, what ONNX Runtime calls what computes there."""

HEADS_APART = frozenset({"openvino", "provider"})
"""Kinds of devices whose providers need not compute float64 in float64."""

_PRECISIONS = {
    "fp32": ("cpu", "cuda", "openvino", "provider"),
    "tf32": ("cuda",),
    "fp16": ("cuda",),
    "bf16": ("cuda", "openvino"),
    "native": ("cpu", "cuda", "provider"),
}
"""The kinds of devices that compute in each precision."""

_FLAGS = {
    "cpu": "--device cpu",
    "cuda": "--device cuda (an NVIDIA GPU)",
    "openvino": "--device openvino (an Intel processor)",
    "provider": "--provider NAME",
}


@dataclass(frozen=True, slots=True)
class Device:
    """A place to compute, and the arithmetic there.

    Attributes:
        kind: `cpu`, `cuda`, `openvino`, or `provider` for any other.
        index: Which of several.
        name: Type of the processor, e.g. `NVIDIA H100 80GB HBM3`.
        precision: One of `onnxscape.core.execution.PRECISIONS`.
        other: Name of the provider of a `provider`.
    """

    kind: str
    index: int
    name: str
    precision: str = "fp32"
    other: str = ""

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of what computes there."""
        return self.other or _PROVIDERS[self.kind]

    @property
    def memory(self) -> tuple[str, int]:
        """Where its buffers lie, as ONNX Runtime names it."""
        return ("cuda", self.index) if self.kind == "cuda" else ("cpu", 0)

    @property
    def graph_precision(self) -> str:
        """The precision that graphs are written in for it; OpenVINO narrows by itself."""
        return "fp32" if self.kind == "openvino" else self.precision

    def providers(
        self, settings: Mapping[str, str] | None = None
    ) -> list[str | tuple[str, dict[str, Any]]]:
        """Return what `InferenceSession` takes.

        Args:
            settings: Options of the provider besides our own; a CPU has none.

        Returns:
            The providers; none for a plugin, which is named in the session's options.
        """
        if self.kind == "cpu":
            return [self.provider]
        if self.kind == "openvino":
            return []
        if self.kind == "provider":
            return list(dict.fromkeys([self.provider, "CPUExecutionProvider"]))
        options = {"device_id": str(self.index), **_CUDA_OPTIONS}
        if self.precision == "tf32":
            options["use_tf32"] = "1"
        return [(self.provider, {**options, **(settings or {})}), "CPUExecutionProvider"]

    @property
    def exact_softmax(self) -> bool:
        """Whether LogSoftmax of float64 is computed in float64: CUDA sums in float32."""
        return self.kind != "cuda"

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.other or self.kind


def find_device(
    wanted: str = "auto", *, precision: str = "fp32", provider: str | None = None
) -> Device:
    """Find a device and make sure that ONNX Runtime can use it.

    Args:
        wanted: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:N` or `openvino`.
        precision: Arithmetic of the forward pass.
        provider: Name of any other execution provider, instead of a device.

    Returns:
        The device.

    Raises:
        DeviceError: If it is not there, not usable, or does not compute in the precision.
        UsageError: If both a device and a provider are named.
    """
    kind, index = _asked(wanted, provider)
    if provider is not None:
        return _in_precision(_of_provider(provider), precision)
    if kind == "cpu":
        return _in_precision(_cpu(), precision)
    if kind == "openvino":
        openvino.processors()
        return _in_precision(Device("openvino", 0, _processor()), precision)
    gpus = _driver_gpus()
    problem = _cuda_problem(index, gpus)
    if problem is None:
        return _in_precision(Device("cuda", index, gpus[index]), precision)
    if kind == "auto":
        return _in_precision(_cpu(), precision, f", since {problem}")
    raise DeviceError(f"--device {wanted} cannot be used: {problem}; or use --device cpu")


def provider_of(wanted: str = "auto", provider: str | None = None) -> str | None:
    """Return ONNX Runtime's name of what is asked for, whether it is there or not.

    Args:
        wanted: A device as `find_device` takes it.
        provider: Name of a provider, instead of a device.

    Returns:
        The name, as a plan records it; None if any will do.

    Raises:
        DeviceError: If there is no such device.
        UsageError: If both a device and a provider are named.
    """
    kind, _ = _asked(wanted, provider)
    return provider or _PROVIDERS.get(kind)


def _asked(wanted: str, provider: str | None) -> tuple[str, int]:
    """Return the kind of device that is asked for, or `auto`, and which of several.

    Raises:
        DeviceError: If there is no such device.
        UsageError: If both a device and a provider are named.
    """
    match = re.fullmatch(r"auto|cpu|openvino|cuda(?::(\d{1,3}))?", wanted)
    if match is None:
        raise DeviceError(
            f"expected --device auto, cpu, openvino, cuda or cuda:N, got {wanted!r}"
        )
    if provider is not None and wanted != "auto":
        raise UsageError(
            f"expected --device or --provider, got --device {wanted} and --provider "
            f"{provider}; leave one out"
        )
    return wanted.partition(":")[0], int(match[1] or 0)


def device_of(provider: str) -> tuple[str, str | None]:
    """Return how a provider is asked for.

    Args:
        provider: ONNX Runtime's name, as a plan records it.

    Returns:
        What `find_device` takes: a device, and a provider if that is needed.
    """
    for kind, name in _PROVIDERS.items():
        if name == provider:
            return kind, None
    return "auto", provider


def _in_precision(device: Device, precision: str, why: str = "") -> Device:
    """Return a device that computes in a precision.

    Raises:
        DeviceError: If it does not.
    """
    places = _PRECISIONS.get(precision, ())
    if device.kind not in places:
        raise DeviceError(
            f"--precision {precision} is computed with "
            f"{' or '.join(_FLAGS[kind] for kind in places)} only, and this run is on "
            f"{device}{why}; use one of these, or --precision fp32"
        )
    return replace(device, precision=precision)


def _of_provider(name: str) -> Device:
    """Return the device of an execution provider that has no name of its own here.

    Raises:
        DeviceError: If ONNX Runtime does not have it, cannot start it, or knows it by the name
            of a device.
    """
    own, _ = device_of(name)
    if own != "auto":
        raise DeviceError(f"--provider {name} is asked for with --device {own}")
    there = ort.get_available_providers()
    if name not in there:
        others = [other for other in there if device_of(other)[0] == "auto"]
        raise DeviceError(
            f"ONNX Runtime {ort.__version__} has no --provider {name!r}, only "
            f"{', '.join(others) or 'those of --device'}; install a build of it that has"
        )
    # What goes wrong with it is raised; it would be written to stderr as well.
    ort.set_default_logger_severity(4)
    device = Device("provider", 0, _processor(), other=name)
    problem = _provider_problem(device)
    if problem is not None:
        raise DeviceError(
            f"--provider {name} cannot be used: {problem}; install what it needs, or use "
            "--device cpu"
        )
    return device


def _provider_problem(device: Device) -> str | None:
    """Return why a provider cannot be used; None if it can."""
    try:
        session = ort.InferenceSession(
            _tiny_model(), _silent(), providers=device.providers(), enable_fallback=False
        )
    except Exception as error:  # noqa: BLE001 - its exceptions share no base class but this
        return f"ONNX Runtime could not start it ({first_line(error)})"
    there = device.provider in session.get_providers()
    return None if there else "ONNX Runtime could not load its libraries"


def usable_cores() -> int:
    """Return how many processor cores this process may use (affinity, container limit)."""
    cores = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _cpu() -> Device:
    return Device("cpu", 0, _processor())


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cuda_problem(index: int, gpus: Sequence[str]) -> str | None:
    """Return why one of the driver's GPUs cannot be used; None if it can."""
    if not gpus:
        return "no NVIDIA driver or GPU was found on this machine"
    if index >= len(gpus):
        return f"this machine has {len(gpus)} GPU(s), the first is cuda:0"
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "the installed onnxruntime is built for the CPU only; install onnxruntime-gpu"
    # It writes a warning for every session on CUDA; what goes wrong is raised.
    ort.set_default_logger_severity(4)
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(None):
            ort.preload_dlls()
    try:
        session = ort.InferenceSession(
            _tiny_model(),
            _silent(),
            providers=Device("cuda", index, "").providers(),
            enable_fallback=False,
        )
    except Exception as error:  # noqa: BLE001 - its exceptions share no base class but this
        return f"ONNX Runtime could not start CUDA there ({first_line(error)})"
    if "CUDAExecutionProvider" not in session.get_providers():
        return "ONNX Runtime could not load the CUDA libraries; pip install 'onnxscape[cuda]'"
    return None


def _driver_gpus() -> list[str]:
    """Ask the driver itself: ONNX Runtime lists CUDA even where there is none.

    Returns:
        Names of the GPUs, in the driver's order; none without a driver.
    """
    driver, count = cuda_driver(), ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_gpu_name(driver, index) for index in range(count.value)]


def _gpu_name(driver: ctypes.CDLL, index: int) -> str:
    gpu, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    known = driver.cuDeviceGet(ctypes.byref(gpu), index) == 0
    if known and driver.cuDeviceGetName(name, len(name), gpu) == 0:
        return name.value.decode(errors="replace")
    return f"CUDA GPU {index}"


def _silent() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def _tiny_model() -> bytes:
    helper = onnx.helper
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    opset = helper.make_opsetid("", 13)
    model: bytes = helper.make_model(
        graph, opset_imports=[opset], ir_version=8
    ).SerializeToString()
    return model
