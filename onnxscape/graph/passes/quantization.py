"""Quantized operators as float ones, so that their weights are floats that can be moved.

Activations stay quantized: each operator is put between DequantizeLinear and QuantizeLinear.
What ONNX says of the operators: onnx/docs/Operators.md; of those of com.microsoft:
onnxruntime/docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from onnxscape.graph.operands import constant_array
from onnxscape.graph.operators import attribute
from onnxscape.graph.passes.dequantized import blockwise, dequantized
from onnxscape.graph.passes.rewriting import Replacement, Rewriting
from onnxscape.graph.passes.scale_behind import scale_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from onnxscape.graph.passes.notes import Notes

NOT_MOVED = frozenset(
    {
        "DynamicQuantizeLSTM",
        "ConvInteger",
        "GatherBlockQuantized",
        "MatMulBnb4",
        "MatMulInteger",
        "MatMulNBits",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
        "QMoE",
        "QOrderedMatMul",
    }
)
"""Operators whose quantized weights stay where they could not be rewritten."""

DYNAMIC = frozenset({"DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
"""Operators that round activations in steps of the range that a whole batch has."""

UNSCALED = "onnxscape.unscaled"
"""Key of `ir.Value.meta`: set on a weight that moves in units of its integers."""

_FLOAT = int(ir.DataType.FLOAT)


def dequantize_weights(model: ir.Model, notes: Notes) -> None:
    """Rewrite operators with quantized weights to float operators.

    Before: nodes are sorted, constants are initializers, no value is a half float unless it
    is to stay one. After: the operators of `REWRITES` are gone where their weights are
    integers and their scales and zero points constant. The new weight has the name and shape
    of the quantized one, and `Replacement` notes the user's operator.
    """
    rewriting = Rewriting(model)
    for node in list(model.graph.all_nodes()):
        if "Quantize" in node.op_type or node.op_type.startswith("QLinear"):
            notes.loosened.add("quantized")
        if node.op_type == "DequantizeLinear" and constant_array(node.inputs[0]) is not None:
            node.domain = ""  # that of com.microsoft means the same
        rewrite = REWRITES.get((node.domain, node.op_type))
        operator = Operator(rewriting, node)
        if rewrite is not None and rewrite(operator):
            notes.quantized_weight(operator.remark)
        elif node.op_type in NOT_MOVED and any(_is_matrix(v) for v in node.inputs):
            notes.warn(
                f"{node.op_type} {node.name!r} is quantized in a way that is not understood: "
                "its weights are not moved"
            )


def _is_matrix(value: ir.Value | None) -> bool:
    array = constant_array(value)
    return array is not None and sum(n > 1 for n in array.shape) > 1


class Operator:
    """A quantized node and what takes its place.

    Attributes:
        model: The model.
        node: The node.
        new: What takes its place.
        remark: What the user should know, where its weight is not the float it stands for.
    """

    def __init__(self, rewriting: Rewriting, node: ir.Node) -> None:
        """Look at a node; nothing changes until `finish`."""
        self.rewriting = rewriting
        self.node = node
        self.remark: str | None = None
        self.new = Replacement(rewriting, node)

    def value(self, slot: int) -> ir.Value | None:
        """Return an input; None if it is omitted."""
        inputs = self.node.inputs
        return inputs[slot] if slot < len(inputs) else None

    def array(self, slot: int) -> NDArray[Any] | None:
        """Return a constant input; None if it is omitted or not constant."""
        return constant_array(self.value(slot))

    def constant(self, *slots: int) -> bool:
        """Return whether these inputs are constant or omitted."""
        return all(self.value(slot) is None or self.array(slot) is not None for slot in slots)

    def single(self, *slots: int) -> bool:
        """Return whether these inputs are omitted or one constant number each."""
        arrays = (self.array(slot) for slot in slots)
        return self.constant(*slots) and all(a is None or a.size == 1 for a in arrays)

    def weight(self, slot: int, scale: int | None, zero_point: int, axis: int) -> ir.Value:
        """Return the float weight that takes the place of a quantized input."""
        array = self.array(slot)
        assert array is not None  # noqa: S101 - the caller has checked
        scales = None if scale is None else self.array(scale)
        return self.tensor(slot, dequantized(array, scales, self.array(zero_point), axis))

    def tensor(self, slot: int, array: NDArray[Any]) -> ir.Value:
        """Return an initializer that takes the place of an input."""
        old = self.value(slot)
        assert old is not None  # noqa: S101 - the caller has checked
        return self.new.tensor(old, array)

    def bias(self, slot: int, scale: NDArray[Any] | float) -> ir.Value | None:
        """Return the float bias in place of an int32 one."""
        array = self.array(slot)
        if array is None:
            return None
        return self.tensor(slot, (array * np.asarray(scale)).astype(np.float32))

    def add(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Return the output of a new node."""
        return self.new.add(op, list(inputs), **attributes).outputs[0]

    def kept(self, *names: str) -> dict[str, ir.Attr]:
        """Return those attributes of the node that the float operator has as well."""
        return {n: a for n, a in self.node.attributes.items() if not names or n in names}

    def centered(self, slot: int, zero_point: int) -> ir.Value:
        """Return an input as float minus its zero point, which need not be constant."""
        value = self.add("Cast", self.value(slot), to=_FLOAT)
        offset = self.value(zero_point)
        if offset is None:
            return value
        return self.add("Sub", value, self.add("Cast", offset, to=_FLOAT))

    def finish(self, value: ir.Value) -> bool:
        """Return True, after putting the new nodes in for an operator of one output."""
        self.new.finish([self.node.outputs[0]], [value])
        return True


