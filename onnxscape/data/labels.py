"""Labels of any numeric type, checked and brought to the type the loss wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.dataset import first_where
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def class_labels(
    labels: NDArray[Any],
    *,
    classes: int | None,
    name: str,
    positions: int | None = None,
    ignore_index: int | None = None,
    chosen: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Read labels as class numbers: all are checked, the chosen ones are returned.

    Args:
        labels: Integers, truth values, or floats with integral values [n, ...positions].
        classes: Number of classes of the model, where known.
        name: Name of the data, for messages.
        positions: Number of axes of positions, see `match_positions`; None if not known yet:
            labels then keep the shape they have.
        ignore_index: Class number of positions that do not count; it need not be a class.
        chosen: Indices of the samples wanted; None for all.

    Returns:
        int64 [samples, ...positions].

    Raises:
        DataError: If a label is no class number, or the shape does not fit `positions`.
    """
    if positions is not None:
        labels = match_positions(labels, positions, classes=classes, name=name)
    if labels.dtype.kind not in "biu":
        _check_whole(labels, name)
    _check_range(labels, classes, ignore_index, name)
    taken = labels if chosen is None else labels[chosen]
    return taken.astype(np.int64, order="C", copy=False)


def match_positions(
    labels: NDArray[Any], positions: int, *, name: str, classes: int | None = None
) -> NDArray[Any]:
    """Bring class labels to one axis of samples and a known number of axes of positions.

    One axis too many is dropped if it is the second or the last one, and of size 1: a column
    of labels [n, 1], or label images with a channel [n, 1, height, width].

    Args:
        labels: [n, ...].
        positions: Axes that the model's output has besides those of samples and of classes:
            0 for one label per sample, 1 for sequences, 2 for label images.
        name: Name of the data, for messages.
        classes: Number of classes of the model, where known.

    Returns:
        The labels [n, ...positions], a view.

    Raises:
        DataError: If they have other axes.
    """
    shape = labels.shape
    if len(shape) == positions + 1:
        return labels
    if len(shape) == positions + 2:
        without = {
            shape[:axis] + shape[axis + 1 :]
            for axis in (1, len(shape) - 1)
            if shape[axis] == 1
        }
        if len(without) == 1:
            return labels.reshape(without.pop())
    if positions:
        wanted = f"class labels [samples, and {positions} axes of positions]"
    else:
        wanted = f"one class label per sample, shape [{shape[0]}] or [{shape[0]}, 1]"
    hint = ""
    if len(shape) == positions + 2 and classes in {None, shape[1], shape[-1]}:
        axis = len(shape) - 1 if classes in {None, shape[-1]} else 1
        hint = f"; one-hot labels become classes by numpy.argmax(y, axis={axis})"
    raise DataError(f"expected {wanted}, got {list(shape)} in {name}{hint}")


def _check_whole(labels: NDArray[Any], name: str) -> None:
    def fraction(block: NDArray[Any]) -> NDArray[np.bool_]:
        values = block.astype(np.float64)
        # Above 2**53 not every integer is a float64; no model has such a class.
        whole: NDArray[np.bool_] = (np.abs(values) < 2**53) & (np.trunc(values) == values)
        return ~whole

    found = first_where(labels, fraction)
    if found is not None:
        at, count = found
        raise DataError(
            f"expected whole numbers as class labels in {name}, got {float(labels[at]):g} at "
            f"index {_index(at)} ({count} such labels)"
        )


def _check_range(
    labels: NDArray[Any], classes: int | None, ignore_index: int | None, name: str
) -> None:
    upper = np.iinfo(np.int64).max if classes is None else classes - 1

    def outside(block: NDArray[Any]) -> NDArray[np.bool_]:
        values = block if block.dtype.kind in "biu" else block.astype(np.float64)
        wrong: NDArray[np.bool_] = (values < 0) | (values > upper)
        return wrong if ignore_index is None else wrong & (values != ignore_index)

    found = first_where(labels, outside)
    if found is None:
        return
    at, count = found
    worst = int(labels[at])
    allowed = "not below 0" if classes is None else f"in 0..{upper}"
    if ignore_index is not None:
        allowed += f", or {ignore_index} to be ignored,"
    hint = (
        "" if worst >= 0 else f", and --ignore-index {worst} leaves out those that are {worst}"
    )
    raise DataError(
        f"expected class labels {allowed} in {name}, got {worst} at index {_index(at)} "
        f"({count} such label{'s' if count > 1 else ''}); labels count from 0{hint}"
    )


def float_targets(
    labels: NDArray[Any], *, name: str, chosen: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Read labels as values that a model is to hit: all are checked, the chosen returned.

    Args:
        labels: Numbers [n, ...].
        name: Name of the data, for messages.
        chosen: Indices of the samples wanted; None for all.

    Returns:
        float32 [samples, ...].

    Raises:
        DataError: If a target is not finite as float32.
    """
    found = first_where(labels, lambda block: ~np.isfinite(_as_float32(block)))
    if found is not None:
        at, count = found
        raise DataError(
            f"expected finite targets in {name}, got {labels[at]} at labels{list(at)} "
            f"({count} such values)"
        )
    return _as_float32(labels if chosen is None else labels[chosen])


def sample_weights(
    weights: NDArray[Any], *, name: str, chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Read how much each sample counts: all are checked, the chosen ones are returned.

    Args:
        weights: Numbers [n].
        name: Name of the data, for messages.
        chosen: Indices of the samples wanted.

    Returns:
        float64 [samples], finite, none negative, not all zero.

    Raises:
        DataError: If they are anything else.
    """
    if weights.ndim != 1:
        raise DataError(
            f"expected 'sample_weight' of {name} with one number per sample, got shape "
            f"{list(weights.shape)}"
        )
    values = weights.astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if wrong.size:
        raise DataError(
            f"expected finite numbers that are not negative in 'sample_weight' of {name}, got "
            f"{values[wrong[0]]:g} at index {wrong[0]} ({wrong.size} such)"
        )
    taken: NDArray[np.float64] = values[chosen]
    if not taken.any():
        raise DataError(
            f"'sample_weight' of {name} is 0 for all {len(taken)} samples used: none counts; "
            "use more with --samples, or leave samples of no weight out"
        )
    return taken


def _as_float32(labels: NDArray[Any]) -> NDArray[np.float32]:
    if labels.dtype == np.float32:
        return np.ascontiguousarray(labels, dtype=np.float32)
    with np.errstate(over="ignore"):
        return labels.astype(np.float64).astype(np.float32, order="C")


def _index(at: tuple[int, ...]) -> str:
    return str(at[0]) if len(at) == 1 else str(list(at))
