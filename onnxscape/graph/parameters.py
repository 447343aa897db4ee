"""Finding the parameters of a model: what may be moved, and how filters lie in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.filters import rearranged
from onnxscape.core.parameter import Parameter, Role
from onnxscape.graph.operands import Operand, in_evaluation_order, resolve
from onnxscape.graph.operators import ARITHMETIC, ROLES, WEIGHTS
from onnxscape.graph.scales import signs_behind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    from onnxscape.core.filters import FilterLayout

_FLOATS = frozenset(np.dtype(t) for t in (np.float16, np.float32, np.float64))
"""Element types of weights that are moved."""


_PRECEDENCE: Mapping[Role, int] = {
    Role.CONSTANT: 0,
    Role.BIAS: 1,
    Role.NORMALIZATION: 1,
    # Exporters merge equal tensors: to move such a scale would be to move a variance.
    Role.STATISTIC: 2,
    Role.WEIGHT: 3,
}
"""Which of its roles a tensor has that is used in several; among equals the first."""


_CARRIERS = frozenset(
    {"Identity", "Cast", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
    # A normalization over a sample's own values is written out with these.
    | {"GlobalAveragePool", "ReduceMean", "Neg", "Pow", "Sqrt", "Reciprocal"}
    | set(ARITHMETIC)
    | {op for op, _ in ROLES}
)
"""Behind these a layer is not over yet: a constant added to it may still be its bias."""


@dataclass(slots=True)
class _Finding:
    """What is known of one tensor while the graph is walked."""

    role: Role
    op: str
    nodes: list[str] = field(default_factory=list)
    layout: FilterLayout | None = None
    filter_axis: int | None = None
    noise_key: int | None = None
    signs: NDArray[np.float64] | None = None
    merged: bool = False


def find_parameters(model: ir.Model) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Find every float tensor of a canonical model and what it is.

    Args:
        model: The model, in canonical form.

    Returns:
        The parameters in file order, and warnings about weights that will not be moved.
    """
    findings: dict[str, _Finding] = {}
    behind_weights: set[ir.Node] = set()
    for node in in_evaluation_order(model.graph):
        _visit(node, findings, behind_weights)
    parameters: list[Parameter] = []
    warnings: list[str] = []
    for name, value in model.graph.initializers.items():
        finding = findings.get(name)
        if finding is None or value.const_value is None:
            continue
        values = value.const_value.numpy()
        warnings += _warnings_about(name, finding, values)
        if values.dtype in _FLOATS:
            parameters.append(_parameter(name, finding, values))
    warnings += _warnings_about_all(model, findings)
    return tuple(parameters), tuple(warnings)


def _parameter(name: str, finding: _Finding, values: NDArray[np.floating]) -> Parameter:
    if finding.layout is not None:
        _check_layout(name, finding.layout, values.shape)
    return Parameter(
        name=name,
        shape=values.shape,
        role=finding.role,
        op=finding.op,
        nodes=tuple(finding.nodes),
        values=values,
        filter_axis=finding.filter_axis,
        layout=finding.layout,
        noise_key=finding.noise_key,
        signs=finding.signs,
    )


def _warnings_about(name: str, finding: _Finding, values: NDArray[Any]) -> Iterator[str]:
    """Yield what is to be said of one tensor."""
    is_float = values.dtype in _FLOATS
    if finding.role is Role.WEIGHT:
        if not is_float:
            yield f"weight {name!r} is {values.dtype} and is not moved"
        elif not np.isfinite(values).all():
            count = np.count_nonzero(~np.isfinite(values))
            yield f"weight {name!r} holds {count} values that are NaN or infinite"
    elif is_float and finding.role is Role.CONSTANT and sum(n > 1 for n in values.shape) > 1:
        yield (
            f"tensor {name!r} {list(values.shape)} of {finding.op} is not moved: "
            f"{finding.op} is not known to have weights there"
        )


def _warnings_about_all(model: ir.Model, findings: Mapping[str, _Finding]) -> Iterator[str]:
    """Yield what is to be said of several tensors at once."""
    merged = [n for n, f in findings.items() if f.merged and f.role is Role.STATISTIC]
    if merged:
        yield (
            f"{', '.join(merged)}: the exporter merged equal tensors, and these are also "
            "running statistics; they are not moved, not even with --ignore none"
        )
    moved = {name for name, finding in findings.items() if finding.role is Role.WEIGHT}
    inner = _weights_of_bodies(model) - moved
    if inner:
        names = ", ".join(sorted(inner))
        yield f"weights inside If, Loop or Scan bodies are not moved: {names}"


