"""Narrowing: the body of a prepared graph in float16 or bfloat16, its heads as before.

Weights that move stay in their own type, each with one Cast behind it, so that whoever moves
them need not know. What an operator does not take in half is computed as before, and cast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxscape.graph.half_kernels import computes_in_half
from onnxscape.graph.heads.builder import PREFIX
from onnxscape.graph.opset_raising import HEAVY
from onnxscape.graph.value_types import bodies, formals, schema_of, value_types

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

HALF_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
"""What a graph is narrowed to, by precision."""

_LIMITS: dict[int, tuple[float, float]] = {
    TensorProto.FLOAT16: (65504.0, 2.0**-24),
    TensorProto.BFLOAT16: ((2.0 - 2.0**-7) * 2.0**127, 2.0**-126),
}
"""Largest and smallest positive number of each (of bfloat16 the smallest normal one)."""

_WIDE = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE})

_WIDE_INPUTS = frozenset({("Resize", 1)})
"""Inputs (operator, number) that stay as they are: kernels read regions as float32."""

_OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators that read no value: no Cast is made for them."""


def schema_type(precision: str) -> str:
    """Return the type of a precision as operator schemas write it."""
    return f"tensor({TensorProto.DataType.Name(HALF_TYPES[precision]).lower()})"


def narrowed(
    proto: onnx.ModelProto, precision: str, moved: AbstractSet[str]
) -> onnx.ModelProto:
    """Return a model whose body computes in half.

    Numbers that count (sizes, positions, masks: what is made of whole numbers, and what only
    becomes whole numbers) are left as they are: a half counts to 2048, a bfloat16 to 256.
    Layers of weights do not count, whether they move or not.

    Args:
        proto: The prepared model, heads included; it is not changed.
        precision: `fp16` or `bf16`.
        moved: Names of the tensors that move.

    Returns:
        The model: inputs, outputs and moved tensors of the same names and types.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    decisions = _Decisions(model, precision, moved)
    _rewrite(model.graph, decisions, HALF_TYPES[precision], moved)
    return model


@dataclass(frozen=True, slots=True)
class _Narrow:
    """Which operands of a node are in half, by number."""

    inputs: frozenset[int]
    outputs: frozenset[int]


_NOTHING = _Narrow(frozenset(), frozenset())


@dataclass(slots=True)
class _Wanted:
    """In which types values are read."""

    half: set[str] = field(default_factory=set)
    wide: set[str] = field(default_factory=set)


class _Decisions:
    """What becomes of each node of a graph."""

    def __init__(
        self, model: onnx.ModelProto, precision: str, moved: AbstractSet[str]
    ) -> None:
        self._half = schema_type(precision)
        self._precision = precision
        self._versions = {opset.domain: opset.version for opset in model.opset_import}
        tensors = model.graph.initializer
        self._constants = {tensor.name for tensor in tensors} - moved
        self._matrices = {t.name for t in tensors if sum(size > 1 for size in t.dims) > 1}
        self.types: Mapping[str, int] = value_types(model)
        nodes = model.graph.node
        kept = {value.name for value in model.graph.output} | set(_read_in_bodies(nodes))
        self._to_whole = self._only_to_whole_numbers(nodes, kept)
        self._of_whole: set[str] = set()
        self._made_in_half: set[str] = set()
        self.nodes = [self._decide(number, node) for number, node in enumerate(nodes)]
        self.wanted = _Wanted(wide=kept)
        for node, narrow in zip(nodes, self.nodes, strict=True):
            for number, name in enumerate(node.input):
                if self.types.get(name) in _WIDE:
                    half = number in narrow.inputs
                    (self.wanted.half if half else self.wanted.wide).add(name)

    def _decide(self, number: int, node: onnx.NodeProto) -> _Narrow:
        """Decide about a node, once all before it are decided about.

        Args:
            number: Its place.
            node: The node.

        Returns:
            Which of its operands are in half.
        """
        floats = self._floats(node.input)
        if not floats:
            self._of_whole |= set(self._floats(node.output).values())
            return _NOTHING
        schema = schema_of(node, self._versions)
        unknown = [n for n in (*node.input, *node.output) if n and not self.types.get(n)]
        if (
            schema is None
            or unknown
            or number in self._to_whole
            or node.name.startswith(PREFIX)
            or not computes_in_half(node.op_type, self._precision, schema.since_version)
        ):
            return _NOTHING
        names = set(floats.values())
        counts = names & self._of_whole or node.op_type == "Range"
        if counts and not self._is_layer(node) and names <= self._of_whole | self._constants:
            self._of_whole |= set(self._floats(node.output).values())
            return _NOTHING
        if node.op_type in _OF_SHAPES and not names <= self._made_in_half:
            return _NOTHING
        return self._operands(node, schema, floats)

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        """Return whether a node multiplies by a matrix of weights.

        Behind pixels that are whole numbers it does not count. Positions times frequencies are
        no layer: one of them is a vector.
        """
        return node.op_type in HEAVY and not self._matrices.isdisjoint(node.input)

    def _operands(
        self, node: onnx.NodeProto, schema: onnx.defs.OpSchema, floats: Mapping[int, str]
    ) -> _Narrow:
        """Return which operands of a node the schema allows in half."""
        taken = {
            at: formal.type_str
            for at, formal in enumerate(formals(schema.inputs, node.input))
            if at in floats
            and self._half in formal.types
            and (node.op_type, at) not in _WIDE_INPUTS
        }
        bound = set(taken.values())
        outputs = self._floats(node.output)
        given = {
            at
            for at, formal in enumerate(formals(schema.outputs, node.output))
            if at in outputs
            and (formal.type_str in bound or (bound and node.op_type == "Cast"))
        }
        self._made_in_half |= {outputs[at] for at in given}
        return _Narrow(frozenset(taken), frozenset(given))

    def _floats(self, names: Sequence[str]) -> dict[int, str]:
        return {at: name for at, name in enumerate(names) if self.types.get(name) in _WIDE}

    def _only_to_whole_numbers(
        self, nodes: Sequence[onnx.NodeProto], kept: AbstractSet[str]
    ) -> set[int]:
        """Return the nodes whose floats are read for nothing but whole numbers.

        Where activations are rounded to whole numbers, layers before that are none of them.
        """
        readers: dict[str, set[int]] = {}
        for number, node in enumerate(nodes):
            for name in node.input:
                readers.setdefault(name, set()).add(number)
        found: set[int] = set()
        for number in reversed(range(len(nodes))):
            node = nodes[number]
            outputs = self._floats(node.output).values()
            if node.op_type == "Cast" and not outputs:
                if self._floats(node.input):
                    found.add(number)
            elif (
                outputs
                and node.op_type not in HEAVY
                and all(
                    name not in kept and readers.get(name, {-1}) <= found for name in outputs
                )
            ):
                found.add(number)
        return found


def _read_in_bodies(nodes: Collection[onnx.NodeProto]) -> Iterator[str]:
    """Yield all names that bodies read, their own among them."""
    for node in nodes:
        for attribute in node.attribute:
            for graph in bodies(attribute):
                yield from (value.name for value in graph.output)
                yield from (name for inner in graph.node for name in inner.input)
                yield from _read_in_bodies(graph.node)


def _rewrite(
    graph: onnx.GraphProto, decisions: _Decisions, half: int, moved: AbstractSet[str]
) -> None:
    """Put Casts between what is in half and what is not."""
    wanted, types = decisions.wanted, decisions.types

    def name_of(value: str) -> str:
        return f"{PREFIX}half::{value}"

    def cast(source: str, target: str, to: int) -> onnx.NodeProto:
        return helper.make_node("Cast", [source], [target], name=f"cast::{target}", to=to)

    fixed = []
    for tensor in graph.initializer:
        if tensor.name in wanted.half and tensor.name not in moved:
            fixed.append(_in_half(tensor, half, name_of(tensor.name)))
        if tensor.name in moved or tensor.name not in wanted.half - wanted.wide:
            fixed.append(tensor)
    constants = {tensor.name for tensor in graph.initializer} - moved
    given = [value.name for value in graph.input]
    given += [tensor.name for tensor in graph.initializer if tensor.name in moved]
    nodes = [
        cast(name, name_of(name), half)
        for name in dict.fromkeys(given)
        if name in wanted.half and name not in constants
    ]
    for node, narrow in zip(graph.node, decisions.nodes, strict=True):
        nodes.append(node)
        for at in narrow.inputs:
            node.input[at] = name_of(node.input[at])
        for at, name in enumerate(node.output):
            if at in narrow.outputs:
                node.output[at] = name_of(name)
                if name in wanted.wide:
                    nodes.append(cast(name_of(name), name, types[name]))
            elif name in wanted.half:
                nodes.append(cast(name, name_of(name), half))
        if node.op_type == "Cast" and narrow.outputs:
            (to,) = (attribute for attribute in node.attribute if attribute.name == "to")
            to.i = half
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(fixed)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _in_half(tensor: onnx.TensorProto, half: int, name: str) -> onnx.TensorProto:
    """Return a constant in half: what is finite stays finite, what is not zero is not zero.

    So a mask of -3.4e38 does not become infinite, and what keeps a divisor from zero does not
    vanish.
    """
    values: NDArray[np.floating] = numpy_helper.to_array(tensor)
    largest, smallest = _LIMITS[half]
    clipped = np.where(np.isfinite(values), np.clip(values, -largest, largest), values)
    away = np.copysign(np.maximum(np.abs(clipped), smallest), clipped)
    rounded = np.where(values == 0, clipped, away)
    dtype = helper.tensor_dtype_to_np_dtype(half)
    return numpy_helper.from_array(rounded.astype(dtype), name)
