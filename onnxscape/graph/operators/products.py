"""Products: matrices and the tensors of an Einsum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnxscape.core.filters import FilterLayout, Reshape
from onnxscape.graph.operators.rules import WeightRule, along, attribute, no_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx_ir as ir

    from onnxscape.graph.operators.rules import Channels, Shape


def _gemm_a(node: ir.Node, _shape: Shape) -> int:
    return 1 if attribute(node, "transA", 0) else 0


def _gemm_b(node: ir.Node, _shape: Shape) -> int:
    return 0 if attribute(node, "transB", 0) else 1


GEMM_A = along(_gemm_a, lambda _node, _shape: (0, 2))
GEMM_B = along(_gemm_b, lambda _node, _shape: (1, 2))
ACTIVATED_GEMM_A = along(_gemm_a)
ACTIVATED_GEMM_B = along(_gemm_b)


def _matrix_axes(node: ir.Node, rank: int, operand: str) -> tuple[int, int]:
    """Return the axes of a stack of matrices that count rows and columns.

    FusedMatMul can turn its matrices: `transBatch` puts the first axis behind the batch axes,
    `trans` then swaps the last two.
    """
    rows = 0 if attribute(node, f"transBatch{operand}", 0) else rank - 2
    columns = rank - 1
    return (columns, rows) if attribute(node, f"trans{operand}", 0) else (rows, columns)


def _matmul(operand: str) -> WeightRule:
    """Return the rule of A or B of [.., m, k] times [.., k, n].

    Leading axes hold independent matrices with filters of their own.
    """
    counted = 0 if operand == "A" else 1

    def axis(node: ir.Node, shape: Shape) -> int | None:
        rank = len(shape)
        return _matrix_axes(node, rank, operand)[counted] if rank >= 2 else None

    def layout(node: ir.Node, shape: Shape) -> FilterLayout:
        rank = len(shape)
        if rank == 1:
            return FilterLayout(shape, (Reshape((1, *shape)),))
        matrix = _matrix_axes(node, rank, operand)
        leading = tuple(i for i in range(rank) if i not in matrix)
        return FilterLayout.along(shape, (*leading, matrix[counted]))

    def columns(node: ir.Node, shape: Shape) -> Channels | None:
        matrix = _matrix_axes(node, len(shape), operand)
        leading = (size for i, size in enumerate(shape) if i not in matrix)
        if len(shape) < 2 or math.prod(leading) != 1:
            return None
        known = node.outputs[0].shape
        return -1, None if known is None else len(known)

    return WeightRule(axis, layout, columns if operand == "B" else no_channels)


MATMUL_A = _matmul("A")
MATMUL_B = _matmul("B")


def _spread(labels: str, rank: int) -> list[str]:
    """Return one label per axis; those of an ellipsis are counted from its end, as 1, 2, .."""
    before, ellipsis, after = labels.partition("...")
    count = rank - len(before) - len(after) if ellipsis else 0
    return [*before, *(str(i) for i in range(count, 0, -1)), *after]


def _einsum_labels(
    node: ir.Node, slot: int, rank: int
) -> tuple[list[str], Sequence[str]] | None:
    """Return the labels of an operand's axes, and those of the output's as far as known.

    None if the equation does not fit, or if the operand is read along a diagonal.
    """
    found = node.attributes.get("equation")
    if found is None:
        return None
    left, arrow, right = found.as_string().replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(node.inputs):
        return None
    if not arrow:
        letters = "".join(terms).replace(".", "")
        right = "..." * ("..." in left) + "".join(
            sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        )
    mine = _spread(terms[slot], rank)
    if len(mine) != rank or len(set(mine)) != rank:
        return None
    widest = sum(label.isdigit() for label in mine)
    named = len(right.replace("...", ""))
    return mine, _spread(right, named + widest)


def _einsum(slot: int) -> WeightRule:
    """Return the rule of an Einsum's operand: its axes that reach the output count filters."""

    def axes(node: ir.Node, shape: Shape) -> tuple[int, ...] | None:
        """Return the axes that count filters, as the output has them in order."""
        found = _einsum_labels(node, slot, len(shape))
        if found is None:
            return None
        mine, output = found
        return tuple(mine.index(label) for label in output if label in mine)

    def axis(node: ir.Node, shape: Shape) -> int | None:
        counting = axes(node, shape)
        return counting[0] if counting is not None and len(counting) == 1 else None

    def layout(node: ir.Node, shape: Shape) -> FilterLayout | None:
        counting = axes(node, shape)
        return None if counting is None else FilterLayout.along(shape, counting)

    def channels(node: ir.Node, shape: Shape) -> Channels | None:
        equation = node.attributes["equation"].as_string()
        found = _einsum_labels(node, slot, len(shape))
        counting = axes(node, shape)
        if found is None or counting is None or len(counting) != 1 or "..." in equation:
            return None
        mine, output = found
        return output.index(mine[counting[0]]), len(output)

    return WeightRule(axis, layout, channels)


EINSUM: Callable[[int], WeightRule] = _einsum
"""From the slot to the rule."""
