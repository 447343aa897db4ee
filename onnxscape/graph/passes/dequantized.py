"""The float values of quantized tensors: (q - zero point) * scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def along(array: NDArray[Any] | None, rank: int, axis: int) -> NDArray[np.float32] | None:
    """Return a scale or zero point so that it broadcasts against the quantized tensor.

    Args:
        array: A single number, one per index of an axis, or already of the tensor's rank.
        rank: Rank of the tensor.
        axis: The axis that an array of one dimension belongs to.

    Returns:
        float32; None if there is none.
    """
    if array is None:
        return None
    array = array.astype(np.float32)
    if array.ndim == 1 and array.size > 1:
        shape = [1] * rank
        shape[axis] = array.size
        return array.reshape(shape)
    return array.reshape(()) if array.size == 1 else array


def dequantized(
    quantized: NDArray[Any],
    scale: NDArray[Any] | None,
    zero_point: NDArray[Any] | None,
    axis: int,
) -> NDArray[np.float32]:
    """Return the values of a tensor that is quantized as a whole or along one axis.

    Args:
        quantized: Integers.
        scale: One number, or one per index of `axis`; None for 1.
        zero_point: Likewise; None for 0.
        axis: The axis.

    Returns:
        float32, shaped like the integers.
    """
    values = quantized.astype(np.float32)
    offset = along(zero_point, values.ndim, axis)
    factor = along(scale, values.ndim, axis)
    if offset is not None:
        values -= offset
    if factor is not None:
        values *= factor
    return values


def unpacked(packed: NDArray[Any], bits: int, count: int) -> NDArray[np.uint8]:
    """Return small unsigned integers that share bytes, the lowest bits first.

    Args:
        packed: uint8 [..., bytes].
        bits: Bits per integer: 1, 2, 4 or 8.
        count: Integers wanted of the last axis.

    Returns:
        uint8 [..., count].
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    spread = (packed.view(np.uint8)[..., None] >> shifts) & np.uint8(2**bits - 1)
    return spread.reshape(*packed.shape[:-1], -1)[..., :count]


def blockwise(
    packed: NDArray[Any],
    scales: NDArray[Any],
    zero_points: NDArray[Any] | None,
    *,
    shape: tuple[int, int],
    bits: int,
    block: int,
) -> NDArray[np.float32]:
    """Return the weight of a MatMulNBits.

    Args:
        packed: uint8 [N, blocks, bytes per block].
        scales: N * blocks numbers.
        zero_points: As many, packed by row, or floats; None for the middle of the range.
        shape: [N, K].
        bits: Bits per element.
        block: Elements of a row that share a scale.

    Returns:
        float32 [N, K].
    """
    rows, columns = shape
    blocks = math.ceil(columns / block)
    values = unpacked(packed.reshape(rows, blocks, -1), bits, block).astype(np.float32)
    if zero_points is None:
        values -= np.float32(2 ** (bits - 1))
    elif zero_points.dtype == np.uint8:
        values -= unpacked(zero_points.reshape(rows, -1), bits, blocks)[..., None]
    else:
        values -= zero_points.astype(np.float32).reshape(rows, blocks, 1)
    values *= scales.astype(np.float32).reshape(rows, blocks, 1)
    return np.ascontiguousarray(values.reshape(rows, -1)[:, :columns])