def _q_linear_conv(op: Operator) -> bool:
    """Return whether x, scale, zero; w, scale, zero; y scale, zero; bias were rewritten."""
    if op.array(3) is None or not op.constant(4, 5, 8) or not op.single(1):
        return False
    x = op.add("DequantizeLinear", op.value(0), op.value(1), op.value(2))
    w = op.weight(3, 4, 5, axis=0)
    bias = op.bias(8, _product(op.array(1), op.array(4)))
    y = op.add("Conv", x, w, *([bias] if bias else []), **op.kept())
    return op.finish(op.add("QuantizeLinear", y, op.value(6), op.value(7)))


def _q_linear_matmul(op: Operator) -> bool:
    """Return whether a, scale, zero; b, scale, zero; y scale, zero were rewritten."""
    if op.array(3) is None or not op.constant(4, 5) or not op.single(1, 6):
        return False
    a = op.add("DequantizeLinear", op.value(0), op.value(1), op.value(2))
    y = op.add("MatMul", a, op.weight(3, 4, 5, axis=-1))
    return op.finish(op.add("QuantizeLinear", y, op.value(6), op.value(7)))


def _q_gemm(op: Operator) -> bool:
    """Return whether a, scale, zero; b, scale, zero; c; y scale, zero were rewritten."""
    if op.array(3) is None or not op.constant(4, 5, 6) or not op.single(1):
        return False
    found = op.node.attributes.get("alpha")
    alpha = 1.0 if found is None else found.as_float()
    a = op.add("DequantizeLinear", op.value(0), op.value(1), op.value(2))
    b = op.weight(3, 4, 5, axis=0 if attribute(op.node, "transB", 0) else -1)
    c = op.bias(6, alpha * _product(op.array(1), op.array(4)))
    y = op.add("Gemm", a, b, *([c] if c else []), **op.kept("alpha", "transA", "transB"))
    if op.value(7) is not None:
        y = op.add("QuantizeLinear", y, op.value(7), op.value(8))
    return op.finish(y)


def _integer(op: str) -> Callable[[Operator], bool]:
    """Return the rewrite of ConvInteger or MatMulInteger: x, w, zero of x, zero of w.

    Their int32 results are integers still: the scales of activations and weight come behind
    them. That of the weight goes into the weight, the other stays where it is.
    """

    def rewrite(found: Operator) -> bool:
        uses = list(found.node.outputs[0].uses())
        casts = [use.node for use in uses]
        floats = all(n.op_type == "Cast" and attribute(n, "to", 0) == _FLOAT for n in casts)
        integers = found.array(1)
        if integers is None or not found.constant(3) or not uses or not floats:
            return False
        if found.node.outputs[0].is_graph_output():
            return False
        rank = integers.ndim
        scale = scale_behind(
            found.node,
            [cast.outputs[0] for cast in casts],
            filters=1 if rank < 2 else integers.shape[0 if op == "Conv" else -1],
            axis=1 - rank if op == "Conv" else -1,
            rank=rank if op == "Conv" else max(1, rank - 1),
        )
        axis = 0 if op == "Conv" else -1
        values = None if scale is None else scale.values
        w = found.tensor(1, dequantized(integers, values, found.array(3), axis))
        if scale is None:
            found.remark = _unscaled(found.node)
            w.meta[UNSCALED] = True
        else:
            scale.take_out()
        y = found.add(op, found.centered(0, 2), w, **found.kept())
        further = [found.add("Identity", y) for _ in casts[1:]]
        found.new.finish([cast.outputs[0] for cast in casts], [y, *further])
        return True

    return rewrite


def _unscaled(node: ir.Node) -> str:
    return (
        f"{node.op_type} {node.name!r}: expected a Mul by the weight's constant scale behind "
        "it, one number or one for each filter, and found none: the weight moves in units of "
        "its integers. Only --normalize filter and --normalize weight give the surface of the "
        "float operator; with the others, and with direction files, its steps have another "
        "length"
    )


def _matmul_integer_to_float(op: Operator) -> bool:
    """Return whether a, b; scale of a, b; zero of a, b; bias were rewritten."""
    if op.array(1) is None or not op.constant(3, 5):
        return False
    a = op.add("Mul", op.centered(0, 4), op.value(2))
    y = op.add("MatMul", a, op.weight(1, 3, 5, axis=-1))
    bias = op.value(6)
    return op.finish(y if bias is None else op.add("Add", y, bias))


