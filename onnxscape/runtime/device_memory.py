"""How much memory is left: a GPU's, as its driver says, or the machine's."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnxscape.runtime.devices import Device

DRIVERS = ("libcuda.so.1", "nvcuda.dll")
"""Names of NVIDIA's driver library."""


def cuda_driver() -> Any | None:
    """Return NVIDIA's driver library, ready to be asked; None where there is none."""
    for library in DRIVERS:
        with contextlib.suppress(OSError):
            driver = ctypes.CDLL(library)
            if driver.cuInit(0) == 0:
                return driver
    return None


def available_memory() -> int | None:
    """Return how many bytes of the machine's memory new work may take.

    Returns:
        The number; None where nobody can tell.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def free_memory(device: Device) -> int | None:
    """Return how many bytes of a GPU's memory are free.

    Args:
        device: The device.

    Returns:
        The number; None where nobody can tell, or the device is the CPU.
    """
    if device.kind != "cuda":
        return None
    driver = cuda_driver()
    if driver is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with _context(driver, device.index) as there:
        if there and driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0:
            return free.value
    return None


@contextlib.contextmanager
def _context(driver: Any, index: int) -> Iterator[bool]:
    """Enter the context that ONNX Runtime uses on a GPU.

    Yields:
        Whether that worked.
    """
    gpu, context = ctypes.c_int(), ctypes.c_void_p()
    if (
        driver.cuDeviceGet(ctypes.byref(gpu), index) != 0
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), gpu) != 0
    ):
        yield False
        return
    try:
        entered = driver.cuCtxPushCurrent_v2(context) == 0
        yield entered
        if entered:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(gpu)
