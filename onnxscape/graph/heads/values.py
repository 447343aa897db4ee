"""Losses of values: squared error and its relatives, binary cross-entropy, none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.core.loss import ACCURACY, CLAMPED, ERROR, SMALLEST_PROBABILITY

if TYPE_CHECKING:
    from onnxscape.core.loss import Loss
    from onnxscape.graph.heads.builder import Builder


def value_results(
    head: Builder, output: ir.Value, labels: ir.Value, loss: Loss
) -> dict[str, ir.Value]:
    """Compute a loss of values and its metrics.

    Args:
        head: Where nodes are added.
        output: The model's output [batch, ...].
        labels: float32, as many per sample.
        loss: The loss.

    Returns:
        `loss` and all metrics of such losses, float64 [batch, 1]: means over the sample's
        values; `CLAMPED` is 1 where any of them was clamped.
    """
    y, t = (head.add("Flatten", head.cast(value), axis=1) for value in (output, labels))
    if loss.name in {"bce", "bce-with-logits"}:
        return _binary(head, y, t, loss)
    difference = head.add("Sub", y, t)
    if loss.name == "mse":
        value = head.add("Mul", difference, difference)
    else:
        value = head.add("Abs", difference)
        if loss.name == "huber":
            value = _huber(head, value, loss.huber_delta)
    return {"loss": head.reduce("ReduceMean", value, 1)}


def own_loss(head: Builder, output: ir.Value, loss: Loss) -> dict[str, ir.Value]:
    """Take the model's own output as the loss.

    Args:
        head: Where nodes are added.
        output: [batch, ...], of which the mean over all but the first axis is taken; or one
            number for the whole batch.
        loss: The loss `none`.

    Returns:
        `loss`, float64 [batch, 1], or [1, 1] for the whole batch.
    """
    wide = head.cast(output)
    if loss.per_batch:
        return {"loss": head.reshape(wide, 1, 1)}
    return {"loss": head.reduce("ReduceMean", head.add("Flatten", wide, axis=1), 1)}


def _huber(head: Builder, distance: ir.Value, delta: float) -> ir.Value:
    """Return d^2 / 2 up to delta, and delta * (d - delta / 2) from there on."""
    square = head.add("Mul", head.add("Mul", distance, distance), head.constant(0.5))
    straight = head.add("Sub", distance, head.constant(0.5 * delta))
    straight = head.add("Mul", straight, head.constant(delta))
    near = head.add("Less", distance, head.constant(delta))
    return head.add("Where", near, square, straight)


def _binary(head: Builder, y: ir.Value, t: ir.Value, loss: Loss) -> dict[str, ir.Value]:
    """Return -t ln p - (1 - t) ln(1 - p) and its metrics."""
    one = head.constant(1.0)
    rest = head.add("Sub", one, t)
    clamped = None
    if loss.name == "bce":
        smallest = head.constant(SMALLEST_PROBABILITY)
        sides = [y, head.add("Sub", one, y)]
        costs = [head.add("Neg", head.add("Log", head.add("Max", p, smallest))) for p in sides]
        too_small = [
            head.add("And", head.add("Less", p, smallest), head.add("Less", zero, share))
            for zero in [head.constant(0.0)]
            for p, share in zip(sides, (t, rest), strict=True)
        ]
        clamped = head.add("Or", *too_small)
    else:
        # -ln sigmoid(x) is softplus(-x): nothing cancels, and nothing overflows.
        costs = [_softplus(head, head.add("Neg", y)), _softplus(head, y)]
    value = head.add("Add", head.add("Mul", t, costs[0]), head.add("Mul", rest, costs[1]))
    value = head.add("Where", head.add("IsNaN", y), head.constant(np.nan), value)
    results = {"loss": head.reduce("ReduceMean", value, 1)}
    half = head.constant(0.5)
    limit = half if loss.name == "bce" else head.constant(0.0)
    hit = head.add(
        "Equal",
        head.cast(head.add("Less", limit, y), ir.DataType.INT32),
        head.cast(head.add("Less", half, t), ir.DataType.INT32),
    )
    finite = head.add("Less", head.add("Abs", value), head.constant(np.inf))
    hit = head.add("And", hit, finite)
    results[ACCURACY] = head.reduce("ReduceMean", head.cast(hit), 1)
    if ERROR in loss.metrics:
        missed = head.cast(head.add("Not", hit))
        results[ERROR] = head.reduce("ReduceMean", missed, 1)
    if clamped is not None:
        results[CLAMPED] = head.reduce("ReduceMax", head.cast(clamped), 1)
    return results


def _softplus(head: Builder, x: ir.Value) -> ir.Value:
    """Return ln(1 + e^x) = max(x, 0) + log1p(e^-|x|), log1p to full precision.

    log1p(e) = e * ln(u) / (u - 1) with u = 1 + e (Higham, "Accuracy and Stability of
    Numerical Algorithms", section 1.14.1).
    """
    one = head.constant(1.0)
    e = head.add("Exp", head.add("Neg", head.add("Abs", x)))
    u = head.add("Add", one, e)
    ratio = head.add("Div", head.add("Log", u), head.add("Sub", u, one))
    log1p = head.add("Where", head.add("Equal", u, one), e, head.add("Mul", e, ratio))
    return head.add("Add", head.add("Max", x, head.constant(0.0)), log1p)
