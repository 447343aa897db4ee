"""Operators: which of their operands are weights, how filters lie in them, and other roles.

To support another operator, add its row to one of the tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.core.filters import FilterLayout, Reshape, Transpose
from onnxscape.core.parameter import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx_ir as ir

    Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeightRule:
    """How filters lie in one weight operand.

    Attributes:
        axis: From the node and the operand's shape to the axis that counts filters; None if
            more than one does.
        layout: From the node and the operand's shape to the filter layout.
        channel_axis: From the operand's shape to the axis of the node's output that counts
            the channels the filters make; None if they are not one axis.
    """

    axis: Callable[[ir.Node, Shape], int | None]
    layout: Callable[[ir.Node, Shape], FilterLayout]
    channel_axis: Callable[[Shape], int | None]


def attribute(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute of a node, or its default."""
    found = node.attributes.get(name)
    return default if found is None else found.as_int()


def _along(axis: Callable[[ir.Node, Shape], int]) -> Callable[[ir.Node, Shape], FilterLayout]:
    return lambda node, shape: FilterLayout.along(shape, (axis(node, shape),))


def _first(_node: ir.Node, _shape: Shape) -> int:
    return 0


def _second(_node: ir.Node, _shape: Shape) -> int:
    return 1


def _conv_transpose_layout(node: ir.Node, shape: Shape) -> FilterLayout:
    """Return the layout of [C, M/g, k..]: rows are output channels, group by group."""
    groups = attribute(node, "group", 1)
    channels, per_group = shape[:2]
    kernel = shape[2:]
    split = (groups, channels // groups, per_group, *kernel)
    order = (0, 2, 1, *range(3, 3 + len(kernel)))
    matrix = (groups * per_group, channels // groups * math.prod(kernel))
    return FilterLayout(shape, (Reshape(split), Transpose(order), Reshape(matrix)))


def _gemm_b(node: ir.Node, _shape: Shape) -> int:
    return 0 if attribute(node, "transB", 0) else 1


def _gemm_a(node: ir.Node, _shape: Shape) -> int:
    return 1 if attribute(node, "transA", 0) else 0


def _one_matrix(shape: Shape) -> bool:
    return len(shape) >= 2 and math.prod(shape[:-2]) == 1


def _matmul_axis(offset: int) -> Callable[[ir.Node, Shape], int | None]:
    def axis(_node: ir.Node, shape: Shape) -> int | None:
        return len(shape) + offset if _one_matrix(shape) else None

    return axis


def _matmul_layout(offset: int) -> Callable[[ir.Node, Shape], FilterLayout]:
    """Return the rule; leading axes hold independent matrices with filters of their own."""

    def layout(_node: ir.Node, shape: Shape) -> FilterLayout:
        if len(shape) == 1:
            return FilterLayout(shape, (Reshape((1, *shape)),))
        leading = tuple(range(len(shape) - 2))
        return FilterLayout.along(shape, (*leading, len(shape) + offset))

    return layout


WEIGHTS: Mapping[tuple[str, int], WeightRule] = {
    ("Conv", 1): WeightRule(_first, _along(_first), lambda _: 1),
    ("ConvTranspose", 1): WeightRule(_second, _conv_transpose_layout, lambda _: 1),
    ("Gemm", 0): WeightRule(_gemm_a, _along(_gemm_a), lambda _: 0),
    ("Gemm", 1): WeightRule(_gemm_b, _along(_gemm_b), lambda _: 1),
    ("MatMul", 0): WeightRule(_matmul_axis(-2), _matmul_layout(-2), lambda _: None),
    ("MatMul", 1): WeightRule(
        _matmul_axis(-1), _matmul_layout(-1), lambda shape: -1 if _one_matrix(shape) else None
    ),
}
"""(operator, input slot) to the rule for the weight there."""

ROLES: Mapping[tuple[str, int], Role] = {
    ("Conv", 2): Role.BIAS,
    ("ConvTranspose", 2): Role.BIAS,
    ("Gemm", 2): Role.BIAS,
    ("PRelu", 1): Role.NORMALIZATION,
    ("BatchNormalization", 1): Role.NORMALIZATION,
    ("BatchNormalization", 2): Role.NORMALIZATION,
    ("BatchNormalization", 3): Role.STATISTIC,
    ("BatchNormalization", 4): Role.STATISTIC,
    ("InstanceNormalization", 1): Role.NORMALIZATION,
    ("InstanceNormalization", 2): Role.NORMALIZATION,
    ("GroupNormalization", 1): Role.NORMALIZATION,
    ("GroupNormalization", 2): Role.NORMALIZATION,
    ("LayerNormalization", 1): Role.NORMALIZATION,
    ("LayerNormalization", 2): Role.NORMALIZATION,
    ("RMSNormalization", 1): Role.NORMALIZATION,
    ("SimplifiedLayerNormalization", 1): Role.NORMALIZATION,
}
"""(operator, input slot) to the role of the other trained tensors."""

ARITHMETIC: Mapping[str, Role] = {
    "Add": Role.BIAS,
    "Sub": Role.BIAS,
    "Mul": Role.NORMALIZATION,
    "Div": Role.NORMALIZATION,
}
"""Operators whose constant operand is a trained tensor when it comes behind a weight."""
