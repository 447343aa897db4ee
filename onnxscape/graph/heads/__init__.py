"""Heads: nodes grafted behind a model that compute the loss and metrics of each sample.

All is computed in float64, since far from the minimum a float32 log-softmax saturates. Each
sample's value leaves the graph, so that sums do not depend on how samples are batched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.loss import (
    CLAMPED,
    CUSTOM,
    LABELS_OF,
    Labels,
    Loss,
    labels_of,
)
from onnxscape.core.statistics import Over
from onnxscape.errors import UnsupportedModelError, UsageError
from onnxscape.graph.heads.builder import LABELS, Builder
from onnxscape.graph.heads.classes import class_results
from onnxscape.graph.heads.custom import custom_result, labels_input, read_custom
from onnxscape.graph.heads.values import own_loss, value_results

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from onnxscape.graph.model_file import ModelFile

__all__ = [
    "LABELS",
    "LossHead",
    "Result",
    "graft_heads",
    "labels_input",
    "read_custom",
]

_LABEL_TYPES: dict[Labels, np.dtype[np.generic]] = {
    Labels.CLASSES: np.dtype(np.int64),
    Labels.VALUES: np.dtype(np.float32),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One value of each sample that leaves the graph.

    Attributes:
        name: `loss`, or the name of a metric.
        tensor: The graph's output, float64 [batch, 1].
        over: What the mean over all samples is taken over.
    """

    name: str
    tensor: str
    over: Over


@dataclass(frozen=True, slots=True)
class LossHead:
    """What grafted heads take and give.

    Attributes:
        loss: What is computed.
        label_type: Element type of the input `LABELS`; None if there is none.
        results: What leaves the graph, the loss first.
        reads: The model's own outputs that they are computed from, the loss's first.
    """

    loss: Loss
    label_type: np.dtype[np.generic] | None
    results: tuple[Result, ...]
    reads: tuple[str, ...]


def graft_heads(
    model: ir.Model,
    loss: Loss,
    custom: Mapping[str, ModelFile] | None = None,
    *,
    exact_softmax: bool = True,
) -> LossHead:
    """Graft a loss and its metrics behind a model.

    Args:
        model: Canonical model; changed in place: it gets the input `LABELS`, if the loss or a
            metric takes labels, and an output per result besides its own.
        loss: The loss and metrics.
        custom: Graphs by the name of the metric, or `loss`.
        exact_softmax: Whether LogSoftmax of float64 is computed in float64 where it will run.

    Returns:
        What the heads take and give.

    Raises:
        UsageError: If the loss or a metric is not known.
        UnsupportedModelError: If the model has no such output, or a custom graph does not fit.
    """
    custom = custom or {}
    outputs = {str(value.name): value for value in model.graph.outputs}
    if loss.output not in outputs:
        raise UnsupportedModelError(
            f"the model has no output {loss.output!r}, only {', '.join(outputs)}"
        )
    head = Builder(model.graph, exact_softmax=exact_softmax)
    label_type = _label_type(loss, custom, tuple(outputs))
    labels = None if label_type is None else head.input(LABELS, label_type)
    values = _own_results(head, outputs[loss.output], labels, loss)
    values |= {
        name: custom_result(head, file, outputs, labels) for name, file in custom.items()
    }
    unknown = [name for name in ("loss", *loss.metrics) if name not in values]
    if unknown:
        raise UsageError(f"the loss {loss.name} has no {', '.join(unknown)}")
    results = tuple(
        Result(name, head.output(values[name], name), _over(name, loss, custom))
        for name in ("loss", *loss.metrics)
    )
    asked = [signature.name for file in custom.values() for signature in file.inputs]
    reads = dict.fromkeys([loss.output, *(name for name in asked if name in outputs)])
    return LossHead(loss, label_type, results, tuple(reads))


def _own_results(
    head: Builder, output: ir.Value, labels: ir.Value | None, loss: Loss
) -> dict[str, ir.Value]:
    """Return the results of a built-in loss; none for one that is given as a graph.

    Raises:
        UsageError: If the loss is not known, or there are no labels for it.
    """
    if loss.name == CUSTOM:
        return {}
    if loss.name not in LABELS_OF:
        raise UsageError(f"the loss {loss.name!r} is not known")
    if labels_of(loss.name) is Labels.NONE:
        return own_loss(head, output, loss)
    if labels is None:
        raise UsageError(f"the loss {loss.name} needs labels")
    if labels_of(loss.name) is Labels.CLASSES:
        return class_results(head, output, labels, loss)
    return value_results(head, output, labels, loss)


def _label_type(
    loss: Loss, custom: Mapping[str, ModelFile], outputs: tuple[str, ...]
) -> np.dtype[np.generic] | None:
    if labels_of(loss.name) in _LABEL_TYPES:
        return _LABEL_TYPES[labels_of(loss.name)]
    if any(labels_input(file, outputs) for file in custom.values()):
        return loss.label_type
    return None


def _over(name: str, loss: Loss, custom: Mapping[str, ModelFile]) -> Over:
    if name == CLAMPED:
        return Over.TOTAL
    return Over.SAMPLES if name in custom or loss.class_axis is None else Over.POSITIONS
