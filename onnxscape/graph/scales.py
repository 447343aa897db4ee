"""Scales: the constant per-channel factors that follow the operator of a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.graph.operands import integers, resolve

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """A BatchNormalization in inference: y = scale * x + shift per channel.

    Attributes:
        node: The node.
        sources: Names of the tensors it is made of: gamma, beta, mean, variance.
        scale: float64 [channels], gamma / sqrt(variance + epsilon).
        shift: float64 [channels], beta - mean * scale.
    """

    node: ir.Node
    sources: tuple[str, ...]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


def batch_norm(node: ir.Node) -> BatchNorm | None:
    """Read a BatchNormalization whose four tensors are constant.

    Args:
        node: Any node.

    Returns:
        Its arithmetic; None for other nodes and for tensors that are not constant.
    """
    if node.op_type != "BatchNormalization":
        return None
    operands = [resolve(value) for value in node.inputs[1:5]]
    values = [operand.float64() for operand in operands if operand is not None]
    if len(values) != 4 or len({value.size for value in values}) != 1:
        return None
    gamma, beta, mean, variance = (value.ravel() for value in values)
    found = node.attributes.get("epsilon")
    epsilon = 1e-5 if found is None else found.as_float()
    if (variance + epsilon <= 0).any():
        return None  # its output is not finite: left to ONNX Runtime as it is
    scale = gamma / np.sqrt(variance + epsilon)
    names = tuple(str(operand.source.name) for operand in operands if operand is not None)
    return BatchNorm(node, names, scale, beta - mean * scale)


def only_consumer(value: ir.Value) -> ir.Node | None:
    """Return the node that alone uses a value; None if there are others or it is an output."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0].node


def signs_behind(
    node: ir.Node, filters: int, rank: int | None, channel_axis: int
) -> NDArray[np.float64] | None:
    """Find the sign of what multiplies each output channel before anything else uses it.

    Args:
        node: The operator of the weight.
        filters: Number of its output channels.
        rank: Number of axes of its output; None if the file does not tell.
        channel_axis: The axis that counts the channels; -1 or not negative.

    Returns:
        +1 or -1 per filter [filters]; None if nothing multiplies the channels. A factor of 0
        counts as +1: it silences its channel whatever the direction.
    """
    signs = np.ones(filters)
    found = False
    follower = only_consumer(node.outputs[0])
    while follower is not None:
        if follower.op_type in {"Squeeze", "Unsqueeze"}:
            rank = _rank_behind(follower, rank, channel_axis)
            if rank is None:
                break
            follower = only_consumer(follower.outputs[0])
            continue
        factor = _factor(follower, filters, rank, channel_axis)
        if factor is None:
            break
        found = found or factor.size > 0
        signs[: factor.size] *= np.where(factor < 0, -1.0, 1.0)
        follower = only_consumer(follower.outputs[0])
    return signs if found else None


def _rank_behind(node: ir.Node, rank: int | None, channel_axis: int) -> int | None:
    """Return the rank behind a Squeeze or Unsqueeze; None if the channel axis may move."""
    axes = integers(node, "axes")
    if axes is None or rank is None or channel_axis < 0:
        return None
    change = -len(axes) if node.op_type == "Squeeze" else len(axes)
    wider = max(rank, rank + change)
    return rank + change if all(axis % wider > channel_axis for axis in axes) else None


_NO_FACTOR = np.zeros(0)


def _factor(
    node: ir.Node, filters: int, rank: int | None, channel_axis: int
) -> NDArray[np.float64] | None:
    """Return a node's factor per channel, empty if it has none; None if it ends the chain."""
    if node.op_type == "Identity":
        return _NO_FACTOR
    if node.op_type == "BatchNormalization":
        # Where the rank is not told, [batch, channels] is what people normalize.
        second = channel_axis == 1 or (channel_axis == -1 and rank in {None, 2})
        norm = batch_norm(node) if second else None
        return norm.scale if norm is not None and norm.scale.size == filters else None
    few = node.inputs if len(node.inputs) == 2 else ()
    constants = [operand for value in few if (operand := resolve(value)) is not None]
    if len(constants) != 1:
        return None
    first_is_constant = resolve(node.inputs[0]) is not None
    if node.op_type in {"Add", "Sub"}:
        return -np.ones(filters) if node.op_type == "Sub" and first_is_constant else _NO_FACTOR
    scales = node.op_type == "Mul" or (node.op_type == "Div" and not first_is_constant)
    if not scales or not _per_channel(constants[0].shape, filters, rank, channel_axis):
        return None
    return constants[0].float64().ravel()


def _per_channel(
    shape: tuple[int, ...], filters: int, rank: int | None, channel_axis: int
) -> bool:
    """Return whether a tensor that is broadcast holds one number per channel."""
    if math.prod(shape) != filters:
        return False
    if channel_axis >= 0 and rank is not None:
        shape = ((1,) * (rank - len(shape)) + shape)[: channel_axis + 1]
    # Shapes are aligned at their ends: the last axis is the last one whatever the rank.
    return filters == 1 or shape[-1] == filters
