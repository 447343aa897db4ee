"""Losses: their names, what labels they take, and what can be said about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Labels(StrEnum):
    """What the labels of a loss are."""

    CLASSES = "classes"
    """int64 class numbers, one per sample or one per position of a sample."""
    VALUES = "values"
    """float32 values, as many per sample as the output has."""
    NONE = "none"
    """The loss takes no labels."""
    ANY = "any"
    """Whatever the data holds: a loss given as a graph says what it wants."""


LABELS_OF: dict[str, Labels] = {
    "cross-entropy": Labels.CLASSES,
    "nll": Labels.CLASSES,
    "log-loss": Labels.CLASSES,
    "next-token": Labels.CLASSES,
    "bce-with-logits": Labels.VALUES,
    "bce": Labels.VALUES,
    "mse": Labels.VALUES,
    "mae": Labels.VALUES,
    "huber": Labels.VALUES,
    "none": Labels.NONE,
}
"""Name of each built-in loss to what its labels are."""

CUSTOM = "custom"
"""Name of a loss that is given as a graph; the spec holds the digest of its file."""

IGNORE_INDEX = -100
"""Class number of positions that do not count, where nothing else is said (torch's)."""

ACCURACY, TOP5, ERROR, CLAMPED = "accuracy", "top5", "error", "clamped"

SMALLEST_PROBABILITY = 1e-45
"""What a probability is raised to before its logarithm: less than the smallest float32."""


def labels_of(loss: str) -> Labels:
    """Return what the labels of a loss are.

    Args:
        loss: One of `LABELS_OF`, or `CUSTOM`.
    """
    return LABELS_OF.get(loss, Labels.ANY)


def metrics_of(loss: str) -> tuple[str, ...]:
    """Return the built-in metrics that a loss has besides `CLAMPED`.

    Args:
        loss: One of `LABELS_OF`, or `CUSTOM`.
    """
    if labels_of(loss) is Labels.CLASSES:
        return (ACCURACY, TOP5, ERROR)
    return (ACCURACY, ERROR) if loss in {"bce", "bce-with-logits"} else ()


def is_fraction(metric: str) -> bool:
    """Return whether a built-in metric lies between 0 and 1.

    Args:
        metric: Name of a metric.
    """
    return metric in {ACCURACY, TOP5, ERROR}


def is_clamped(loss: str) -> bool:
    """Return whether a loss is a logarithm of probabilities that can underflow to 0.

    Args:
        loss: One of `LABELS_OF`, or `CUSTOM`.
    """
    return loss in {"log-loss", "bce"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss with all that its graph depends on.

    Attributes:
        name: One of `LABELS_OF`, or `CUSTOM`.
        output: Name of the model's output that it is computed from.
        shape: Shape of that output for one sample.
        class_axis: Axis of the output that counts classes (the batch's is 0); None where
            there are no classes.
        ignore_index: Class number of positions that do not count.
        label_smoothing: Share of the uniform distribution in the labels of `cross-entropy`.
        huber_delta: Where `huber` goes from square to straight.
        per_batch: Whether the output of `none` is one number for a whole batch.
        label_type: Element type of the labels of `CUSTOM`; None where the name tells it.
        metrics: Names of the metrics besides the loss.
    """

    name: str
    output: str
    shape: tuple[int, ...] = ()
    class_axis: int | None = None
    ignore_index: int = IGNORE_INDEX
    label_smoothing: float = 0.0
    huber_delta: float = 1.0
    per_batch: bool = False
    label_type: np.dtype[Any] | None = None
    metrics: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes of a loss that has a class axis."""
        return 1 if self.class_axis is None else self.shape[self.class_axis - 1]

    @property
    def positions(self) -> int:
        """Number of positions of a sample that each have a class."""
        return prod(self.shape) // self.classes

    def counted(self, labels: NDArray[np.generic] | None) -> NDArray[np.float64] | None:
        """Return how many positions of each sample count.

        Args:
            labels: The samples' labels [n, ...].

        Returns:
            float64 [n]; None where every sample counts once.
        """
        if labels is None or self.class_axis is None:
            return None
        counted = np.count_nonzero(
            labels.reshape(len(labels), -1) != self.ignore_index, axis=1
        )
        return None if (counted == 1).all() else counted.astype(np.float64)


def of_samples(shape: Sequence[int]) -> str:
    """Return the shape of any number of samples, for people.

    Args:
        shape: That of one sample.

    Returns:
        For instance `[N, 10]`.
    """
    return f"[{', '.join(['N', *map(str, shape)])}]"


def class_axes(output: Sequence[int], labels: Sequence[int]) -> list[int]:
    """Find the axes of an output that can count classes.

    Without such an axis the output has the labels' shape; axes of size 1 do not matter unless
    they decide between several.

    Args:
        output: Shape of the output [batch, ...].
        labels: Shape of the labels [batch, ...].

    Returns:
        All that fit, from left to right; none of them is 0.
    """
    fitting = []
    for axis in range(1, len(output)):
        rest = [size for at, size in enumerate(output) if at not in {0, axis}]
        if output[axis] > 1 and _without_ones(rest) == _without_ones(labels[1:]):
            fitting.append((axis, rest == list(labels[1:])))
    exact = [axis for axis, is_exact in fitting if is_exact]
    return exact or [axis for axis, _ in fitting]


def same_values(output: Sequence[int], labels: Sequence[int]) -> bool:
    """Return whether labels are values for an output.

    Args:
        output: Shape of the output [batch, ...].
        labels: Shape of the labels [batch, ...].

    Returns:
        True if the shapes are equal but for axes of size 1, or if one of them is flat and
        has as many values per sample.
    """
    ours, theirs = _without_ones(output[1:]), _without_ones(labels[1:])
    return ours == theirs or (min(len(ours), len(theirs)) == 1 and prod(ours) == prod(theirs))


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]
