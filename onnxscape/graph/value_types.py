"""Element types of a graph's values, from operator schemas: nothing native sees the file.

A type variable that an operator's inputs bind is the type of its outputs as well. Where
schemas do not tell, what the file declares counts; ONNX Runtime refuses files that declare
what is not so.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING

import onnx
from onnx import AttributeProto, TensorProto

from onnxscape.graph.passes.precision import TYPE_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Formal = onnx.defs.OpSchema.FormalParameter

UNKNOWN = int(TensorProto.UNDEFINED)
"""Type of a value that is no tensor, or that nothing tells the type of."""

_NAMES = frozenset(TensorProto.DataType.keys())

_NUMBERS = {
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
}
"""Attributes of Constant that are numbers, and what they become."""

_SKIPPED_OUTPUTS = {"Loop": 1}
"""Outputs of a body that are none of the node's: a loop's condition."""


def value_types(proto: onnx.ModelProto) -> dict[str, int]:
    """Find the element type of every value of a model's main graph.

    Args:
        proto: The model; its nodes stand behind those they depend on.

    Returns:
        Name to a number of `TensorProto.DataType`, `UNKNOWN` among them.
    """
    graph = proto.graph
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    declared = {v.name: _declared(v) for v in chain(graph.value_info, graph.output)}
    types = {value.name: _declared(value) for value in graph.input}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        made = _made(node, versions, types)
        for name, known in zip(node.output, made, strict=True):
            types[name] = known or declared.get(name, UNKNOWN)
    return types


def schema_of(node: onnx.NodeProto, versions: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """Return what an operator of the default domain takes and gives.

    Args:
        node: Its node.
        versions: Version of each operator set.

    Returns:
        The schema; None for other domains, unknown operators, and nodes with bodies.
    """
    if node.domain or any(bodies(attribute) for attribute in node.attribute):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, versions.get("", 1))
    except onnx.defs.SchemaError:
        return None


def formals(parameters: Sequence[Formal], names: Sequence[str]) -> Iterator[Formal]:
    """Yield the formal parameter of each operand of a node; the last one may be variadic.

    Args:
        parameters: The schema's inputs or outputs.
        names: The node's.

    Yields:
        As many as there are names, or fewer if the node has more than the operator allows.
    """
    last = parameters[-1:]
    variadic = last and last[0].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    formal = chain(parameters, repeat(last[0]) if variadic else ())
    yield from (parameter for parameter, _ in zip(formal, names, strict=False))


def bodies(attribute: AttributeProto) -> list[onnx.GraphProto]:
    """Return the graphs that an attribute holds."""
    own = [attribute.g] if attribute.type == AttributeProto.GRAPH else []
    return [*own, *attribute.graphs]


def _declared(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _made(
    node: onnx.NodeProto, versions: Mapping[str, int], types: Mapping[str, int]
) -> list[int]:
    """Return the types of a node's outputs."""
    unknown = [UNKNOWN] * len(node.output)
    schema = schema_of(node, versions)
    if schema is None:
        return _of_body(node) or unknown
    bound = {
        formal.type_str: types.get(name, UNKNOWN)
        for formal, name in zip(formals(schema.inputs, node.input), node.input, strict=False)
        if name
    }
    made = [
        bound[formal.type_str]
        if formal.type_str in bound
        else _only(formal) or _by_attribute(node, schema)
        for formal in formals(schema.outputs, node.output)
    ]
    return made if len(made) == len(unknown) else unknown


def _of_body(node: onnx.NodeProto) -> list[int]:
    """Return what the body of an If, Loop or Scan declares its outputs to be."""
    for graph in chain.from_iterable(map(bodies, node.attribute)):
        outputs = graph.output[_SKIPPED_OUTPUTS.get(node.op_type, 0) :]
        if not node.domain and len(outputs) == len(node.output):
            return [_declared(value) for value in outputs]
    return []


def _only(formal: Formal) -> int:
    """Return the type of a parameter that can have one only."""
    if len(formal.types) != 1:
        return UNKNOWN
    (text,) = formal.types
    name = text.removeprefix("tensor(").removesuffix(")").upper()
    return int(TensorProto.DataType.Value(name)) if name in _NAMES else UNKNOWN


def _by_attribute(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> int:
    """Return the type of what an operator makes without an input of that type."""
    given = {attribute.name: attribute for attribute in node.attribute}
    for name in sorted(TYPE_ATTRIBUTES & schema.attributes.keys()):
        attribute = given.get(name, schema.attributes[name].default_value)
        if attribute.i:
            return int(attribute.i)
    if "value" in given:
        return int(given["value"].t.data_type)
    if node.op_type == "ConstantOfShape":
        return int(TensorProto.FLOAT)
    return next((kind for name, kind in _NUMBERS.items() if name in given), UNKNOWN)
