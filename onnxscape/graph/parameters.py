"""Finding the parameters of a model: what may be moved, and how filters lie in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.parameter import TRAINABLE, Parameter, Role
from onnxscape.core.selection import Overrides, Spare, overridden
from onnxscape.graph.copies import copies_among
from onnxscape.graph.operands import bodies, in_evaluation_order, resolve
from onnxscape.graph.operators import (
    CARRIERS,
    operator_name,
    reported_name,
)
from onnxscape.graph.operators.layers import is_table
from onnxscape.graph.roles import FLOATS, Filters, Place, filters_of, role_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from onnxscape.core.filters import FilterLayout
    from onnxscape.graph.operands import Operand

_PRECEDENCE: Mapping[Role, int] = {
    Role.CONSTANT: 0,
    Role.BIAS: 1,
    Role.NORMALIZATION: 1,
    # Exporters merge equal tensors: to move such a scale would be to move a variance.
    Role.STATISTIC: 2,
    Role.WEIGHT: 3,
}
"""Which of its roles a tensor has that is used in several; among equals the first."""

_ATTRIBUTE_WEIGHTS = frozenset(
    {
        "LinearClassifier",
        "LinearRegressor",
        "SVMClassifier",
        "SVMRegressor",
        "TreeEnsemble",
        "TreeEnsembleClassifier",
        "TreeEnsembleRegressor",
    }
)
"""Operators of ai.onnx.ml that keep what was trained in their attributes."""


@dataclass(slots=True)
class _Finding:
    """What is known of one tensor while the graph is walked.

    The filters are those of the first operator that has some there, also if the tensor is
    no weight: they count if the user includes it.
    """

    role: Role
    op: str
    fixed: str | None
    nodes: dict[str, None] = field(default_factory=dict)
    filters: Filters | None = None
    noise_key: int | None = None
    merged: bool = False
    other_axis: tuple[str, int | None] | None = None


class _Walk:
    """A walk through a model that notes the roles of its tensors."""

    def __init__(self, graph: ir.Graph) -> None:
        self.findings: dict[str, _Finding] = {}
        self.inner: set[str] = set()
        self._graph = graph
        self._behind: set[ir.Node] = set()
        self._downstream: set[ir.Node] = set()
        self._weights = 0
        for node in in_evaluation_order(graph):
            self._visit(node)

    def _visit(self, node: ir.Node) -> None:
        """Note the roles of a node's constant operands."""
        if node.op_type in {"Shape", "Size"}:
            return  # reading a shape is no use of the values
        if any(resolve(value) is not None for value in node.outputs):
            return  # a view: the tensor belongs to who uses the view
        producers = {value.producer() for value in node.inputs if value is not None}
        behind = not producers.isdisjoint(self._behind)
        downstream = not producers.isdisjoint(self._downstream)
        for slot, value in enumerate(node.inputs):
            operand = resolve(value)
            if operand is None:
                continue
            role, fixed = role_of(node, slot, operand, Place(behind, downstream))
            if str(operand.source.name) not in self._graph.initializers:
                self.inner |= {str(operand.source.name)} if role is Role.WEIGHT else set()
                continue
            self._note(node, slot, operand, role, fixed)
            behind = behind or role is Role.WEIGHT
            downstream = downstream or role is Role.WEIGHT
        ends = {value.producer() for body in bodies(node) for value in body.outputs}
        if (behind and operator_name(node) in CARRIERS) or ends & self._behind:
            self._behind.add(node)
        if downstream or ends & self._downstream:
            self._downstream.add(node)

    def _note(
        self, node: ir.Node, slot: int, operand: Operand, role: Role, fixed: str | None
    ) -> None:
        name = str(operand.source.name)
        known = self.findings.get(name)
        roles = {role} if known is None else {role, known.role}
        filters = filters_of(node, slot, operand)
        if known is None or _PRECEDENCE[role] > _PRECEDENCE[known.role]:
            nodes, spare = ({}, None) if known is None else (known.nodes, known.filters)
            known = self.findings[name] = _Finding(role, reported_name(node), fixed, nodes)
            known.filters = filters or spare
            if role is Role.WEIGHT:
                known.noise_key = self._weights
                self._weights += 1
        elif known.filters is None:
            known.filters = filters
        elif role is Role.WEIGHT and filters and not filters.agree_with(known.filters):
            known.other_axis = reported_name(node), filters.axis
        if Role.STATISTIC in roles and roles & {Role.BIAS, Role.NORMALIZATION}:
            known.merged = True
        if node.name:
            known.nodes[node.name] = None


