"""Roles: what a constant operand is to its node, and how filters lie in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.core.filters import rearranged
from onnxscape.core.parameter import Role
from onnxscape.graph.fixed import fixed_filters, fixed_rows, fixed_table
from onnxscape.graph.operands import resolve
from onnxscape.graph.operators import ARITHMETIC, LINEAR, ROLES, WEIGHTS, operator_name
from onnxscape.graph.operators.layers import is_table
from onnxscape.graph.scales import signs_behind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.filters import FilterLayout
    from onnxscape.graph.operands import Operand

FLOATS = frozenset(
    kind.numpy()
    for kind in (
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
    )
)
"""Element types of tensors that can be moved."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands among the layers of a model.

    Attributes:
        behind: Whether a layer before it is not over yet.
        downstream: Whether any weight comes before it.
    """

    behind: bool
    downstream: bool


def role_of(
    node: ir.Node, slot: int, operand: Operand, place: Place
) -> tuple[Role, str | None]:
    """Tell what a constant operand is to its node.

    Args:
        node: The node.
        slot: Number of the input.
        operand: What is there.
        place: Where the node stands.

    Returns:
        The role; and what the tensor's values are known as if they were computed by a formula
        (then the role is constant), else None.
    """
    op = operator_name(node)
    if (op, slot) in WEIGHTS:
        return _role_of_factor(node, slot, operand)
    if (op, slot) in ROLES:
        return ROLES[op, slot], None
    if is_table(operand.shape):
        # Positions or pairs of them, not channels: whichever way it is combined.
        fixed = fixed_table(operand.values()) if _is_float(operand) else None
        bias = op in ARITHMETIC and (place.behind or place.downstream) and fixed is None
        return (Role.BIAS if bias else Role.CONSTANT), fixed
    trained = math.prod(operand.shape) > 1 or _adds_to_layer(node, operand)
    if op in ARITHMETIC and place.behind and trained:
        return ARITHMETIC[op], None
    return Role.CONSTANT, None


def _role_of_factor(node: ir.Node, slot: int, operand: Operand) -> tuple[Role, str | None]:
    op = operator_name(node)
    layout = WEIGHTS[op, slot].layout(node, operand.shape)
    others = (v for i, v in enumerate(node.inputs) if i != slot and (op, i) not in ROLES)
    computed = any(value is not None and resolve(value) is None for value in others)
    if layout is None or not computed:
        return Role.CONSTANT, None  # a product of constants is no layer
    fixed = None
    if _is_float(operand) and op in LINEAR and (op != "Conv" or operand.shape[1] == 1):
        fixed = fixed_filters(layout.to_filters(operand.values()))
    elif _is_float(operand) and op in {"Gather", "Slice"}:
        fixed = fixed_rows(operand.values())
    return (Role.WEIGHT if fixed is None else Role.CONSTANT), fixed


def _is_float(operand: Operand) -> bool:
    return operand.values().dtype in FLOATS


def _adds_to_layer(node: ir.Node, operand: Operand) -> bool:
    """Return whether a single value is the bias of a layer with one output, not a constant."""
    producers = [value.producer() for value in node.inputs if value is not None]
    behind = any(p is not None and operator_name(p) in LINEAR for p in producers)
    return node.op_type == "Add" and len(operand.shape) > 0 and behind


@dataclass(frozen=True, slots=True, eq=False)
class Filters:
    """How the filters of a weight lie in the tensor of the file.

    Attributes:
        layout: The layout.
        axis: The axis that counts them; None if there is none or if it takes several.
        signs: float64 [filters], the signs of the factors behind them; None without.
    """

    layout: FilterLayout
    axis: int | None
    signs: NDArray[np.float64] | None

    def agree_with(self, other: Filters) -> bool:
        """Return whether another use of the tensor has the same filters."""
        if self.layout.filters != other.layout.filters:
            return False
        return self.layout == other.layout or (
            self.axis is not None and self.axis == other.axis
        )


def filters_of(node: ir.Node, slot: int, operand: Operand) -> Filters | None:
    """Describe the filters of an operand that stands where its operator has a weight.

    Args:
        node: The node.
        slot: Number of the input.
        operand: What is there.

    Returns:
        Its filters, expressed on the tensor of the file; None if nothing there makes filters.
    """
    rule = WEIGHTS.get((operator_name(node), slot))
    layout = None if rule is None else rule.layout(node, operand.shape)
    if rule is None or layout is None:
        return None
    channels = rule.channels(node, operand.shape)
    signs = None
    if channels is not None:
        channel_axis, rank = channels
        signs = signs_behind(node, layout.filters, rank, channel_axis)
    axis = rule.axis(node, operand.shape)
    return Filters(
        layout.behind(operand.source_shape, operand.view), _source_axis(axis, operand), signs
    )


def _source_axis(axis: int | None, operand: Operand) -> int | None:
    """Return the axis of the source that becomes an axis of the operand, if one does."""
    if axis is None or not operand.view:
        return axis
    shape = operand.source_shape
    count = operand.shape[axis]
    along = np.arange(count, dtype=np.int32).reshape(
        -1, *[1] * (len(operand.shape) - axis - 1)
    )
    for candidate, size in enumerate(shape):
        if size == count:
            numbers = np.arange(count, dtype=np.int32).reshape(
                -1, *[1] * (len(shape) - candidate - 1)
            )
            viewed = rearranged(np.broadcast_to(numbers, shape), operand.view)
            if (viewed == along).all():
                return candidate
    return None
