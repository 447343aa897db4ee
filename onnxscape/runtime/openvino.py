"""OpenVINO: Intel's way to compute on its processors, as a plugin of ONNX Runtime."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import onnxruntime as ort

from onnxscape.errors import DeviceError

PROVIDER = "OpenVINOExecutionProvider"
"""What the plugin calls itself."""

PLUGIN = "onnxruntime_ep_openvino"
"""The package that it comes in."""

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""By precision, what OpenVINO is told; told nothing it takes bfloat16 where that is fast."""

_REGISTERED_AS = "onnxscape.openvino"

_LONG = 1.0
"""Seconds per point above which making its session, about a tenth of a second, is little."""


def installed() -> bool:
    """Return whether the plugin is there."""
    return importlib.util.find_spec(PLUGIN) is not None


def processors() -> list[Any]:
    """Return the processors that the plugin computes on.

    Returns:
        ONNX Runtime's descriptions of them, at least one.

    Raises:
        DeviceError: If the plugin is not installed, cannot be loaded, or finds none.
    """
    if not installed():
        raise DeviceError(
            "--device openvino needs a plugin of ONNX Runtime that is not installed: "
            "pip install 'onnxscape[openvino]'; or use --device cpu"
        )
    _register()
    found = [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == PROVIDER and device.device.type == ort.OrtHardwareDeviceType.CPU
    ]
    if not found:
        raise DeviceError(
            "--device openvino cannot be used: the OpenVINO plugin offers no device on this "
            "processor (it supports Intel's); use --device cpu"
        )
    return found


def add_to(options: ort.SessionOptions, precision: str) -> None:
    """Make sessions run on the processor by OpenVINO.

    Args:
        options: Of the session; its threads are passed on.
        precision: `fp32` or `bf16`.
    """
    config = {"INFERENCE_PRECISION_HINT": HINTS[precision]}
    if options.intra_op_num_threads > 0:
        config["INFERENCE_NUM_THREADS"] = str(options.intra_op_num_threads)
    options.add_provider_for_devices(
        processors()[:1], {"load_config": json.dumps({"CPU": config})}
    )


def advice(seconds_per_point: float) -> str | None:
    """Return what would make a run on this processor faster.

    Args:
        seconds_per_point: What a point takes on the CPU.

    Returns:
        A line for people; None if there is nothing to say.
    """
    if seconds_per_point < _LONG or not _has_amx():
        return None
    install = "" if installed() else "pip install 'onnxscape[openvino]' and "
    return (
        f"this processor has AMX: {install}--device openvino --precision bf16 would be "
        "several times faster"
    )


def _has_amx() -> bool:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return "amx_bf16" in line.split()
    return False


@functools.cache
def _register() -> None:
    """Load the plugin into this process; a second time that would be an error.

    Raises:
        DeviceError: If it cannot be loaded.
    """
    try:
        library = importlib.import_module(PLUGIN).get_library_path()
        ort.register_execution_provider_library(_REGISTERED_AS, library)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise DeviceError(
            f"--device openvino cannot be used: ONNX Runtime {ort.__version__} cannot load "
            f"the OpenVINO plugin ({reason}); install versions of both that fit: "
            "pip install -U 'onnxscape[openvino]'"
        ) from error