def _dynamic_quantize_matmul(op: Operator) -> bool:
    """Return whether a (float); b; scale of b; zero of b; bias were rewritten."""
    if op.array(1) is None or not op.constant(2, 3):
        return False
    quantized = op.new.add("DynamicQuantizeLinear", [op.value(0)], outputs=3)
    a = op.add("DequantizeLinear", *quantized.outputs)
    y = op.add("MatMul", a, op.weight(1, 2, 3, axis=-1))
    bias = op.value(4)
    return op.finish(y if bias is None else op.add("Add", y, bias))


def _dynamic_quantize_lstm(op: Operator) -> bool:
    """Return whether X, W, R, B, lengths, h, c, P; scale and zero of W, R were rewritten.

    W is [directions, in, 4H], R [directions, H, 4H]: a float LSTM takes them transposed.

    What its states are rounded to inside cannot be said with a float LSTM: they are not.
    """
    if op.array(1) is None or op.array(2) is None or not op.constant(8, 9, 10, 11):
        return False
    turned = []
    for slot, scale, zero_point in ((1, 8, 9), (2, 10, 11)):
        array = op.array(slot)
        assert array is not None  # noqa: S101 - checked above
        pair = [_by_direction(op.array(s), array.ndim) for s in (scale, zero_point)]
        w = op.tensor(slot, dequantized(array, pair[0], pair[1], axis=0))
        turned.append(op.add("Transpose", w, perm=[0, 2, 1]))
    rest = [op.value(slot) for slot in range(3, 8)]
    outputs = op.node.outputs
    lstm = op.new.add("LSTM", [op.value(0), *turned, *rest], outputs=len(outputs), **op.kept())
    op.new.finish(list(outputs), list(lstm.outputs))
    return True


def _by_direction(array: NDArray[Any] | None, rank: int) -> NDArray[Any] | None:
    """Return [dirs] or [dirs, 4H] numbers so that they broadcast against [dirs, in, 4H]."""
    if array is None or array.size == 1:
        return array
    return array.reshape((array.shape[0],) + (1,) * (rank - array.ndim) + array.shape[1:])


def _matmul_n_bits(op: Operator) -> bool:
    """Return whether A; packed W; scales; zero points; g_idx; bias were rewritten: A @ W^T."""
    bits = attribute(op.node, "bits", 4)
    packed, scales, zero_points = (op.array(slot) for slot in (1, 2, 3))
    if packed is None or scales is None or bits not in {2, 4, 8} or not op.constant(3):
        return False
    if op.value(4) is not None:
        return False
    w = blockwise(
        packed,
        scales,
        zero_points,
        shape=(attribute(op.node, "N", 0), attribute(op.node, "K", 0)),
        bits=bits,
        block=attribute(op.node, "block_size", 0),
    )
    turned = op.add("Transpose", op.tensor(1, w.astype(scales.dtype)), perm=[1, 0])
    y = op.add("MatMul", op.value(0), turned)
    bias = op.value(5)
    return op.finish(y if bias is None else op.add("Add", y, bias))


def _gather(op: Operator) -> bool:
    """Return whether rows of integers that are scaled behind became rows of floats."""
    rows = op.node.outputs[0]
    users = [use.node for use in rows.uses()]
    if len(users) != 1 or users[0].op_type != "DequantizeLinear" or rows.is_graph_output():
        return False
    behind = Operator(op.rewriting, users[0])
    table, scale = op.array(0), behind.array(1)
    if table is None or scale is None or not behind.single(1, 2):
        return False
    floats = dequantized(table, scale, behind.array(2), axis=0).astype(scale.dtype)
    looked_up = op.add("Gather", op.tensor(0, floats), op.value(1), **op.kept())
    op.new.finish([users[0].outputs[0]], [looked_up])
    return True


def _product(first: NDArray[Any] | None, second: NDArray[Any] | None) -> NDArray[np.float64]:
    assert first is not None  # noqa: S101 - the callers have checked
    assert second is not None  # noqa: S101 - the callers have checked
    return first.astype(np.float64).reshape(()) * second.astype(np.float64).ravel()


REWRITES: Mapping[tuple[str, str], Callable[[Operator], bool]] = {
    ("", "QLinearConv"): _q_linear_conv,
    ("", "QLinearMatMul"): _q_linear_matmul,
    ("", "ConvInteger"): _integer("Conv"),
    ("", "MatMulInteger"): _integer("MatMul"),
    ("", "Gather"): _gather,
    ("com.microsoft", "QGemm"): _q_gemm,
    ("com.microsoft", "MatMulIntegerToFloat"): _matmul_integer_to_float,
    ("com.microsoft", "DynamicQuantizeMatMul"): _dynamic_quantize_matmul,
    ("com.microsoft", "DynamicQuantizeLSTM"): _dynamic_quantize_lstm,
    ("com.microsoft", "MatMulNBits"): _matmul_n_bits,
}
"""(domain, operator) to what rewrites it; False if its operands are not as it needs them."""
