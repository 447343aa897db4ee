"""Devices: which one computes, and whether it is really there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime as ort

from onnxscape.errors import DeviceError
from onnxscape.runtime.device_memory import cuda_driver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CUDA_OPTIONS = {
    # Without this ONNX Runtime computes float32 convolutions in TF32 (10 bits of mantissa).
    "use_tf32": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "do_copy_in_default_stream": "1",
}


@dataclass(frozen=True, slots=True)
class Device:
    """A place to compute.

    Attributes:
        kind: `cpu` or `cuda`.
        index: Which of several.
        name: Type of the processor, e.g. `NVIDIA H100 80GB HBM3`.
    """

    kind: str
    index: int
    name: str

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of what computes there."""
        return "CUDAExecutionProvider" if self.kind == "cuda" else "CPUExecutionProvider"

    @property
    def memory(self) -> tuple[str, int]:
        """Where its buffers lie, as ONNX Runtime names it."""
        return ("cuda", self.index) if self.kind == "cuda" else ("cpu", 0)

    def providers(
        self, settings: Mapping[str, str] | None = None
    ) -> list[str | tuple[str, dict[str, Any]]]:
        """Return what `InferenceSession` takes.

        Args:
            settings: Options of the provider besides our own; a CPU has none.
        """
        if self.kind == "cpu":
            return [self.provider]
        options = {"device_id": str(self.index), **_CUDA_OPTIONS, **(settings or {})}
        return [(self.provider, options), "CPUExecutionProvider"]

    @property
    def exact_softmax(self) -> bool:
        """Whether LogSoftmax of float64 is computed in float64: CUDA sums in float32."""
        return self.kind == "cpu"

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def find_device(wanted: str = "auto") -> Device:
    """Find a device and make sure that ONNX Runtime can use it.

    Args:
        wanted: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.

    Returns:
        The device.

    Raises:
        DeviceError: If it is not there, or not usable.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,3}))?", wanted)
    if match is None:
        raise DeviceError(f"expected --device auto, cpu, cuda or cuda:N, got {wanted!r}")
    if wanted == "cpu":
        return _cpu()
    index = int(match.group(1) or 0)
    gpus = _driver_gpus()
    problem = _cuda_problem(index, gpus)
    if problem is None:
        return Device("cuda", index, gpus[index])
    if wanted == "auto":
        return _cpu()
    raise DeviceError(f"--device {wanted} cannot be used: {problem}; or use --device cpu")


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
        return f"ONNX Runtime could not start CUDA there ({_cuda_failure(error)})"
    if "CUDAExecutionProvider" not in session.get_providers():
        return "ONNX Runtime could not load the CUDA libraries; pip install 'onnxscape[cuda]'"
    return None


def _cuda_failure(error: Exception) -> str:
    """Return what CUDA said, without the places in ONNX Runtime's source around it."""
    text = " ".join(str(error).split())
    said = re.search(r"CUDA failure \d+: [^;]*", text)
    return said[0].strip() if said else text[:300]


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
