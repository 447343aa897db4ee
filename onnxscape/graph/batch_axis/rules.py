"""The table of operators: one rule each. What is not in it lets no batch through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis import (
    elementwise,
    layers,
    numbers,
    rearranging,
    reductions,
    repeating,
    reshaping,
)
from onnxscape.graph.batch_axis.state import MOST_AXES, MOST_SIZE, State, Unprovable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnxscape.graph.batch_axis.step import Rule, Step

_CONTRIB = "com.microsoft"

RULES: Mapping[tuple[str, str], Rule] = {
    **{("", op): elementwise.elementwise for op in elementwise.OPERATORS},
    **{(_CONTRIB, op): elementwise.elementwise for op in elementwise.CONTRIB},
    **{("", op): reductions.reduction for op in reductions.REDUCTIONS},
    ("", "ArgMax"): reductions.search,
    ("", "ArgMin"): reductions.search,
    ("", "AveragePool"): layers.pool,
    ("", "BatchNormalization"): reductions.channel_normalization,
    ("", "CastLike"): elementwise.like_first,
    ("", "Concat"): rearranging.concat,
    ("", "ConstantOfShape"): repeating.constant_of_shape,
    ("", "Conv"): layers.convolution,
    ("", "ConvTranspose"): layers.transposed_convolution,
    ("", "CumSum"): reductions.cumulative_sum,
    ("", "DepthToSpace"): rearranging.space_depth,
    ("", "DequantizeLinear"): reductions.quantization,
    ("", "Einsum"): layers.einsum,
    ("", "Expand"): repeating.expand,
    ("", "Flatten"): reshaping.flatten,
    ("", "GRU"): layers.recurrent,
    ("", "Gather"): rearranging.gather,
    ("", "GatherElements"): rearranging.gather_elements,
    ("", "Gemm"): layers.gemm,
    ("", "GlobalAveragePool"): layers.global_pool,
    ("", "GlobalLpPool"): layers.global_pool,
    ("", "GlobalMaxPool"): layers.global_pool,
    ("", "GridSample"): layers.grid_sample,
    ("", "GroupNormalization"): reductions.of_first_axis,
    ("", "Hardmax"): reductions.softmax,
    ("", "InstanceNormalization"): reductions.of_first_axis,
    ("", "LRN"): reductions.of_first_axis,
    ("", "LSTM"): layers.recurrent,
    ("", "LayerNormalization"): reductions.layer_normalization,
    ("", "LogSoftmax"): reductions.softmax,
    ("", "LpNormalization"): reductions.along_one_axis(-1),
    ("", "LpPool"): layers.pool,
    ("", "MatMul"): layers.matmul,
    ("", "MaxPool"): layers.pool,
    ("", "MeanVarianceNormalization"): reductions.mean_variance,
    ("", "OneHot"): rearranging.one_hot,
    ("", "Pad"): repeating.pad,
    ("", "QuantizeLinear"): reductions.quantization,
    ("", "RMSNormalization"): reductions.layer_normalization,
    ("", "RNN"): layers.recurrent,
    ("", "Range"): rearranging.range_,
    ("", "Reshape"): reshaping.reshape,
    ("", "Resize"): repeating.resize,
    ("", "SequenceAt"): rearranging.sequence_at,
    ("", "SimplifiedLayerNormalization"): reductions.layer_normalization,
    ("", "Slice"): rearranging.slice_,
    ("", "Softmax"): reductions.softmax,
    ("", "SpaceToDepth"): rearranging.space_depth,
    ("", "Split"): rearranging.split,
    ("", "SplitToSequence"): rearranging.split_to_sequence,
    ("", "Squeeze"): rearranging.squeeze,
    ("", "Tile"): repeating.tile,
    ("", "TopK"): reductions.top,
    ("", "Transpose"): rearranging.transpose,
    ("", "Trilu"): rearranging.trilu,
    ("", "Unsqueeze"): rearranging.unsqueeze,
    (_CONTRIB, "FusedConv"): layers.convolution,
    (_CONTRIB, "FusedGemm"): layers.gemm,
    (_CONTRIB, "FusedMatMul"): layers.fused_matmul,
    (_CONTRIB, "SkipLayerNormalization"): reductions.skip_layer_normalization,
}
"""(domain, operator) to its rule."""

_TAKES_SIZES = frozenset(
    {("Reshape", 1), ("Expand", 1), ("ConstantOfShape", 0), ("Resize", 3)}
)
"""(operator, input slot) where a number that depends on the batch size may go."""


def follow(step: Step) -> Sequence[State]:
    """Return what is known of a node's outputs.

    Args:
        step: The node.

    Returns:
        One state for each output, or one for all.

    Raises:
        Unprovable: If samples might see each other, or the batch size might matter.
    """
    if any(attr.type.name in {"GRAPH", "GRAPHS"} for attr in step.node.attributes.values()):
        raise Unprovable("runs a graph of its own, which is not followed")
    concerned = any(state.along is not None or state.sized for state in step.given)
    try:
        made = _followed(step)
        for state in made:
            _refuse_absurd(state)
    except Unprovable:
        if concerned:
            raise
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        if concerned:
            raise Unprovable("does not fit its inputs") from error
    else:
        return made
    return [State(None)]


def _refuse_absurd(state: State) -> None:
    """Keep what a graph may make of ranks and sizes from growing with every node.

    Raises:
        Unprovable: If a value has more axes or larger ones than there can be.
    """
    shape = state.shape or ()
    if len(shape) > MOST_AXES:
        raise Unprovable(f"makes a value of more than {MOST_AXES} axes")
    if any(size is not None and size > MOST_SIZE for size in shape):
        raise Unprovable(f"makes an axis of more than {MOST_SIZE} elements")


def _followed(step: Step) -> Sequence[State]:
    if step.node.domain == "" and step.node.op_type == "Shape":
        sizes = numbers.shape_of(step)
        return [State((None,)) if sizes is None else State(sizes.shape, numbers=sizes)]
    found = numbers.of_outputs(step)
    if found is not None:
        return [found]
    for slot, state in enumerate(step.states):
        takes = (step.node.op_type, slot) in _TAKES_SIZES
        if state is not None and state.sized and not takes:
            raise Unprovable("computes with the batch size, which is not followed")
    rule = RULES.get((step.node.domain, step.node.op_type))
    if any(len(state.shape or ()) > MOST_AXES for state in step.given):
        raise Unprovable(f"has an input of more than {MOST_AXES} axes")
    if rule is None:
        raise Unprovable("is an operator of which it is not known what it does to a batch")
    return rule(step)
