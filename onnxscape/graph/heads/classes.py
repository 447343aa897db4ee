"""Losses of class scores: cross-entropy, its relatives, and the metrics that go with them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.core.loss import ACCURACY, CLAMPED, ERROR, SMALLEST_PROBABILITY, TOP5

if TYPE_CHECKING:
    from onnxscape.core.loss import Loss
    from onnxscape.graph.heads.builder import Builder


def class_results(
    head: Builder, output: ir.Value, labels: ir.Value, loss: Loss
) -> dict[str, ir.Value]:
    """Compute a loss of class scores and its metrics.

    A position whose scores hold a NaN has no loss, nor a softmax where they hold an infinity:
    ONNX Runtime's LogSoftmax of float64 gives finite numbers for a NaN on the CPU, and other
    ones than CUDA's for an infinity. Where the loss is not finite no class was found: an
    arg-max over NaN hits by accident.

    Args:
        head: Where nodes are added.
        output: The model's output; its batch axis is the first.
        labels: int64 [batch, ...positions].
        loss: The loss.

    Returns:
        `loss` and all metrics of class losses, float64 [batch, 1]: sums over the sample's
        positions that count; `CLAMPED` is 1 where any of them was clamped.
    """
    scores = _class_axis_last(head, output, loss)
    labels = head.reshape(labels, 0, loss.positions, 1)
    ignored = head.add("Equal", labels, head.constant(np.array([loss.ignore_index])))
    # An index must be one, even where it does not count.
    inside = head.add("Where", ignored, head.constant(np.array([0])), labels)
    value, clamped = _values(head, scores, inside, loss)
    counts = head.add("Not", ignored)
    found = head.add("Less", head.add("Abs", value), head.constant(np.inf))
    found = head.add("And", found, counts)
    largest = head.add("ArgMax", scores, axis=2, keepdims=1)
    hit = head.add("And", head.add("Equal", largest, labels), found)
    results = {
        "loss": _sum(head, head.add("Where", ignored, head.constant(0.0), value), loss),
        ACCURACY: _sum(head, head.cast(hit), loss),
    }
    if TOP5 in loss.metrics:
        in_top = head.add("And", _in_top(head, scores, labels, loss), found)
        results[TOP5] = _sum(head, head.cast(in_top), loss)
    if ERROR in loss.metrics:
        missed = head.add("And", head.add("Not", hit), counts)
        results[ERROR] = _sum(head, head.cast(missed), loss)
    if clamped is not None:
        clamped = head.cast(head.add("And", clamped, counts))
        results[CLAMPED] = head.reduce(
            "ReduceMax", head.reshape(clamped, 0, loss.positions), 1
        )
    return results


def _values(
    head: Builder, scores: ir.Value, labels: ir.Value, loss: Loss
) -> tuple[ir.Value, ir.Value | None]:
    """Return each position's loss, NaN where there is none, and whether it was clamped."""
    clamped = None
    if loss.name in {"cross-entropy", "next-token"}:
        value = _cross_entropy(head, scores, labels, loss)
    elif loss.name == "nll":
        value = head.add("Neg", head.add("GatherElements", scores, labels, axis=2))
    else:
        chosen = head.add("GatherElements", scores, labels, axis=2)
        smallest = head.constant(SMALLEST_PROBABILITY)
        value = head.add("Neg", head.add("Log", head.add("Max", chosen, smallest)))
        clamped = head.add("Less", chosen, smallest)
    spoiled = head.add("IsNaN", head.reduce("ReduceSum", scores, 2))
    if loss.name in {"cross-entropy", "next-token"}:
        largest = head.reduce("ReduceMax", scores, 2)
        spoiled = head.add("Or", spoiled, head.add("IsInf", largest, detect_negative=0))
    return head.add("Where", spoiled, head.constant(np.nan), value), clamped


def _class_axis_last(head: Builder, output: ir.Value, loss: Loss) -> ir.Value:
    """Return the scores in float64 as [batch, positions, classes]."""
    axis = loss.class_axis or 1
    before, after = prod(loss.shape[: axis - 1]), prod(loss.shape[axis:])
    if after > 1:
        output = head.reshape(output, 0, before, loss.classes, after)
        output = head.add("Transpose", output, perm=[0, 1, 3, 2])
    return head.cast(head.reshape(output, 0, loss.positions, loss.classes))


def _cross_entropy(head: Builder, scores: ir.Value, labels: ir.Value, loss: Loss) -> ir.Value:
    """Return -log softmax(scores)[label], labels smoothed as torch does it."""
    log_probability = _log_softmax(head, scores)
    chosen = head.add("GatherElements", log_probability, labels, axis=2)
    value = head.add("Neg", chosen)
    smoothing = loss.label_smoothing
    if smoothing == 0.0:
        return value
    uniform = head.add("Neg", head.reduce("ReduceSum", log_probability, 2))
    return head.add(
        "Add",
        head.add("Mul", value, head.constant(1.0 - smoothing)),
        head.add("Mul", uniform, head.constant(smoothing / loss.classes)),
    )


def _log_softmax(head: Builder, scores: ir.Value) -> ir.Value:
    """Return the logarithm of the softmax over the last axis, in float64 on every device."""
    if head.exact_softmax:
        return head.add("LogSoftmax", scores, axis=2)
    shifted = head.add("Sub", scores, head.reduce("ReduceMax", scores, 2))
    sums = head.reduce("ReduceSum", head.add("Exp", shifted), 2)
    return head.add("Sub", shifted, head.add("Log", sums))


def _in_top(head: Builder, scores: ir.Value, labels: ir.Value, loss: Loss) -> ir.Value:
    """Return whether the label is one of the five largest; of equal ones the first count."""
    five = head.constant(np.array([min(5, loss.classes)]))
    best = head.add("TopK", scores, five, outputs=2, axis=2)
    same = head.cast(head.add("Equal", best, labels))
    return head.cast(head.reduce("ReduceMax", same, 2), ir.DataType.BOOL)


def _sum(head: Builder, value: ir.Value, loss: Loss) -> ir.Value:
    """Return the sum over a sample's positions: [batch, positions, 1] to [batch, 1]."""
    return head.reduce("ReduceSum", head.reshape(value, 0, loss.positions), 1)
