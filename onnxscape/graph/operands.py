"""Operands: following a node's input back to the tensor of the file it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from onnxscape.core.filters import Reshape, Step, Transpose, rearranged
from onnxscape.graph.operators import WEIGHTS, attribute, operator_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Operand:
    """A constant operand of a node.

    Attributes:
        source: The initializer it comes from.
        source_shape: Shape of the initializer.
        view: Steps from the initializer to the operand; empty if it is the operand itself.
        shape: Shape of the operand, after the view.
    """

    source: ir.Value
    source_shape: tuple[int, ...]
    view: tuple[Step, ...]
    shape: tuple[int, ...]

    def values(self) -> NDArray[Any]:
        """Return the operand's own values, after the view, shaped `shape`."""
        assert self.source.const_value is not None  # noqa: S101 - resolve() only gives such
        return rearranged(self.source.const_value.numpy(), self.view)

    def float64(self) -> NDArray[np.float64]:
        """Return the same as float64."""
        return self.values().astype(np.float64)


MAX_VIEWS = 32
"""Views on top of one another that are followed; a chain of thousands would take hours."""


def resolve(value: ir.Value | None) -> Operand | None:
    """Follow a value back through nodes that only rearrange elements.

    Args:
        value: Input of a node; None for an omitted one.

    Returns:
        The initializer and the way from it; None if it is not reached like this.
    """
    trail: list[ir.Node] = []
    while value is not None and not value.is_initializer():
        node = value.producer()
        if node is None or node.op_type not in VIEWS or node.domain not in {"", "ai.onnx"}:
            return None
        trail.append(node)
        if len(trail) > MAX_VIEWS:
            return None
        value = node.inputs[0]
    if value is None or value.const_value is None:
        return None
    source_shape = shape = tuple(value.const_value.shape.numpy())
    view: list[Step] = []
    for node in reversed(trail):
        if node.op_type == "Identity":
            continue
        step = _step(node, shape)
        if step is None:
            return None
        view.append(step)
        shape = (
            step.shape
            if isinstance(step, Reshape)
            else tuple(shape[axis] for axis in step.permutation)
        )
    return Operand(value, source_shape, tuple(view), shape)


def origin(value: ir.Value | None, passing: Collection[str]) -> ir.Value | None:
    """Follow a value back through operators that hand on their first input.

    Args:
        value: Any value; None for an omitted one.
        passing: The operators.

    Returns:
        The first that no such operator makes; the last one followed if there are more than
        `MAX_VIEWS` of them, one of theirs.
    """
    for _ in range(MAX_VIEWS):
        maker = None if value is None else value.producer()
        if maker is None or maker.op_type not in passing or not maker.inputs:
            break
        value = maker.inputs[0]
    return value


def constant_array(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the values of an initializer or of a view of one; None if it is neither.

    Args:
        value: Input of a node; None for an omitted one.
    """
    operand = resolve(value)
    return None if operand is None else operand.values()


def weight_inputs(model: ir.Model) -> tuple[str, ...]:
    """Return the names of inputs that nodes use where weights stand.

    Args:
        model: The model.

    Returns:
        The names; not of what is in the first place, where data stands as well.
    """
    found = []
    inputs = set(model.graph.inputs)
    for node in model.graph.all_nodes():
        for slot, value in enumerate(node.inputs[1:], start=1):
            if (operator_name(node), slot) not in WEIGHTS:
                continue
            source = origin(value, VIEWS)
            if source is not None and source in inputs:
                found.append(str(source.name))
    return tuple(dict.fromkeys(found))


def in_evaluation_order(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield nodes depth-first from the outputs, inputs in slot order, each after its inputs.

    The order depends on what the graph computes, not on how the exporter wrote it down. The
    nodes of a body (of If, Loop or Scan) come after all that feeds the node which holds it,
    and before that node.

    Args:
        graph: The main graph, or a body.

    Yields:
        Each node that some output depends on, once; also those inside bodies.
    """
    done: set[ir.Node] = set()
    for output in graph.outputs:
        root = output.producer()
        stack = [] if root is None else [(root, iter(_producers(root)))]
        opened = {root}
        while stack:
            node, producers = stack[-1]
            for producer in producers:
                if producer not in done and producer not in opened:
                    opened.add(producer)
                    stack.append((producer, iter(_producers(producer))))
                    break
            else:
                stack.pop()
                if node not in done:
                    done.add(node)
                    for body in bodies(node):
                        yield from in_evaluation_order(body)
                    yield node


def bodies(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs that a node of control flow holds, by the names of its attributes."""
    attributes = sorted(node.attributes.items())
    return [attr.as_graph() for _, attr in attributes if attr.type is ir.AttributeType.GRAPH]


def _producers(node: ir.Node) -> list[ir.Node]:
    """Return the nodes that feed a node, those captured by its bodies last."""
    values = list(node.inputs)
    for body in bodies(node):
        values += [v for n in body.all_nodes() for v in n.inputs] + list(body.outputs)
    producers = [value.producer() for value in values if value is not None]
    return [p for p in producers if p is not None and p.graph is node.graph]


VIEWS = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""Operators that only rearrange elements."""


def _step(node: ir.Node, shape: tuple[int, ...]) -> Step | None:
    """Return what a node of `VIEWS` does to a tensor; None if that is not constant."""
    if node.op_type == "Transpose":
        found = node.attributes.get("perm")
        return Transpose(tuple(found.as_ints()) if found else tuple(range(len(shape)))[::-1])
    new = _new_shape(node, shape)
    return Reshape(new) if new is not None and math.prod(new) == math.prod(shape) else None


def _new_shape(node: ir.Node, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    rank = len(shape)
    if node.op_type == "Flatten":
        axis = attribute(node, "axis", 1)
        axis += rank if axis < 0 else 0
        return (math.prod(shape[:axis]), math.prod(shape[axis:]))
    if node.op_type == "Reshape":
        return _reshaped(shape, integers(node, "shape"))
    axes = integers(node, "axes")
    if node.op_type == "Squeeze":
        if axes is None:
            return tuple(n for n in shape if n != 1)
        gone = {axis % rank for axis in axes}
        return tuple(n for i, n in enumerate(shape) if i not in gone)
    if axes is None:
        return None
    new = {axis % (rank + len(axes)) for axis in axes}
    kept = iter(shape)
    return tuple(1 if i in new else next(kept) for i in range(rank + len(new)))


def integers(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """Read a list of integers given as an attribute (old opsets) or as second input.

    Args:
        node: The node.
        name: The attribute's name.

    Returns:
        The integers; None if they are left out or not constant.
    """
    found = node.attributes.get(name)
    if found is not None:
        return tuple(found.as_ints())
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return None
    tensor = ir.convenience.get_const_tensor(node.inputs[1])
    return None if tensor is None else tuple(int(n) for n in tensor.numpy().ravel())


def _reshaped(
    shape: tuple[int, ...], target: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Return a Reshape's result: 0 keeps an axis, -1 takes what is left."""
    if target is None or 0 in target[len(shape) :]:
        return None
    sizes = [shape[i] if n == 0 else n for i, n in enumerate(target)]
    if -1 in sizes:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = math.prod(shape) // known if known > 0 else 0
    return tuple(sizes)
