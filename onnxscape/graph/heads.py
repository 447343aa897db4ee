"""Loss heads: nodes grafted behind the model's output that compute the loss of each sample.

The loss is computed in float64, since far from the minimum a float32 log-softmax saturates.
Each sample's value leaves the graph, so that sums do not depend on how samples are batched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.errors import UnsupportedModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LABELS = "onnxscape::labels"
"""Input of the head: int64 [batch, 1] classes, or float targets [batch, ...]."""
LOSS = "onnxscape::loss"
"""Output of the head: float64 [batch, 1]."""
HIT = "onnxscape::hit"
"""Output of the head: bool [batch, 1], whether the largest output is the label's."""


@dataclass(frozen=True, slots=True)
class LossHead:
    """What a grafted head takes and gives.

    Attributes:
        name: Name of the loss.
        metrics: Names of the metrics besides the loss.
        label_type: Element type of the labels it takes.
    """

    name: str
    metrics: tuple[str, ...]
    label_type: np.dtype[np.generic]


def graft_loss(model: ir.Model, loss: str) -> LossHead:
    """Graft a loss head behind the only output of a model.

    Args:
        model: Canonical model; changed in place: it gets the input `LABELS` and the outputs
            `LOSS` and, if it classifies, `HIT` besides its own.
        loss: `cross-entropy` (of logits) or `mse` (mean over all but the first axis).

    Returns:
        What the head takes and gives.

    Raises:
        UsageError: If the loss is not known.
        UnsupportedModelError: If the model has another number of outputs.
    """
    if loss not in LOSSES:
        raise UsageError(f"expected --loss {' or '.join(LOSSES)}, got {loss!r}")
    outputs = list(model.graph.outputs)
    if len(outputs) != 1:
        names = ", ".join(str(value.name) for value in outputs)
        raise UnsupportedModelError(
            f"expected a model with one output, this one has {len(outputs)}: {names}; "
            "export it with the output that the loss is computed from"
        )
    return LOSSES[loss](model.graph, outputs[0])


def _cross_entropy(graph: ir.Graph, logits: ir.Value) -> LossHead:
    """Return the head of -log softmax(logits)[label]."""
    head = _Head(graph)
    labels = head.input(ir.DataType.INT64, ir.Shape(["batch", 1]))
    wide = head.add("Cast", [logits], to=int(ir.DataType.DOUBLE))
    log_probability = head.add("LogSoftmax", [wide], axis=1)
    chosen = head.add("GatherElements", [log_probability, labels], axis=1)
    loss = head.add("Neg", [chosen])
    # ONNX Runtime's LogSoftmax of float64 gives finite numbers for a row that holds a NaN.
    nan = head.add("Cast", [head.add("IsNaN", [wide])], to=int(ir.DataType.DOUBLE))
    any_nan = head.add("Cast", [head.reduce("ReduceMax", nan)], to=int(ir.DataType.BOOL))
    not_a_number = head.constant("nan", np.array(np.nan))
    loss = head.add("Where", [any_nan, not_a_number, loss])
    head.output(loss, LOSS, ir.DataType.DOUBLE)
    largest = head.add("ArgMax", [logits], axis=1, keepdims=1)
    head.output(head.add("Equal", [largest, labels]), HIT, ir.DataType.BOOL)
    return LossHead("cross-entropy", METRICS["cross-entropy"], np.dtype(np.int64))


def _mean_squared_error(graph: ir.Graph, prediction: ir.Value) -> LossHead:
    """Return the head of the mean of (prediction - target)^2 over a sample's elements."""
    head = _Head(graph)
    targets = head.input(ir.DataType.FLOAT, None)
    sides = []
    for value in (prediction, targets):
        wide = head.add("Cast", [value], to=int(ir.DataType.DOUBLE))
        sides.append(head.add("Flatten", [wide], axis=1))
    difference = head.add("Sub", sides)
    square = head.add("Mul", [difference, difference])
    head.output(head.reduce("ReduceMean", square), LOSS, ir.DataType.DOUBLE)
    return LossHead("mse", METRICS["mse"], np.dtype(np.float32))


LOSSES: dict[str, Callable[[ir.Graph, ir.Value], LossHead]] = {
    "cross-entropy": _cross_entropy,
    "mse": _mean_squared_error,
}
"""Name of each loss to the function that grafts it."""


METRICS: dict[str, tuple[str, ...]] = {"cross-entropy": ("accuracy",), "mse": ()}
"""Name of each loss to the metrics that its head computes besides."""


class _Head:
    """Adds nodes to the end of a graph under names no exporter uses."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._count = 0

    def input(self, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
        value = ir.val(LABELS, dtype=dtype, shape=shape)
        self._graph.inputs.append(value)
        return value

    def constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        name = f"onnxscape::{name}"
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        self._graph.register_initializer(value)
        return value

    def add(self, op: str, inputs: list[ir.Value], **attributes: int | list[int]) -> ir.Value:
        self._count += 1
        node = ir.node(op, inputs, attributes, name=f"onnxscape::{op}_{self._count}")
        node.outputs[0].name = f"onnxscape::value_{self._count}"
        self._graph.append(node)
        return node.outputs[0]

    def reduce(self, op: str, value: ir.Value) -> ir.Value:
        """Return the reduction of each sample: [batch, n] to [batch, 1]."""
        if self._graph.opset_imports[""] < 18:
            return self.add(op, [value], axes=[1], keepdims=1)
        axes = self.constant("axes", np.array([1], dtype=np.int64))
        return self.add(op, [value, axes], keepdims=1)

    def output(self, value: ir.Value, name: str, dtype: ir.DataType) -> None:
        value.name = name
        value.type = ir.TensorType(dtype)
        self._graph.outputs.append(value)
