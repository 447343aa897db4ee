"""How large the result of a node on constants is going to be, before it is computed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.graph.operators import attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    Arrays = Sequence[NDArray[Any] | None]


def _integers(arrays: Arrays, slot: int) -> list[int]:
    array = arrays[slot] if slot < len(arrays) else None
    return [] if array is None else [int(n) for n in array.ravel()]


def _given(arrays: Arrays) -> list[NDArray[Any]]:
    return [array for array in arrays if array is not None]


def _broadcast(_node: ir.Node, arrays: Arrays) -> int:
    return math.prod(np.broadcast_shapes(*[array.shape for array in _given(arrays)]))


def _no_larger(_node: ir.Node, arrays: Arrays) -> int:
    return sum(array.size for array in _given(arrays))


def _few(_node: ir.Node, arrays: Arrays) -> int:
    return sum(array.ndim for array in _given(arrays))


def _filled(_node: ir.Node, arrays: Arrays) -> int:
    return math.prod(max(n, 0) for n in _integers(arrays, 0))


def _expanded(_node: ir.Node, arrays: Arrays) -> int:
    (first, *_) = _given(arrays)
    return math.prod(np.broadcast_shapes(first.shape, tuple(_integers(arrays, 1))))


def _tiled(_node: ir.Node, arrays: Arrays) -> int:
    (first, *_) = _given(arrays)
    return int(first.size) * math.prod(max(n, 0) for n in _integers(arrays, 1))


def _gathered(node: ir.Node, arrays: Arrays) -> int:
    data, indices = _given(arrays)
    length = data.shape[attribute(node, "axis", 0)]
    return int(data.size // max(1, length) * indices.size)


def _counted(_node: ir.Node, arrays: Arrays) -> int:
    start, limit, step = (float(array.ravel()[0]) for array in _given(arrays))
    return max(0, math.ceil((limit - start) / step)) if step else 0


def _multiplied(node: ir.Node, arrays: Arrays) -> int:
    left, right = _given(arrays)[:2]
    if node.op_type == "Gemm":
        rows = left.shape[1 if attribute(node, "transA", 0) else 0]
        return int(rows * right.shape[0 if attribute(node, "transB", 0) else 1])
    leading = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    return math.prod((*leading, *left.shape[-2:-1], *right.shape[-1:][: right.ndim - 1]))


SIZES: Mapping[str, Callable[[ir.Node, Arrays], int]] = (
    dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Equal", "Greater", "Less"),
        _broadcast,
    )
    | dict.fromkeys(("GreaterOrEqual", "LessOrEqual", "And", "Or"), _broadcast)
    | dict.fromkeys(("Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Sign"), _no_larger)
    | dict.fromkeys(("Tanh", "Sigmoid", "Relu", "Floor", "Ceil", "Round", "Not"), _no_larger)
    | dict.fromkeys(("Softplus", "Clip", "Cast", "LpNormalization"), _no_larger)
    | dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _no_larger)
    | dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2"), _no_larger)
    | dict.fromkeys(("ReduceSumSquare", "ReduceMax", "ReduceMin", "ReduceProd"), _no_larger)
    | dict.fromkeys(("Identity", "Transpose", "Reshape", "Flatten"), _no_larger)
    | dict.fromkeys(("Squeeze", "Unsqueeze", "Slice", "Split", "Concat"), _no_larger)
    | dict.fromkeys(("Shape", "Size"), _few)
    | {
        "ConstantOfShape": _filled,
        "Expand": _expanded,
        "Tile": _tiled,
        "Gather": _gathered,
        "Range": _counted,
        "MatMul": _multiplied,
        "Gemm": _multiplied,
    }
)
"""Operators that may be computed ahead, to an upper bound of the elements of a result."""


def work(node: ir.Node, arrays: Arrays, size: int) -> int:
    """Return about how many elements a node goes through.

    Args:
        node: The node.
        arrays: Its inputs.
        size: Elements of its result.

    Returns:
        For a product of float matrices a sixteenth of the multiplications.
    """
    given = _given(arrays)
    total = size + sum(array.size for array in given)
    if node.op_type not in {"MatMul", "Gemm"}:
        return total
    inner = given[0].shape[0 if attribute(node, "transA", 0) else -1]
    fast = given[0].dtype.kind == "f" and given[0].dtype.itemsize >= 4
    return int(total + size * inner // (16 if fast else 1))
