"""What an audit knows of a model before it judges: uses of tensors, stored types, ends."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from onnxscape.graph.operands import in_evaluation_order, resolve
from onnxscape.graph.operators import WEIGHTS, operator_name
from onnxscape.graph.operators.layers import is_table
from onnxscape.graph.passes.quantization import NOT_MOVED
from onnxscape.graph.roles import FLOATS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnxscape.core.parameter import Parameter
    from onnxscape.graph.batch_axis import FixedBatch


@dataclass(frozen=True, slots=True)
class Use:
    """A place where a tensor of the file is used.

    Attributes:
        node: The operator.
        slot: Number of its input.
    """

    node: ir.Node
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the checks look at.

    Attributes:
        graph: The main graph, in canonical form.
        parameters: Its parameters.
        moves: Names of those that a random direction moves.
        uses: Name of each initializer that an output depends on, to where it is used.
        types: Name of each tensor stored in the user's file, and of each that a
            DequantizeLinear makes of one, to its element type in the file.
        operators: Operator type to how often it occurs in the user's file.
        ends: Name of each output to the operator that makes its values; None where none does.
        output: Name of the output that a loss is computed from; None if the user has to say.
        batch: The size of batch that the file was exported for; None if it takes any.
        native: Whether the file's own precision is kept.
        unused: Names of float tensors of the user's file that no output depends on.
        integers: Number of values in weights that stay since they are integers.
    """

    graph: ir.Graph
    parameters: Sequence[Parameter]
    moves: frozenset[str]
    uses: Mapping[str, Sequence[Use]]
    types: Mapping[str, str]
    operators: Mapping[str, int]
    ends: Mapping[str, str | None]
    output: str | None
    batch: FixedBatch | None
    native: bool
    unused: Sequence[str]
    integers: int


def find_uses(graph: ir.Graph) -> dict[str, list[Use]]:
    """Find where each initializer is used, through views, in the main graph and in bodies.

    Args:
        graph: The main graph, in canonical form.

    Returns:
        Name to uses, of what some output depends on.
    """
    uses: dict[str, list[Use]] = defaultdict(list)
    for outer in in_evaluation_order(graph):
        for node in (outer, *_inner_nodes(outer)):
            if any(resolve(value) is not None for value in node.outputs):
                continue  # a view: who uses the view uses the tensor
            for slot, value in enumerate(node.inputs):
                operand = resolve(value)
                if operand is not None:
                    uses[str(operand.source.name)].append(Use(node, slot))
    return dict(uses)


def count_integers(graph: ir.Graph, uses: Mapping[str, Sequence[Use]]) -> int:
    """Count the values of weights that could not be made floats.

    Args:
        graph: The main graph, in canonical form.
        uses: Where its initializers are used.

    Returns:
        Their number as they are stored; of packed ones the number of their bytes.
    """
    total = 0
    for name, places in uses.items():
        value = graph.initializers.get(name)
        tensor = None if value is None else value.const_value
        if (
            tensor is None
            or tensor.dtype.numpy() in FLOATS
            or not is_table(tuple(tensor.shape.numpy()))
        ):
            continue
        if any(_multiplies(use) or use.node.op_type in NOT_MOVED for use in places):
            total += tensor.size
    return total


def _multiplies(use: Use) -> bool:
    """Return whether a weight stands there; integers that are looked up are indices."""
    place = operator_name(use.node), use.slot
    return place in WEIGHTS and use.node.op_type not in {"Gather", "Slice"}


def _inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            yield from attribute.as_graph().all_nodes()
        elif attribute.type is ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from graph.all_nodes()


PROPOSED = {"Softmax": "log-loss", "LogSoftmax": "nll", "Sigmoid": "bce"}
"""Operator at a model's end to the loss that fits its output."""


def stored_types(proto: onnx.ModelProto) -> dict[str, str]:
    """Return the element type of every tensor that a file stores under a name.

    Args:
        proto: The user's model.

    Returns:
        Name to type, as `float16` or `int8`; also of what a DequantizeLinear makes of them.
    """
    types = {
        tensor.name: _type_name(tensor.data_type)
        for graph in _graphs(proto.graph)
        for tensor in graph.initializer
    }
    for node in _nodes(proto):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t") and node.output:
                types[node.output[0]] = _type_name(attribute.t.data_type)
    for node in _nodes(proto):
        if node.op_type == "DequantizeLinear" and node.input[0] in types:
            types[node.output[0]] = types[node.input[0]]
    return types


def unused_tensors(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Find the float tensors of a file that no output depends on.

    Args:
        proto: The user's model.

    Returns:
        Names of initializers of the main graph, in file order.
    """
    makers = {name: node for node in proto.graph.node for name in node.output}
    needed: set[str] = set()
    waiting = [value.name for value in proto.graph.output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers:
            waiting += _asked_for(makers[name])
    return tuple(
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_type in _FLOATS and tensor.name not in needed
    )


_FLOATS = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    }
)


def _asked_for(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node asks for, its bodies included."""
    yield from node.input
    for body in _bodies(node):
        for graph in _graphs(body):
            yield from (name for inner in graph.node for name in inner.input)
            yield from (value.name for value in graph.output)


def count_operators(proto: onnx.ModelProto) -> dict[str, int]:
    """Count the operators of a file, those in bodies and model-local functions included.

    Args:
        proto: The user's model.

    Returns:
        Operator type to number, the most frequent first.
    """
    return dict(Counter(node.op_type for node in _nodes(proto)).most_common())


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(proto.graph):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the bodies of its nodes, however deep."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting += _bodies(node)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the bodies of If, Loop or Scan."""
    bodies = [graph for attribute in node.attribute for graph in attribute.graphs]
    return bodies + [a.g for a in node.attribute if a.HasField("g")]


def _type_name(code: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(code))
    except KeyError:
        return f"type {code}"
