"""The tables: operators and slots to the rules for weights there and to other roles.

Operators of other domains than the default one are called `domain.Operator`. Those of
com.microsoft are what ONNX Runtime's own optimizers write into a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.core.parameter import Role
from onnxscape.graph.operators.layers import (
    ACTIVATED_CONV,
    CONV,
    CONV_TRANSPOSE,
    EMBEDDING,
    GATHER,
    PROJECTION,
    SLICE,
    STACKED_ROWS,
)
from onnxscape.graph.operators.products import (
    ACTIVATED_GEMM_A,
    ACTIVATED_GEMM_B,
    EINSUM,
    GEMM_A,
    GEMM_B,
    MATMUL_A,
    MATMUL_B,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.graph.operators.rules import WeightRule

    Slot = tuple[str, int]

_MAX_FACTORS = 4

WEIGHTS: Mapping[Slot, WeightRule] = {
    ("Conv", 1): CONV,
    ("ConvTranspose", 1): CONV_TRANSPOSE,
    ("DeformConv", 1): CONV,
    ("Gemm", 0): GEMM_A,
    ("Gemm", 1): GEMM_B,
    ("MatMul", 0): MATMUL_A,
    ("MatMul", 1): MATMUL_B,
    **{("Einsum", slot): EINSUM(slot) for slot in range(_MAX_FACTORS)},
    ("CausalConvWithState", 1): ACTIVATED_CONV,
    ("LSTM", 1): STACKED_ROWS,
    ("LSTM", 2): STACKED_ROWS,
    ("GRU", 1): STACKED_ROWS,
    ("GRU", 2): STACKED_ROWS,
    ("RNN", 1): STACKED_ROWS,
    ("RNN", 2): STACKED_ROWS,
    ("Gather", 0): GATHER,
    ("Slice", 0): SLICE,
    ("com.microsoft.FusedConv", 1): ACTIVATED_CONV,
    ("com.microsoft.NhwcConv", 1): ACTIVATED_CONV,
    ("com.microsoft.NhwcFusedConv", 1): ACTIVATED_CONV,
    ("com.microsoft.FusedGemm", 0): ACTIVATED_GEMM_A,
    ("com.microsoft.FusedGemm", 1): ACTIVATED_GEMM_B,
    ("com.microsoft.FusedMatMul", 0): MATMUL_A,
    ("com.microsoft.FusedMatMul", 1): MATMUL_B,
    ("com.microsoft.TransposeMatMul", 0): MATMUL_A,
    ("com.microsoft.TransposeMatMul", 1): MATMUL_B,
    ("com.microsoft.ConvTransposeWithDynamicPads", 1): CONV_TRANSPOSE,
    ("com.microsoft.CausalConvWithState", 1): ACTIVATED_CONV,
    ("com.microsoft.GemmFastGelu", 1): PROJECTION,
    ("com.microsoft.Attention", 1): PROJECTION,
    ("com.microsoft.EmbedLayerNormalization", 2): EMBEDDING,
    ("com.microsoft.EmbedLayerNormalization", 3): EMBEDDING,
    ("com.microsoft.EmbedLayerNormalization", 4): EMBEDDING,
    ("com.microsoft.MoE", 2): STACKED_ROWS,
    ("com.microsoft.MoE", 4): STACKED_ROWS,
    ("com.microsoft.MoE", 6): STACKED_ROWS,
}
"""(operator, input slot) to the rule for the weight there."""

ROLES: Mapping[Slot, Role] = {
    ("Conv", 2): Role.BIAS,
    ("ConvTranspose", 2): Role.BIAS,
    ("DeformConv", 3): Role.BIAS,
    ("CausalConvWithState", 2): Role.BIAS,
    ("Gemm", 2): Role.BIAS,
    ("LSTM", 3): Role.BIAS,
    ("LSTM", 7): Role.BIAS,
    ("GRU", 3): Role.BIAS,
    ("RNN", 3): Role.BIAS,
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
    ("com.microsoft.FusedConv", 2): Role.BIAS,
    ("com.microsoft.NhwcConv", 2): Role.BIAS,
    ("com.microsoft.NhwcFusedConv", 2): Role.BIAS,
    ("com.microsoft.ConvTransposeWithDynamicPads", 3): Role.BIAS,
    ("com.microsoft.CausalConvWithState", 2): Role.BIAS,
    ("com.microsoft.FusedGemm", 2): Role.BIAS,
    ("com.microsoft.GemmFastGelu", 2): Role.BIAS,
    ("com.microsoft.Attention", 2): Role.BIAS,
    ("com.microsoft.MultiHeadAttention", 3): Role.BIAS,
    ("com.microsoft.DecoderMaskedMultiHeadAttention", 10): Role.BIAS,
    ("com.microsoft.RelativePositionBias", 0): Role.BIAS,
    ("com.microsoft.MoE", 3): Role.BIAS,
    ("com.microsoft.MoE", 5): Role.BIAS,
    ("com.microsoft.MoE", 7): Role.BIAS,
    ("com.microsoft.BiasGelu", 1): Role.BIAS,
    ("com.microsoft.FastGelu", 1): Role.BIAS,
    ("com.microsoft.BiasSplitGelu", 1): Role.BIAS,
    ("com.microsoft.BiasAdd", 1): Role.BIAS,
    ("com.microsoft.BiasDropout", 1): Role.BIAS,
    ("com.microsoft.EmbedLayerNormalization", 5): Role.NORMALIZATION,
    ("com.microsoft.EmbedLayerNormalization", 6): Role.NORMALIZATION,
    ("com.microsoft.SkipLayerNormalization", 2): Role.NORMALIZATION,
    ("com.microsoft.SkipLayerNormalization", 3): Role.NORMALIZATION,
    ("com.microsoft.SkipLayerNormalization", 4): Role.BIAS,
    ("com.microsoft.SkipSimplifiedLayerNormalization", 2): Role.NORMALIZATION,
    ("com.microsoft.SkipSimplifiedLayerNormalization", 3): Role.BIAS,
    ("com.microsoft.GroupNorm", 1): Role.NORMALIZATION,
    ("com.microsoft.GroupNorm", 2): Role.NORMALIZATION,
    ("com.microsoft.SkipGroupNorm", 1): Role.NORMALIZATION,
    ("com.microsoft.SkipGroupNorm", 2): Role.NORMALIZATION,
    ("com.microsoft.SkipGroupNorm", 4): Role.BIAS,
}
"""(operator, input slot) to the role of the other trained tensors."""

ARITHMETIC: Mapping[str, Role] = {
    "Add": Role.BIAS,
    "Sub": Role.BIAS,
    "Mul": Role.NORMALIZATION,
    "Div": Role.NORMALIZATION,
}
"""Operators whose constant operand is a trained tensor when it comes behind a weight."""

LINEAR = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "DeformConv",
        "Gemm",
        "MatMul",
        "Einsum",
        "com.microsoft.FusedMatMul",
        "com.microsoft.TransposeMatMul",
    }
)
"""Operators that are nothing but a product with their weight, but for a bias."""

CARRIERS = (
    LINEAR
    | frozenset(ARITHMETIC)
    | frozenset({"Gather", "Slice", "Identity", "Cast", "Reshape", "Transpose", "Flatten"})
    | frozenset({"Squeeze", "Unsqueeze", "PRelu", "BatchNormalization"})
    | frozenset({"InstanceNormalization", "GroupNormalization", "LayerNormalization"})
    | frozenset({"RMSNormalization", "SimplifiedLayerNormalization"})
    | frozenset({"com.microsoft.GroupNorm", "com.microsoft.SkipLayerNormalization"})
    | frozenset({"com.microsoft.SkipSimplifiedLayerNormalization"})
    # A normalization over a sample's own values is written out with these.
    | frozenset({"GlobalAveragePool", "ReduceMean", "Neg", "Pow", "Sqrt", "Reciprocal"})
)
"""Behind these a layer is not over yet: a constant added to it may still be its bias."""