def find_parameters(
    model: ir.Model, overrides: Overrides | None = None
) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Find every float tensor of a canonical model and what it is.

    Args:
        model: The model, in canonical form.
        overrides: What the user says about single tensors; None for nothing.

    Returns:
        The parameters in file order, and warnings about weights that will not be moved.

    Raises:
        UsageError: If the overrides do not fit the model.
    """
    walk = _Walk(model.graph)
    findings = walk.findings
    parameters: list[Parameter] = []
    for name, value in model.graph.initializers.items():
        finding = findings.get(name)
        if finding is None or value.const_value is None:
            continue
        values = value.const_value.numpy()
        if values.dtype in FLOATS:
            parameters.append(_parameter(name, finding, values))
    selected = overridden(parameters, _spares(findings, parameters), overrides or Overrides())
    chosen = {p.name for p in selected if p.pattern is not None}
    warnings: list[str] = []
    for name, value in model.graph.initializers.items():
        finding = findings.get(name)
        if finding is not None and value.const_value is not None and name not in chosen:
            warnings += _warnings_about(name, finding, value.const_value.numpy())
    warnings += _warnings_about_all(model, walk, selected)
    return selected, tuple(warnings)


def _parameter(name: str, finding: _Finding, values: NDArray[np.floating]) -> Parameter:
    filters = finding.filters if finding.role is Role.WEIGHT else None
    if filters is not None and not _fits(filters.layout, values.shape):
        # Its sizes contradict its values or the attributes of its operator.
        raise ValueError(f"weight {name!r} has values of shape {list(values.shape)}")
    return Parameter(
        name=name,
        shape=values.shape,
        role=finding.role,
        op=finding.op,
        nodes=tuple(finding.nodes),
        values=values,
        filter_axis=None if filters is None else filters.axis,
        layout=None if filters is None else filters.layout,
        noise_key=finding.noise_key,
        signs=None if filters is None else filters.signs,
        fixed=finding.fixed,
    )


def _spares(
    findings: Mapping[str, _Finding], parameters: Iterable[Parameter]
) -> dict[str, Spare]:
    """Return how each tensor moves that is no weight, if it is included."""
    shapes = {p.name: p.shape for p in parameters}
    others = [
        name
        for name, finding in findings.items()
        if name in shapes and finding.role not in {Role.WEIGHT, Role.STATISTIC}
    ]
    # Sorting is stable: among equals it stays the order of evaluation.
    others.sort(key=lambda name: _spare_rank(findings[name], shapes[name]))
    first = sum(finding.role is Role.WEIGHT for finding in findings.values())
    spares = {}
    for key, name in enumerate(others, start=first):
        filters = findings[name].filters
        if filters is None or not _fits(filters.layout, shapes[name]):
            spares[name] = Spare(noise_key=key)
        else:
            spares[name] = Spare(
                noise_key=key,
                layout=filters.layout,
                filter_axis=filters.axis,
                signs=filters.signs,
            )
    return spares


def _spare_rank(finding: _Finding, shape: tuple[int, ...]) -> int:
    """Return which tensors come first when noise streams are numbered.

    Those that one includes come before those that exporters write or leave out as they
    like: constants of formulas, masks, scales that may be folded.
    """
    many = math.prod(shape) > 1
    if is_table(shape) and finding.fixed is None:
        return 0
    if is_table(shape) and finding.filters is not None:
        return 1
    if finding.role in TRAINABLE:
        return 2 if many else 3
    return 4 if many else 5


def _warnings_about(name: str, finding: _Finding, values: NDArray[Any]) -> Iterator[str]:
    """Yield what is to be said of one tensor."""
    is_float = values.dtype in FLOATS
    shown = f"{name!r} {list(values.shape)}"
    if finding.role is Role.WEIGHT:
        if not is_float:
            yield f"weight {name!r} is {values.dtype} and is not moved"
        elif not np.isfinite(values).all():
            count = np.count_nonzero(~np.isfinite(values))
            yield f"weight {name!r} holds {count} values that are NaN or infinite"
    elif (
        is_float
        and finding.role is Role.CONSTANT
        and is_table(values.shape)
        and finding.fixed is None
    ):
        yield (
            f"tensor {shown} of {finding.op} is not moved: "
            f"{finding.op} is not known to have weights there"
        )
    if finding.role is Role.WEIGHT and finding.other_axis is not None:
        op, axis = finding.other_axis
        first = None if finding.filters is None else finding.filters.axis
        yield (
            f"weight {name!r} is used again by {op} with other filters (axis {axis}, not "
            f"{first}): it moves as one tensor, normalized by those of its first use"
        )


def _warnings_about_all(
    model: ir.Model, walk: _Walk, parameters: tuple[Parameter, ...]
) -> Iterator[str]:
    """Yield what is to be said of several tensors at once."""
    findings = walk.findings
    demoted: dict[tuple[str, str], list[Parameter]] = {}
    for p in parameters:
        if p.pattern is None and p.fixed is not None and findings[p.name].filters is not None:
            demoted.setdefault((p.op, p.fixed), []).append(p)
    for tensors in demoted.values():
        yield _demoted(tensors)
    merged = [n for n, f in findings.items() if f.merged and f.role is Role.STATISTIC]
    if merged:
        yield (
            f"{', '.join(merged)}: the exporter merged equal tensors, and these are also "
            "running statistics; they are not moved, not even with --ignore none"
        )
    if walk.inner:
        names = ", ".join(sorted(walk.inner))
        yield f"weights inside If, Loop or Scan bodies are not moved: {names}"
    for group in copies_among(parameters):
        yield (
            f"weights {' and '.join(group)} hold the same values: if they are one weight that "
            "the export copied, they should move as one, but they move apart"
        )
    for node in model.graph.all_nodes():
        if node.domain == "ai.onnx.ml" and node.op_type in _ATTRIBUTE_WEIGHTS:
            yield (
                f"what {node.op_type} {node.name!r} has learned stands in its attributes and "
                "is not moved: convert the model to tensors (Gemm or MatMul) instead"
            )


_SOME = 3
"""So many tensors are named that one sentence is about."""


def _demoted(group: Sequence[Parameter]) -> str:
    """Return what to say of tensors in places of weights that stay for their values."""
    first, op, fixed = group[0], group[0].op, group[0].fixed
    if len(group) == 1:
        return (
            f"tensor {first.name!r} {list(first.shape)} of {op} is not moved: its values are "
            f"{fixed}; --include {first.name!r} moves it"
        )
    named = ", ".join(f"{p.name!r} {list(p.shape)}" for p in group[:_SOME])
    more = f" and {len(group) - _SOME} more" if len(group) > _SOME else ""
    return (
        f"tensors {named}{more} of {op} are not moved: their values are {fixed}; "
        f"--include {first.name!r} moves the first"
    )


def _fits(layout: FilterLayout, shape: tuple[int, ...]) -> bool:
    """Return whether filters can be taken from values of a shape."""
    if layout.shape != shape:
        return False
    try:
        matrix = layout.to_filters(np.empty(shape, dtype=np.bool_))
    except ValueError:
        return False
    return matrix.shape == (layout.filters, layout.elements)
