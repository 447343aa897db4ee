"""Rules: what one weight operand of an operator tells about its filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.core.filters import FilterLayout

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

Shape = tuple[int, ...]
Channels = tuple[int, int | None]
"""The axis of an output that counts channels (-1: the last), and the output's rank."""


@dataclass(frozen=True, slots=True)
class WeightRule:
    """How filters lie in one weight operand.

    Attributes:
        axis: From the node and the operand's shape to the axis that counts filters; None if
            there is none, or if it takes several to count those of one matrix.
        layout: From the node and the operand's shape to the filter layout; None if the
            operand is no weight after all.
        channels: From the node and the operand's shape to where the filters' channels lie in
            the node's output; None if they are not one axis, or if the node does more to
            them than a product.
    """

    axis: Callable[[ir.Node, Shape], int | None]
    layout: Callable[[ir.Node, Shape], FilterLayout | None]
    channels: Callable[[ir.Node, Shape], Channels | None]


def operator_name(node: ir.Node) -> str:
    """Return a node's operator type, behind its domain unless that is the default one."""
    if node.domain in {"", "ai.onnx"}:
        return node.op_type
    return f"{node.domain}.{node.op_type}"


def reported_name(node: ir.Node) -> str:
    """Return the type of the operator in the user's file that a node stands for."""
    return str(node.meta.get("onnxscape.op", node.op_type))


def attribute(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute of a node, or its default."""
    found = node.attributes.get(name)
    return default if found is None else found.as_int()


def no_channels(_node: ir.Node, _shape: Shape) -> Channels | None:
    """Return that the channels are no axis of the output."""
    return None


def along(
    axis: Callable[[ir.Node, Shape], int],
    channels: Callable[[ir.Node, Shape], Channels | None] = no_channels,
) -> WeightRule:
    """Return the rule of an operand with one axis that counts filters."""
    return WeightRule(
        axis, lambda node, shape: FilterLayout.along(shape, (axis(node, shape),)), channels
    )