def _check_layout(name: str, layout: FilterLayout, shape: tuple[int, ...]) -> None:
    """Prove that the filters of a weight can be taken from its values.

    Raises:
        ValueError: If its sizes contradict its values or the attributes of its operator.
    """
    fits = layout.shape == shape
    if fits:
        matrix = layout.to_filters(np.empty(shape, dtype=np.bool_))
        fits = matrix.shape == (layout.filters, layout.elements)
    if not fits:
        raise ValueError(f"weight {name!r} has values of shape {list(shape)}")


def _weights_of_bodies(model: ir.Model) -> set[str]:
    """Return the names of weights that the bodies of control-flow nodes hold or capture."""
    return {
        str(operand.source.name)
        for node in model.graph.all_nodes()
        if node.graph is not model.graph
        for slot, value in enumerate(node.inputs)
        if (operand := resolve(value)) is not None
        and _role(node, slot, operand, behind=False) is Role.WEIGHT
    }


def _visit(node: ir.Node, findings: dict[str, _Finding], behind_weights: set[ir.Node]) -> None:
    """Note the roles of a node's constant operands."""
    if any(resolve(value) is not None for value in node.outputs):
        return  # a view: the tensor belongs to who uses the view
    behind = any(
        value is not None and value.producer() in behind_weights for value in node.inputs
    )
    for slot, value in enumerate(node.inputs):
        operand = resolve(value)
        if operand is None:
            continue
        role = _role(node, slot, operand, behind=behind)
        name = str(operand.source.name)
        known = findings.get(name)
        roles = {role} if known is None else {role, known.role}
        if known is None or _PRECEDENCE[role] > _PRECEDENCE[known.role]:
            nodes = [] if known is None else known.nodes
            known = findings[name] = _Finding(role, node.op_type, nodes)
            if role is Role.WEIGHT:
                _describe_weight(known, node, slot, operand)
                known.noise_key = sum(f.role is Role.WEIGHT for f in findings.values()) - 1
        if Role.STATISTIC in roles and roles & {Role.BIAS, Role.NORMALIZATION}:
            known.merged = True
        if node.name and node.name not in known.nodes:
            known.nodes.append(node.name)
        behind = behind or role is Role.WEIGHT
    if behind and (node.op_type in _CARRIERS or (node.op_type, 1) in WEIGHTS):
        behind_weights.add(node)


def _role(node: ir.Node, slot: int, operand: Operand, *, behind: bool) -> Role:
    if node.domain not in {"", "ai.onnx", "com.microsoft"}:
        return Role.CONSTANT
    size = int(np.prod(operand.shape))
    if (node.op_type, slot) in WEIGHTS:
        # A product of two constants is no layer.
        others = [v for i, v in enumerate(node.inputs[:2]) if i != slot]
        return Role.WEIGHT if any(resolve(v) is None for v in others) else Role.CONSTANT
    if (node.op_type, slot) in ROLES:
        return ROLES[node.op_type, slot]
    if node.op_type in ARITHMETIC and behind and (size > 1 or _adds_to_layer(node, operand)):
        return ARITHMETIC[node.op_type]
    return Role.CONSTANT


def _adds_to_layer(node: ir.Node, operand: Operand) -> bool:
    """Return whether a single value is the bias of a layer with one output, not a constant."""
    producers = [value.producer() for value in node.inputs if value is not None]
    behind = any(
        p is not None and any((p.op_type, i) in WEIGHTS for i in range(2)) for p in producers
    )
    return node.op_type == "Add" and len(operand.shape) > 0 and behind


def _describe_weight(finding: _Finding, node: ir.Node, slot: int, operand: Operand) -> None:
    rule = WEIGHTS[node.op_type, slot]
    layout = rule.layout(node, operand.shape)
    finding.layout = layout.behind(operand.source_shape, operand.view)
    axis = rule.axis(node, operand.shape)
    finding.filter_axis = _source_axis(axis, operand)
    channel_axis = rule.channel_axis(operand.shape)
    rank = _output_rank(node, operand)
    if channel_axis is not None:
        finding.signs = signs_behind(node, layout.filters, rank, channel_axis)


def _source_axis(axis: int | None, operand: Operand) -> int | None:
    """Return the axis of the source that becomes an axis of the operand, if one does."""
    if axis is None or not operand.view:
        return axis
    shape = operand.source_shape
    index = np.arange(int(np.prod(shape))).reshape(shape)
    from_source = rearranged(index, operand.view)
    rows = np.moveaxis(from_source, axis, 0).reshape(from_source.shape[axis], -1)
    for candidate in range(len(shape)):
        if shape[candidate] == rows.shape[0]:
            mine = np.moveaxis(index, candidate, 0).reshape(rows.shape)
            if (np.sort(rows, axis=1) == np.sort(mine, axis=1)).all():
                return candidate
    return None


def _output_rank(node: ir.Node, operand: Operand) -> int | None:
    if node.op_type == "MatMul":
        shape = node.outputs[0].shape
        return None if shape is None else len(shape)
    return len(operand.shape)
