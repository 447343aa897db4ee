"""From raw values to what a model is fed: scale, mean and std, and the model's own type."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.dataset import Preprocessing, blocks
from onnxscape.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscape.core.samples import TensorSignature
    from onnxscape.data.layout import Arrangement

_RAW = Preprocessing()


def resolve(
    default: Preprocessing | None,
    *,
    scale: str | float | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Preprocessing:
    """Combine a data set's defaults with what the user says.

    A mean and std belong to the scale they were computed after: with another `scale` than the
    default one, the default mean and std are off.

    Args:
        default: The data set's own; None where values are used as they are.
        scale: `raw` (values stay), `unit` (divided by 255), or a number to divide by.
        mean: One number, or one per channel, in units after scaling; replaces the default.
        std: Likewise.

    Returns:
        What is to be done.

    Raises:
        UsageError: If the scale is none of these.
        DataError: If a mean is not finite, or a std is not a positive number.
    """
    default = default or _RAW
    divisor = default.scale if scale is None else _divisor(scale)
    if divisor != default.scale:
        default = _RAW
    return Preprocessing(
        scale=divisor,
        mean=default.mean if mean is None else _numbers("mean", mean, positive=False),
        std=default.std if std is None else _numbers("std", std, positive=True),
    )


def _divisor(scale: str | float) -> float:
    if scale in {"raw", "unit"}:
        return {"raw": 1.0, "unit": 255.0}[str(scale)]
    try:
        value = float(scale)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(
            f"expected --scale raw, unit or a positive number to divide by, got {scale!r}"
        )
    return value


def _numbers(option: str, values: Sequence[float], *, positive: bool) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in np.atleast_1d(np.asarray(values, np.float64)))
    kind = "positive numbers" if positive else "numbers"
    if not numbers or not all(
        math.isfinite(value) and (value > 0 or not positive) for value in numbers
    ):
        raise DataError(
            f"expected --{option} as {kind}, one or one per channel, got {list(numbers)}"
        )
    return numbers


def apply(
    values: NDArray[Any],
    arrangement: Arrangement,
    preprocessing: Preprocessing,
    signature: TensorSignature,
    *,
    field: str,
) -> NDArray[Any]:
    """Preprocess the chosen samples and lay them out for the model.

    Arithmetic is float64, rounded once to the model's type; it is done in pieces, so that the
    memory needed is that of the result.

    Args:
        values: Raw samples [n, ...].
        arrangement: How a sample is brought to the model's shape.
        preprocessing: What is done to the values.
        signature: The model's input.
        field: Name of the array, for messages.

    Returns:
        C-contiguous array [n, ...] of the model's type; `values` itself if nothing is to do.

    Raises:
        DataError: If mean or std have a wrong length, or values do not fit the model's type.
    """
    if not _is_number(signature.dtype):
        raise DataError(
            f"model input {signature.quoted} wants {signature.dtype}; expected numbers"
        )
    steps = [
        _per_channel(option, numbers, arrangement, field)
        for option, numbers in (("mean", preprocessing.mean), ("std", preprocessing.std))
    ]
    plain = preprocessing == _RAW
    if not plain and not is_floating(signature.dtype):
        raise DataError(
            f"model input {signature.quoted} takes whole numbers; --scale, --mean and --std "
            "cannot be used with it"
        )
    shape = (len(values), *arrangement.shape)
    if plain and arrangement.order is None and values.dtype == signature.dtype:
        return np.ascontiguousarray(values).reshape(shape)
    result = np.empty(shape, dtype=signature.dtype)
    for start, block in blocks(values):
        piece = block.reshape(len(block), *arrangement.view)
        if not plain:
            piece = piece.astype(np.float64)
            piece /= preprocessing.scale
            piece -= steps[0]
            piece /= steps[1]
        if arrangement.order is not None:
            piece = piece.transpose(0, *(axis + 1 for axis in arrangement.order))
        out = result[start : start + len(block)]
        _cast(piece.reshape(out.shape), out, f"{field!r} for model input {signature.quoted}")
    return result


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Return whether a type holds fractions; bfloat16 and its like do.

    Args:
        dtype: Type of a model's input.

    Returns:
        True for floating point types.
    """
    return dtype.kind == "f" or "float" in dtype.name


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" or "float" in dtype.name or "int" in dtype.name


def _per_channel(
    option: str, numbers: tuple[float, ...] | None, arrangement: Arrangement, field: str
) -> NDArray[np.float64]:
    # Shaped to be broadcast against [n, *arrangement.view].
    view = arrangement.view
    neutral = 0.0 if option == "mean" else 1.0
    values = np.asarray((neutral,) if numbers is None else numbers, dtype=np.float64)
    if values.size == 1:
        return values.reshape((1,) * (len(view) + 1))
    axes = {0, len(view) - 1} if view else set()
    if arrangement.channel_axis is not None:
        axes = {arrangement.channel_axis}
    fitting = [axis for axis in sorted(axes) if view[axis] == values.size]
    if len(fitting) > 1:
        raise DataError(
            f"--{option} has {values.size} numbers, and samples of {field!r} "
            f"{list(view)} could have their channels first or last; say which with "
            "--layout NCHW or NHWC"
        )
    if not fitting:
        known = arrangement.channel_axis
        channels = "1 number"
        if known is not None and view[known] > 1:
            channels = f"1 or {view[known]} numbers"
        raise DataError(
            f"expected {channels} for --{option} with samples of {field!r} "
            f"{list(view)}, got {values.size}"
        )
    shape = [1] * (len(view) + 1)
    shape[fitting[0] + 1] = values.size
    return values.reshape(shape)


def _cast(piece: NDArray[Any], out: NDArray[Any], what: str) -> None:
    # Values that change by more than rounding would be another data set.
    with np.errstate(over="ignore", invalid="ignore"):
        out[...] = piece.astype(out.dtype)
        if is_floating(out.dtype):
            bad = ~np.isfinite(out)
        elif piece.dtype != out.dtype:
            # Equal after the round trip, and of the same sign: nothing was cut or wrapped.
            bad = (out.astype(piece.dtype) != piece) | ((out < 0) != (piece < 0))
        else:
            return
    if bad.any():
        first = piece[tuple(np.argwhere(bad)[0])]
        raise DataError(
            f"values of {what} do not fit its type {out.dtype}: for instance {first}"
        )
