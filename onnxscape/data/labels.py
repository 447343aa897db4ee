"""Labels of any numeric type, checked and brought to the type the loss wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT_TARGETS = frozenset({"mse"})
"""Losses whose labels are values to be hit; for all others labels are classes."""


def class_labels(labels: NDArray[Any], *, classes: int | None, name: str) -> NDArray[np.int64]:
    """Read labels as class numbers.

    Args:
        labels: Integers, or floats with integral values; [samples] or [samples, 1].
        classes: Number of classes of the model, where known.
        name: Name of the data, for messages.

    Returns:
        int64 [samples].

    Raises:
        DataError: If a label is no class number, or there is not one label per sample.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        hint = ""
        if labels.ndim == 2 and (classes is None or labels.shape[1] == classes):
            hint = "; one-hot labels become classes by numpy.argmax(y, axis=1)"
        raise DataError(
            f"expected one class label per sample, shape [{len(labels)}] or "
            f"[{len(labels)}, 1], got {list(labels.shape)} in {name}{hint}"
        )
    if labels.dtype.kind not in "biu":
        as_float = labels.astype(np.float64)
        # Above 2**53 not every integer is a float64; no model has such a class.
        wrong = np.flatnonzero(
            ~((np.abs(as_float) < 2**53) & (np.trunc(as_float) == as_float))
        )
        if wrong.size:
            raise DataError(
                f"expected whole numbers as class labels in {name}, got "
                f"{as_float[wrong[0]]:g} at index {wrong[0]} ({wrong.size} such labels)"
            )
    upper = np.iinfo(np.int64).max if classes is None else classes - 1
    wrong = np.flatnonzero((labels < 0) | (labels > upper))
    if wrong.size:
        allowed = "not below 0" if classes is None else f"in 0..{upper}"
        raise DataError(
            f"expected class labels {allowed} in {name}, got {int(labels[wrong[0]])} at index "
            f"{wrong[0]} ({wrong.size} such label{'s' if wrong.size > 1 else ''}); labels "
            "count from 0"
        )
    return labels.astype(np.int64)


def float_targets(labels: NDArray[Any], *, name: str) -> NDArray[np.float32]:
    """Read labels as values a regression model is to hit.

    Args:
        labels: Numbers [samples, ...].
        name: Name of the data, for messages.

    Returns:
        float32, same shape.

    Raises:
        DataError: If a target is not finite as float32.
    """
    with np.errstate(over="ignore"):
        targets = labels.astype(np.float64).astype(np.float32)
    wrong = np.argwhere(~np.isfinite(targets))
    if wrong.size:
        at = tuple(int(i) for i in wrong[0])
        raise DataError(
            f"expected finite targets in {name}, got {labels[at]} at labels{list(at)} "
            f"({len(wrong)} such values)"
        )
    return targets
