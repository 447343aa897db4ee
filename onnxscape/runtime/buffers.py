"""Memory on a device: arrays, room for arrays, and parts of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.runtime.devices import Device


def buffer(array: NDArray[Any], device: Device) -> ort.OrtValue:
    """Return an array on a device; on the CPU it is the array itself."""
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), *device.memory)


def empty_buffer(shape: tuple[int, ...], dtype: np.dtype[Any], device: Device) -> ort.OrtValue:
    """Return room for an array on a device."""
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype.type, *device.memory)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A part of a buffer that is a tensor of its own.

    Attributes:
        whole: The buffer, a vector.
        start: Where the part starts, in elements.
        shape: Of the tensor.
        dtype: Of both.
    """

    whole: ort.OrtValue
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def address(self) -> int:
        """Where it lies in the device's memory."""
        return int(self.whole.data_ptr()) + self.start * self.dtype.itemsize


def bind(
    binding: ort.IOBinding, name: str, value: ort.OrtValue | View, device: Device
) -> None:
    """Bind what lies on a device to an input; the binding does not keep it.

    Args:
        binding: The binding.
        name: The input.
        value: What is bound to it.
        device: Where it lies.
    """
    if isinstance(value, View):
        binding.bind_input(
            name, *device.memory, value.dtype.type, list(value.shape), value.address
        )
    else:
        binding.bind_ortvalue_input(name, value)
