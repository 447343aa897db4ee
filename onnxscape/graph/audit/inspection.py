"""Inspecting a model: from its file to an audit, without running it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.direction import Ignore
from onnxscape.core.parameter import Role
from onnxscape.core.selection import Overrides, perturbed
from onnxscape.errors import UnsupportedModelError, UsageError
from onnxscape.graph.audit.checks import concerns
from onnxscape.graph.audit.concern import Concern, Kind
from onnxscape.graph.audit.evidence import (
    PROPOSED,
    Evidence,
    count_integers,
    count_operators,
    find_uses,
    stored_types,
    unused_tensors,
)
from onnxscape.graph.audit.result import Audit, AuditedParameter, ModelFacts, Totals
from onnxscape.graph.batch_axis import fixed_batch
from onnxscape.graph.canonical import broken_graphs_refused, canonical_of
from onnxscape.graph.folding import foldable
from onnxscape.graph.model_file import read_model
from onnxscape.graph.operators.layers import is_table
from onnxscape.graph.outputs import choose_output, last_operator
from onnxscape.graph.parameters import find_parameters
from onnxscape.graph.passes.notes import MOVED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx
    from numpy.typing import ArrayLike

    from onnxscape.core.parameter import Parameter
    from onnxscape.graph.batch_axis import FixedBatch
    from onnxscape.graph.canonical import Canonical
    from onnxscape.graph.model_file import ModelFile


def inspect(
    model: str | Path | bytes | onnx.ModelProto,
    *,
    ignore: str = "biasbn",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    filter_axis: Mapping[str, int] | None = None,
    precision: str = "fp32",
    weights: Mapping[str, ArrayLike] | None = None,
    name: str = "model",
) -> Audit:
    """Tell what onnxscape understands of a model, without running it.

    Example:
        >>> import onnxscape as ox
        >>> ox.inspect("models/digits_cnn.onnx")
        Audit(digits_cnn: 28,576 of 28,842 trainable values move, 0 warnings)

    Args:
        model: Path of an .onnx file, its bytes, or an `onnx.ModelProto`.
        ignore: As for `evaluate`: `biasbn` leaves biases and normalization parameters alone,
            `none` does not.
        include: Patterns of names to move as well.
        exclude: Patterns of names to leave alone; they win over `include`.
        filter_axis: Name of a tensor to the axis that counts its filters.
        precision: As for `evaluate`; all but `native` look at the model in float32.
        weights: Values of model inputs that are weights, by name.
        name: What people call a model that comes without a path.

    Returns:
        Facts about the model, its parameters with their filters and whether they move, and
        warnings.

    Raises:
        UsageError: If an option means nothing, or does not fit the model.
        ModelFileError: If it is no readable ONNX model.
        UnsupportedModelError: If it cannot be handled.
    """
    chosen = _ignore(ignore)
    overrides = Overrides(
        include=tuple(include), exclude=tuple(exclude), filter_axis=filter_axis or {}
    )
    given = {tensor: np.asarray(values) for tensor, values in (weights or {}).items()}
    return _audit(read_model(model, name, weights=given), chosen, overrides, precision)


def _ignore(name: str) -> Ignore:
    try:
        return Ignore(name)
    except ValueError:
        raise UsageError(
            f"expected ignore to be one of {', '.join(Ignore)}, got {name!r}"
        ) from None


def _audit(file: ModelFile, ignore: Ignore, overrides: Overrides, precision: str) -> Audit:
    form = canonical_of(file, precision)
    with broken_graphs_refused():
        parameters, warnings = find_parameters(form.model, overrides)
        audited = tuple(_audited(p, ignore) for p in parameters)
        moves = frozenset(p.name for p in audited if p.perturbed)
        evidence = _evidence(file, form, parameters, moves, precision)
        found = concerns(evidence)
        by_name = {p.name: p for p in parameters}
        folded = sum(1 for _ in foldable(form.model, by_name, moves))
    told = {MOVED} if any(c.kind is Kind.QUANTIZED for c in found) else set()
    rewritten = (Concern(Kind.REWRITTEN, t) for t in form.warnings if t not in told)
    tensors = (Concern(Kind.TENSORS, text) for text in warnings)
    return Audit(
        model=_facts(file, evidence, folded),
        parameters=audited,
        totals=Totals.of(audited, integers=evidence.integers),
        warnings=(*rewritten, *tensors, *found),
    )


def _audited(parameter: Parameter, ignore: Ignore) -> AuditedParameter:
    verdict = perturbed(parameter, ignore)
    layout = parameter.layout
    unknown = parameter.role is Role.CONSTANT and parameter.fixed is None
    return AuditedParameter(
        name=parameter.name,
        shape=parameter.shape,
        op=parameter.op,
        role=parameter.role,
        filter_axis=parameter.filter_axis,
        filters=None if layout is None else layout.filters,
        perturbed=verdict.perturbed,
        reason=verdict.reason,
        nodes=parameter.nodes,
        perhaps_trained=unknown and not verdict.perturbed and is_table(parameter.shape),
    )


def _evidence(
    file: ModelFile,
    form: Canonical,
    parameters: Sequence[Parameter],
    moves: frozenset[str],
    precision: str,
) -> Evidence:
    graph = form.model.graph
    uses = find_uses(graph)
    return Evidence(
        graph=graph,
        parameters=parameters,
        moves=moves,
        uses=uses,
        types=stored_types(file.proto),
        operators=count_operators(file.proto),
        ends={value.name: last_operator(file.proto, value.name) for value in file.outputs},
        output=_output(file),
        batch=_batch(form),
        native=precision == "native",
        unused=unused_tensors(file.proto),
        integers=count_integers(graph, uses),
    )


def _batch(form: Canonical) -> FixedBatch | None:
    try:
        return fixed_batch(form.model)
    except UnsupportedModelError:
        return None  # weights that are inputs have first axes of their own


def _output(file: ModelFile) -> str | None:
    try:
        return choose_output(file, None)
    except UnsupportedModelError:
        return None


def _facts(file: ModelFile, evidence: Evidence, folded: int) -> ModelFacts:
    proto, batch = file.proto, evidence.batch
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    types: Counter[str] = Counter()
    for p in evidence.parameters:
        if p.role is Role.WEIGHT:
            types[evidence.types.get(p.name, str(p.values.dtype))] += p.values.size
    return ModelFacts(
        name=file.name,
        bytes=len(file.content),
        digest=file.digest,
        ir_version=proto.ir_version,
        opsets=opsets,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=file.inputs,
        outputs=file.outputs,
        operators=evidence.operators,
        weight_types=dict(types.most_common()),
        external_data=file.external,
        batch=None if batch is None else batch.size,
        batch_made_dynamic=batch is not None and batch.dynamic,
        batch_norms=evidence.operators.get("BatchNormalization", 0),
        folded_batch_norms=folded,
        loss=PROPOSED.get(evidence.ends.get(evidence.output or "") or ""),
    )
