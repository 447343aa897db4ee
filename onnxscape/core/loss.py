"""Losses: their names, what labels they take, and what can be said about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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

IGNORE_INDEX = -100
"""Class number of positions that do not count, where nothing else is said (torch's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss and its options, as it is part of the spec.

    Attributes:
        name: One of `LABELS_OF`, or the sha256 (hex) of a loss given as a graph.
        output: Name of the model's output that it is computed from.
        class_axis: Axis of that output that counts classes; None where there is none.
        ignore_index: Class number of positions that do not count; None if all count.
        label_smoothing: Share of the uniform distribution in the labels of `cross-entropy`.
        huber_delta: Where `huber` goes from square to straight.
    """

    name: str
    output: str
    class_axis: int | None = None
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    huber_delta: float = 1.0
