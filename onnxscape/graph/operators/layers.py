"""Layers: convolutions, recurrent layers, embeddings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnxscape.core.filters import FilterLayout, Reshape, Transpose
from onnxscape.graph.operators.rules import WeightRule, along, attribute, no_channels

if TYPE_CHECKING:
    from onnxscape.graph.operators.rules import Channels, Shape


def _first(_node: ir.Node, _shape: Shape) -> int:
    return 0


def _second(_node: ir.Node, _shape: Shape) -> int:
    return 1


def _last(_node: ir.Node, shape: Shape) -> int:
    return len(shape) - 1


def _channels_second(_node: ir.Node, shape: Shape) -> Channels:
    return 1, len(shape)


def _conv_transpose_layout(node: ir.Node, shape: Shape) -> FilterLayout:
    """Return the layout of [C, M/g, k..]: rows are output channels, group by group."""
    groups = attribute(node, "group", 1)
    channels, per_group = shape[:2]
    kernel = shape[2:]
    split = (groups, channels // groups, per_group, *kernel)
    order = (0, 2, 1, *range(3, 3 + len(kernel)))
    matrix = (groups * per_group, channels // groups * math.prod(kernel))
    return FilterLayout(shape, (Reshape(split), Transpose(order), Reshape(matrix)))


CONV = along(_first, _channels_second)
"""[M, C/g, k..]."""

ACTIVATED_CONV = along(_first)
"""The same with an activation behind it, or with channels last."""

CONV_TRANSPOSE = WeightRule(_second, _conv_transpose_layout, _channels_second)
"""[C, M/g, k..]."""

PROJECTION = along(_last)
"""[in, out], inside an operator that does more than the product."""


def _stacked_rows(_node: ir.Node, shape: Shape) -> FilterLayout | None:
    return FilterLayout.along(shape, (0, 1)) if len(shape) == 3 else None


STACKED_ROWS = WeightRule(_second, _stacked_rows, no_channels)
"""[n, out, in] of n layers side by side: a recurrent layer's directions, with the rows of all
gates under one another; or experts."""


def is_table(shape: Shape) -> bool:
    """Return whether a tensor has two or more dimensions above 1."""
    return sum(size > 1 for size in shape) > 1


def _gather_axis(node: ir.Node, shape: Shape) -> int:
    return attribute(node, "axis", 0) % max(len(shape), 1)


def _embedding(node: ir.Node, shape: Shape) -> FilterLayout | None:
    """Return the layout of a table of tokens; None for a stack of which a loop takes one."""
    index = node.inputs[1] if len(node.inputs) > 1 else None
    one = index is not None and index.shape is not None and len(index.shape) == 0
    axis = _gather_axis(node, shape)
    matrices = axis == 0 and sum(size > 1 for size in shape) > 2
    if one or matrices or not is_table(shape):
        return None
    return FilterLayout.along(shape, (axis,))


GATHER = WeightRule(_gather_axis, _embedding, no_channels)
"""[vocabulary, dim]: a row is a token. Vectors are looked up for other ends than to learn."""


def _first_rows(node: ir.Node, shape: Shape) -> FilterLayout | None:
    """Return the layout of a table whose first rows are added to what a model computes."""
    operands = [None, *map(_integers, node.inputs[1:4])]
    added = {use.node.op_type for use in node.outputs[0].uses()} <= _ADDING
    if len(operands) < 4 or operands[1] != [0] or operands[3] != [0] or not added:
        return None
    return FilterLayout.along(shape, (0,)) if len(shape) == 2 and is_table(shape) else None


def _integers(value: ir.Value | None) -> list[int] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy().ravel().tolist()


_ADDING = frozenset({"Add", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"})

SLICE = WeightRule(_first, _first_rows, no_channels)
"""[positions, dim]: what ONNX Runtime makes of looking up the positions 0, 1, 2, ..."""


def _rows(_node: ir.Node, shape: Shape) -> FilterLayout | None:
    return FilterLayout.along(shape, (0,)) if is_table(shape) else None


EMBEDDING = WeightRule(_first, _rows, no_channels)
"""[vocabulary, dim], inside an operator that does more than look up."""
