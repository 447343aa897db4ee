"""Folding BatchNormalization into the weights before it, where no direction moves it.

BN(W x + b) = (s W) x + (s b + shift), s and shift per output channel. The factor is constant
while weights move, so a step of W is a step of s W: the surface stays the same and every
evaluation saves the normalization.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.graph.operands import resolve
from onnxscape.graph.operators import WEIGHTS, operator_name
from onnxscape.graph.scales import BatchNorm, batch_norm, only_consumer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from numpy.typing import NDArray

    from onnxscape.core.parameter import Parameter

FOLDABLE = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Operators with a bias operand whose output's axis 1 counts the channels."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldedWeight:
    """A weight that now carries the scale of a normalization.

    Attributes:
        parameter: The user's parameter.
        tensor: Name of the tensor in the prepared graph that replaces it.
        scale: float64 [filters], the factor per filter.
    """

    parameter: Parameter
    tensor: str
    scale: NDArray[np.float64]


def fold_batch_norms(
    model: ir.Model, parameters: Mapping[str, Parameter], moved: Collection[str]
) -> tuple[FoldedWeight, ...]:
    """Fold every BatchNormalization that directly follows a moved weight of its own.

    Args:
        model: Canonical model; changed in place.
        parameters: Its parameters by name.
        moved: Names of those that move.

    Returns:
        The weights that were folded. Those that other nodes use too, and those whose bias or
        normalization moves, are left as they are.
    """
    pairs = list(foldable(model, parameters, moved))
    return tuple(_fold(model.graph, *pair) for pair in pairs)


def foldable(
    model: ir.Model, parameters: Mapping[str, Parameter], moved: Collection[str]
) -> Iterator[tuple[ir.Node, BatchNorm, Parameter]]:
    """Find every BatchNormalization that directly follows a moved weight of its own.

    Args:
        model: Canonical model.
        parameters: Its parameters by name.
        moved: Names of those that move.

    Yields:
        The operator of the weight, the normalization behind it, and the weight.
    """
    for node in model.graph:
        if node.op_type not in FOLDABLE or len(node.inputs) < 2:
            continue
        weight, follower = node.inputs[1], only_consumer(node.outputs[0])
        if follower is None or follower.graph is not node.graph:
            continue
        norm = batch_norm(follower)
        if weight is None or norm is None or norm.node.inputs[0] is not node.outputs[0]:
            continue
        parameter = parameters.get(str(weight.name))
        if parameter is not None and _may_fold(node, weight, norm, parameter, moved):
            yield node, norm, parameter


def _may_fold(
    node: ir.Node,
    weight: ir.Value,
    norm: BatchNorm,
    parameter: Parameter,
    moved: Collection[str],
) -> bool:
    alone = weight.is_initializer() and len(list(weight.uses())) == 1
    if parameter.name not in moved or not alone or weight.is_graph_output():
        return False
    if any(name in moved for name in norm.sources):
        return False  # both factors would move, and their product is no longer linear
    filters = norm.scale.size
    own = WEIGHTS[operator_name(node), 1].layout(node, parameter.shape)
    # The user may have chosen another axis: then the scale is not one number per filter.
    if own is None or parameter.layout != own or own.filters != filters:
        return False
    plain = len(norm.node.outputs) == 1 and (node.op_type != "Gemm" or _plain_gemm(node))
    return plain and _bias_is_constant(node, filters, moved)


def _bias_is_constant(node: ir.Node, filters: int, moved: Collection[str]) -> bool:
    bias = _bias(node)
    if bias is None:
        return True
    operand = resolve(bias)
    if operand is None or operand.source.name in moved:
        return False
    # Gemm also takes [M, 1], a bias per sample: that is none of the channels'.
    size = math.prod(operand.shape)
    return size == 1 or (size == filters and operand.shape[-1] == filters)


def _plain_gemm(node: ir.Node) -> bool:
    factors = (node.attributes.get(name) for name in ("alpha", "beta"))
    return all(factor is None or factor.as_float() == 1.0 for factor in factors)


def _bias(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _fold(
    graph: ir.Graph, node: ir.Node, norm: BatchNorm, parameter: Parameter
) -> FoldedWeight:
    bias = np.zeros(norm.scale.size)
    operand = resolve(_bias(node))
    if operand is not None:
        bias = bias + operand.float64().ravel()
    weight = FoldedWeight(parameter, f"{parameter.name}::folded", norm.scale)
    dtype = parameter.values.dtype
    values = {
        weight.tensor: scaled(parameter, parameter.values, norm.scale),
        f"{parameter.name}::folded_bias": (bias * norm.scale + norm.shift).astype(dtype),
    }
    inputs = [node.inputs[0]]
    for name, array in values.items():
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        graph.register_initializer(value)
        inputs.append(value)
    conv = ir.node(
        node.op_type,
        inputs,
        {attr.name: attr for attr in node.attributes.values()},
        domain=node.domain,
        name=node.name,
    )
    conv.outputs[0].name = f"{node.outputs[0].name}::folded"
    graph.insert_before(node, conv)
    old = norm.node.outputs[0]
    ir.convenience.replace_nodes_and_values(
        graph, conv, [norm.node, node], [], [old], [conv.outputs[0]]
    )
    return weight


def scaled(
    parameter: Parameter, tensor: NDArray[np.floating], scale: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Multiply each filter of a tensor shaped like a parameter by its factor.

    Args:
        parameter: Says how filters lie in the tensor.
        tensor: Weights or a direction.
        scale: float64 [filters].

    Returns:
        The scaled tensor, computed in float64, in the tensor's type.

    Raises:
        TypeError: If the parameter is no weight.
    """
    if parameter.layout is None:
        raise TypeError(f"{parameter.name} has no filters")
    matrix = parameter.layout.to_filters(tensor).astype(np.float64) * scale[:, None]
    return np.ascontiguousarray(parameter.layout.from_filters(matrix), dtype=tensor.dtype)
