"""Sessions of ONNX Runtime, made the same way everywhere."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from onnxscape.errors import (
    DeviceError,
    OnnxscapeError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from onnxscape.runtime import openvino

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from onnxscape.runtime.devices import Device

_NO_MEMORY = re.compile(
    r"out of memory|failed to allocate memory|bad_alloc|CUDNN_STATUS_\w*ALLOC\w*_FAILED"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUBLAS failure 3\b|available memory of",
    re.IGNORECASE,
)
"""What the arena, CUDA, cuDNN and cuBLAS say where memory is short."""

_CUDA_FAILURE = re.compile(r"(?:CUDA|CUBLAS|CUDNN) failure \d+: [^;]*")

_CRASHING = ("FuseFp16InitializerToFp32NodeTransformer",)
"""Optimizations of ONNX Runtime that end the process (1.31): this one does for some models in
float16, where an operator has no kernel for it."""


def session_options(threads: int) -> ort.SessionOptions:
    """Return the options that every session starts from.

    Args:
        threads: Threads within one operator.

    Returns:
        Sequential execution, and silence: what goes wrong is raised.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # What stands between DequantizeLinear and QuantizeLinear is computed as written. Else
    # ONNX Runtime would quantize constant float weights there by itself, and round each step.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_session(
    model: bytes | Path,
    device: Device,
    options: ort.SessionOptions,
    *,
    settings: Mapping[str, str] | None = None,
    disabled: Sequence[str] = (),
) -> ort.InferenceSession:
    """Open a session on a device, without falling back to another.

    Args:
        model: Bytes of a model, or its path where it has external data.
        device: Where it runs.
        options: From `session_options`.
        settings: Options of the device's provider, besides the device's own.
        disabled: Names of optimizations to leave out.

    Returns:
        The session.

    Raises:
        UnsupportedModelError: If ONNX Runtime refuses the model.
        OutOfMemoryError: If the device has not enough memory.
        DeviceError: If the session does not run on the device.
    """
    source = str(model) if isinstance(model, Path) else model
    try:
        if device.kind == "openvino":
            openvino.add_to(options, device.precision)
        # By itself it would print what is wrong with a device, and go on with the CPU.
        session = ort.InferenceSession(
            source,
            options,
            # A plugin is named in the options, and nowhere else.
            providers=device.providers(settings) or None,
            enable_fallback=False,
            disabled_optimizers=[*_CRASHING, *disabled],
        )
    except DeviceError:
        raise
    except Exception as error:  # its exceptions share no base class but this
        _refuse_without_memory(error)
        raise UnsupportedModelError(
            f"ONNX Runtime {ort.__version__} refuses the model: {first_line(error)}"
        ) from error
    if device.provider not in session.get_providers():
        raise DeviceError(
            f"ONNX Runtime did not run the model on {device}: it offers "
            f"{', '.join(session.get_providers())}; use --device cpu"
        )
    return session


def run(
    session: ort.InferenceSession, outputs: list[str], feeds: Mapping[str, NDArray[np.generic]]
) -> list[NDArray[Any]]:
    """Run a session.

    Args:
        session: The session.
        outputs: Names of the outputs wanted.
        feeds: Arrays by input name.

    Returns:
        The outputs.

    Raises:
        OutOfMemoryError: If the device has not enough memory.
        UnsupportedModelError: If the model fails on these inputs.
    """
    try:
        results: list[NDArray[Any]] = session.run(outputs, dict(feeds))
    except Exception as error:
        _refuse_without_memory(error)
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        raise UnsupportedModelError(
            f"the model fails on inputs {shapes}: {first_line(error)}"
        ) from error
    return results


def run_bound(
    session: ort.InferenceSession,
    binding: ort.IOBinding,
    options: ort.RunOptions | None = None,
) -> None:
    """Run a session on what is bound to it.

    Args:
        session: The session.
        binding: Inputs and outputs.
        options: Of the run.

    Raises:
        OutOfMemoryError: If the device has not enough memory.
        UnsupportedModelError: If the model fails on these inputs.
    """
    try:
        session.run_with_iobinding(binding, options)
    except Exception as error:
        _refuse_without_memory(error)
        raise UnsupportedModelError(f"the model fails: {first_line(error)}") from error


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Within it, what ONNX Runtime raises becomes an error of ours.

    Copies between host and device, and bindings, fail in other ways than runs do.

    Yields:
        Nothing.

    Raises:
        OutOfMemoryError: If memory was short.
        UnsupportedModelError: If anything else failed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OnnxscapeError):
            raise
        _refuse_without_memory(error)
        # Its exceptions share no base class; some are plain ones of Python.
        own = type(error).__module__.startswith("onnxruntime")
        if own or type(error) is RuntimeError:
            raise UnsupportedModelError(
                f"ONNX Runtime {ort.__version__} fails: {first_line(error)}"
            ) from error
        raise


def _refuse_without_memory(error: Exception) -> None:
    """Pass on that memory is short, in our words, if that is what an error says.

    Raises:
        OutOfMemoryError: If it is.
    """
    if is_out_of_memory(error):
        raise OutOfMemoryError(
            f"the device has not enough memory for such a batch ({first_line(error)}); use a "
            "smaller --batch-size"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether ONNX Runtime, or CUDA in it, found no memory.

    Args:
        error: What ONNX Runtime raised.
    """
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def first_line(error: BaseException) -> str:
    """Return what an exception of ONNX Runtime says, on one line of readable length.

    Args:
        error: The exception. Of a failure of CUDA only what CUDA said is returned, without the
            places in ONNX Runtime's source around it.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    said = _CUDA_FAILURE.search(text)
    if said:
        text = said[0].strip()
    return text if len(text) <= 300 else text[:299] + "…"
