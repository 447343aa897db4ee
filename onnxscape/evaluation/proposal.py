"""The proposal of a loss, where the user names none: from output, labels and last operator."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import Labels, class_axes, labels_of, of_samples, same_values
from onnxscape.data.dataset import blocks
from onnxscape.data.next_token import likeliest_tokens
from onnxscape.errors import DataError, UnsupportedModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from onnxscape.evaluation.probe import Probe

_TOLERANCE = 1e-3
"""How far from 1 a sum of probabilities may be."""


def propose(
    probe: Probe,
    labels: NDArray[Any] | None,
    arrays: Mapping[str, NDArray[Any]],
    *,
    class_axis: int | None,
    ignore_index: int,
) -> tuple[str, str]:
    """Propose a loss.

    Args:
        probe: The model's output for a few samples.
        labels: All labels of the data as they were found [n, ...]; None if there are none.
        arrays: All the data that the model is fed from, by input name [n, ...].
        class_axis: The user's axis of classes, if any.
        ignore_index: Label of positions that do not count.

    Returns:
        Name of the loss, and why it is that one.

    Raises:
        DataError: If nothing fits.
    """
    if probe.per_batch:
        return "none", "the output is one number for a whole batch"
    values = probe.values
    if _own_tokens(probe, labels, arrays, ignore_index):
        return (
            "next-token",
            "the output scores tokens, and there are no labels but the input's own",
        )
    if labels is None:
        if values.size == len(values):
            return "none", "the data has no labels, and the output is one number per sample"
        tokens = "--loss next-token if they are the input's own tokens, "
        raise DataError(
            f"{probe.samples.name} has no labels for the output {probe.output!r} "
            f"{of_samples(probe.shape)}; give them as 'y', or name a loss that takes none: "
            f"{tokens if values.ndim == 3 else ''}--loss none if the output is the loss itself"
        )
    return _by_labels(probe, labels, class_axis)


@contextmanager
def told_of_proposal(name: str, reason: str | None) -> Iterator[None]:
    """Say with each error that the loss was proposed, and what else it may be.

    Args:
        name: The loss.
        reason: Why it was proposed; None if the user named it.

    Raises:
        DataError: One that is raised inside.
        UsageError: Likewise.
        UnsupportedModelError: Likewise.
    """
    try:
        yield
    except (DataError, UsageError, UnsupportedModelError) as error:
        if reason is None:
            raise
        text = (
            f"{error} ({name} was proposed because {reason}; if that is wrong: --loss "
            f"{_OTHERS.get(labels_of(name), 'NAME')})"
        )
        raise type(error)(text) from error


_OTHERS = {
    Labels.CLASSES: "mse for values, bce-with-logits or bce for several labels at once",
    Labels.VALUES: "cross-entropy for classes",
}
"""By the labels of a loss that was proposed, what else may be meant."""


def _own_tokens(
    probe: Probe,
    labels: NDArray[Any] | None,
    arrays: Mapping[str, NDArray[Any]],
    ignore_index: int,
) -> bool:
    """Return whether tokens are scored, and the labels, if any, are the tokens themselves."""
    if probe.values.ndim != 3:
        return False
    positions, scored = probe.values.shape[1:]
    tokens = [
        name
        for name, array in probe.samples.inputs.items()
        if array.dtype.kind in "iu"
        and arrays[name].shape[1:] == (positions,)
        and arrays[name].max() < scored
    ]
    if labels is None:
        return likeliest_tokens(tokens) is not None
    return any(_are_labels(arrays[name], labels, ignore_index) for name in tokens)


def _are_labels(tokens: NDArray[Any], labels: NDArray[Any], ignore_index: int) -> bool:
    """Return whether some labels count, and all that do are the tokens at their positions."""
    if labels.shape != tokens.shape:
        return False
    some = False
    for start, block in blocks(labels):
        counts = block != ignore_index
        if (block != tokens[start : start + len(block)])[counts].any():
            return False
        some = some or bool(counts.any())
    return some


def _by_labels(probe: Probe, labels: NDArray[Any], class_axis: int | None) -> tuple[str, str]:
    values = probe.values
    shape = (len(values), *labels.shape[1:])
    if not _whole(labels):
        return "mse", "labels are no whole numbers"
    axes = class_axes(values.shape, shape)
    if axes or class_axis is not None:
        axis = axes[0] if class_axis is None else class_axis
        return _for_classes(probe, axis)
    if not same_values(values.shape, shape) or _one_hot(labels):
        return _for_classes(probe, 1)  # whose checks say what does not fit
    if np.isin(labels, (0, 1)).all():
        if probe.last == "Sigmoid" or _within_unit(values):
            return "bce", "labels are 0 and 1, the output is within 0 and 1"
        # Losses of truth values take floats in most frameworks: the type tells nothing.
        if labels.dtype.kind in "biu" or (labels.min() == 0 and labels.max() == 1):
            return "bce-with-logits", "labels are 0 and 1, the output is not within 0 and 1"
    return "mse", "labels are shaped like the output"


def _for_classes(probe: Probe, axis: int) -> tuple[str, str]:
    if probe.last == "LogSoftmax":
        return "nll", "the output is a LogSoftmax"
    if probe.last == "Softmax":
        return "log-loss", "the output is a Softmax"
    if is_log_probability(probe.values, axis):
        return "nll", "the output looks like log-probabilities"
    if is_probability(probe.values, axis):
        return "log-loss", "the output looks like probabilities"
    like = "" if _within_unit(probe.values) else ", the output looks like logits"
    return "cross-entropy", f"labels are classes{like}"


def is_probability(values: NDArray[Any], axis: int) -> bool:
    """Return whether values look like probabilities of classes.

    Args:
        values: [n, ...].
        axis: Axis of classes.

    Returns:
        Whether none is negative and their sums are 1; False if one is not finite.
    """
    if not -values.ndim <= axis < values.ndim:
        return False
    wide = values.astype(np.float64)
    sums = wide.sum(axis=axis)
    return bool((wide >= 0).all() and np.allclose(sums, 1.0, rtol=0, atol=_TOLERANCE))


def is_log_probability(values: NDArray[Any], axis: int) -> bool:
    """Return whether values look like logarithms of probabilities of classes.

    Args:
        values: [n, ...].
        axis: Axis of classes.

    Returns:
        Whether none is positive and the sums of their exponentials are 1.
    """
    wide = values.astype(np.float64)
    return bool((wide <= 0).all() and is_probability(np.exp(wide), axis))


def _within_unit(values: NDArray[Any]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _whole(labels: NDArray[Any]) -> bool:
    if labels.dtype.kind in "biu":
        return True
    wide = labels.astype(np.float64)
    return bool((np.trunc(wide) == wide).all())


def _one_hot(labels: NDArray[Any]) -> bool:
    """Return whether each sample has exactly one 1 in two or more columns."""
    return (
        labels.ndim == 2
        and labels.shape[1] > 1
        and bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())
    )
