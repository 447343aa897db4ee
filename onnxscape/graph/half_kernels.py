"""Which operators ONNX Runtime computes in half floats on CUDA.

Schemas say what an operator may take; a kernel for it is another matter. Where there is none
in float16, ONNX Runtime computes on the CPU between conversions; in bfloat16 it refuses.
"""

from __future__ import annotations

_WITH_BFLOAT16 = """
    Add, Attention, AveragePool, Cast, Compress, Concat, Conv, Div, Dropout, Erf, Exp, Expand,
    Flatten, Gather, GatherElements, GatherND, Gelu, Gemm, HardSigmoid, HardSwish, Identity,
    IsInf, IsNaN, LayerNormalization, MatMul, Max, Min, Mod, Mul, Neg, Pow, ReduceSum, Relu,
    Reshape, ReverseSequence, RMSNormalization, RotaryEmbedding, ScatterElements, ScatterND,
    Shape, Sigmoid, Sign, Size, Slice, Softmax, Split, Sqrt, Squeeze, Sub, Sum, Tanh, Tile,
    Transpose, Trilu, Unsqueeze, Where
"""
"""With a kernel in every version whose schema allows bfloat16.

From the list of kernels in ONNX Runtime's own documentation, docs/OperatorKernels.md.
"""

_BFLOAT16 = frozenset(_WITH_BFLOAT16.replace(",", " ").split())

_NOT_FLOAT16 = frozenset({"EyeLike", "GridSample", "RoiAlign"})
"""With a kernel for float32, and none for float16."""

_FLOAT16_FROM = {"Clip": 12, "CumSum": 14}
"""First version with a kernel for float16, where older ones have only float32."""

_QUANTIZING = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})
"""Their scales are part of what a quantized model is."""


def computes_in_half(op: str, precision: str, version: int) -> bool:
    """Return whether an operator of the default domain is computed in half.

    Args:
        op: Its type.
        precision: `fp16` or `bf16`.
        version: Its version; its schema is asked besides.
    """
    if op in _QUANTIZING:
        return False
    if precision == "bf16":
        return op in _BFLOAT16
    return op not in _NOT_FLOAT16 and version >= _FLOAT16_FROM.get(op, 0)
