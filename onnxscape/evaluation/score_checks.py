"""Checks of a loss against the scores, values and labels that it is to be computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import of_samples, same_values
from onnxscape.errors import DataError, UsageError
from onnxscape.evaluation.proposal import is_log_probability, is_probability

if TYPE_CHECKING:
    from onnxscape.core.loss import Loss
    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.probe import Probe

_SLACK = 1e-6
"""How far above 1 rounding may carry a probability."""


def check_classes(loss: Loss, samples: Samples) -> None:
    """Check that labels are classes of the output, and that some count.

    Args:
        loss: A loss of classes.
        samples: All samples.

    Raises:
        DataError: If they are not.
    """
    labels = np.asarray(samples.labels)
    counts = labels != loss.ignore_index
    wrong = np.argwhere(counts & ((labels < 0) | (labels >= loss.classes)))
    if len(wrong):
        raise DataError(
            f"label {int(labels[tuple(wrong[0])])} of sample {int(wrong[0][0])} is out of "
            f"range: the output {loss.output!r} has {loss.classes} classes, so labels go from "
            f"0 to {loss.classes - 1}"
        )
    weights = np.ones(len(samples)) if samples.weights is None else samples.weights
    if not (counts.reshape(len(labels), -1).any(axis=1) & (weights > 0)).any():
        raise DataError(
            f"no label counts: all of {samples.name} are {loss.ignore_index} or have weight 0"
        )


def check_scores(loss: Loss, probe: Probe, observer: Observer) -> None:
    """Say if a loss of classes is given something else than it takes.

    Args:
        loss: A loss of classes.
        probe: The model's outputs for a few samples.
        observer: Told of what looks odd.

    Raises:
        UsageError: If it cannot mean anything.
    """
    values = probe.values[np.isfinite(probe.values)]
    axis = loss.class_axis or 1
    name = f"the output {loss.output!r}"
    if loss.name in {"cross-entropy", "next-token"}:
        if is_probability(probe.values, axis):
            observer.warning(
                f"{name} looks like probabilities (rows sum to 1), {loss.name} takes logits: "
                "use --loss log-loss, or export the model without its last softmax"
            )
    elif loss.name == "nll":
        if values.size and values.max() > _SLACK:
            raise UsageError(
                f"nll takes log-probabilities, {name} has {values.max():.4g} above 0; for "
                "logits use --loss cross-entropy, for probabilities log-loss"
            )
        if not is_log_probability(probe.values, axis):
            observer.warning(
                f"{name} does not look like log-probabilities: the exponentials of its rows "
                "do not sum to 1; for logits use --loss cross-entropy"
            )
    else:
        _check_unit(values, name, "log-loss", "cross-entropy")
        if not is_probability(probe.values, axis):
            observer.warning(
                f"{name} does not look like probabilities of classes: its rows do not sum to 1"
            )


def _check_unit(values: Any, name: str, loss: str, other: str) -> None:
    if values.size and (values.min() < -_SLACK or values.max() > 1.0 + _SLACK):
        raise UsageError(
            f"{loss} takes probabilities, {name} has values from {values.min():.4g} to "
            f"{values.max():.4g}; for logits use --loss {other}"
        )


def _values(loss: Loss) -> str:
    number = int(np.prod(loss.shape))
    return f"{number} target value{'s' if number > 1 else ''}"


def check_values(loss: Loss, probe: Probe, samples: Samples, observer: Observer) -> None:
    """Check that labels are values for the output.

    Args:
        loss: A loss of values.
        probe: The model's outputs for a few samples.
        samples: All samples.
        observer: Told of what looks odd.

    Raises:
        DataError: If they have another shape, or are no probabilities.
        UsageError: If the output cannot be meant for this loss.
    """
    labels = np.asarray(samples.labels)
    shape = (len(probe.values), *labels.shape[1:]) if not probe.per_batch else labels.shape
    if not probe.per_batch and not same_values(probe.values.shape, shape):
        raise DataError(
            f"expected {_values(loss)} per sample for the output "
            f"{loss.output!r} {of_samples(loss.shape)}, the data's labels have "
            f"{int(np.prod(labels.shape[1:]))}: {of_samples(labels.shape[1:])}"
        )
    if loss.name not in {"bce", "bce-with-logits"}:
        return
    if labels.min() < 0 or labels.max() > 1:
        raise DataError(
            f"{loss.name} takes labels from 0 to 1, {samples.name} has {labels.min():.4g} to "
            f"{labels.max():.4g}"
        )
    values = probe.values[np.isfinite(probe.values)]
    if loss.name == "bce":
        _check_unit(values, f"the output {loss.output!r}", "bce", "bce-with-logits")
    elif probe.last == "Sigmoid":
        observer.warning(
            f"the output {loss.output!r} comes from a Sigmoid, bce-with-logits takes logits: "
            "use --loss bce"
        )
