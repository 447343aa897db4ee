"""Adding nodes behind a model's outputs, under names no exporter uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFIX = "onnxscape::"
"""Before the name of every value and node that is added."""

LABELS = f"{PREFIX}labels"
"""Input of the heads: the labels of a batch as the samples hold them, [batch, ...]."""

_AXES_AS_INPUT = {"ReduceSum": 13}
"""Operator set from which a reduction takes its axes as an input; 18 for all others."""


class Builder:
    """Adds nodes to the end of a graph.

    Attributes:
        exact_softmax: Whether LogSoftmax of float64 is computed in float64 where it will run.
    """

    def __init__(self, graph: ir.Graph, *, exact_softmax: bool = True) -> None:
        self.exact_softmax = exact_softmax
        self._graph = graph
        self._count = 0

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self._graph.opset_imports[""]

    @property
    def opsets(self) -> dict[str, int]:
        """Versions of all operator sets by domain; may be added to."""
        return self._graph.opset_imports

    def input(self, name: str, dtype: np.dtype[np.generic]) -> ir.Value:
        """Return a new input of any shape."""
        value = ir.val(name, dtype=ir.DataType.from_numpy(dtype))
        self._graph.inputs.append(value)
        return value

    def constant(self, array: NDArray[np.generic] | float) -> ir.Value:
        """Return a new initializer."""
        self._count += 1
        name = f"{PREFIX}constant_{self._count}"
        value = ir.val(name, const_value=ir.tensor(np.asarray(array), name=name))
        self._graph.register_initializer(value)
        return value

    def add(
        self, op: str, *inputs: ir.Value, outputs: int = 1, **attributes: int | list[int]
    ) -> ir.Value:
        """Return the last output of a new node of the default operator set."""
        node = ir.node(op, inputs, attributes, num_outputs=outputs)
        self.append(node)
        return node.outputs[-1]

    def append(self, node: ir.Node) -> None:
        """Add a node; it and its outputs get names."""
        self._count += 1
        node.name = f"{PREFIX}{node.op_type}_{self._count}"
        for number, value in enumerate(node.outputs):
            value.name = f"{PREFIX}value_{self._count}_{number}"
        self._graph.append(node)

    def cast(self, value: ir.Value, dtype: ir.DataType = ir.DataType.DOUBLE) -> ir.Value:
        """Return a value in another type, float64 if nothing is said."""
        return self.add("Cast", value, to=int(dtype))

    def reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        """Return a value in another shape; 0 keeps the size of an axis, -1 is what is left."""
        return self.add("Reshape", value, self.constant(np.array(shape, dtype=np.int64)))

    def reduce(self, op: str, value: ir.Value, axis: int) -> ir.Value:
        """Return a reduction over one axis, which stays with size 1."""
        if self.opset < _AXES_AS_INPUT.get(op, 18):
            return self.add(op, value, axes=[axis], keepdims=1)
        axes = self.constant(np.array([axis], dtype=np.int64))
        return self.add(op, value, axes, keepdims=1)

    def output(self, value: ir.Value, name: str) -> str:
        """Return the name of a float64 value that becomes an output of the graph."""
        value.name = f"{PREFIX}{name}"
        value.type = ir.TensorType(ir.DataType.DOUBLE)
        self._graph.outputs.append(value)
        return value.name
