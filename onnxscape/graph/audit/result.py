"""The audit itself: facts about a model, its parameters one by one, totals, warnings."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxscape.core.parameter import TRAINABLE, Role
from onnxscape.graph.audit.text import as_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from onnxscape.core.samples import TensorSignature
    from onnxscape.graph.audit.concern import Concern

FORMAT = 1
"""Version of what `Audit.to_dict` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the file says of itself, and what follows from its graph alone.

    Attributes:
        name: The file's name without suffix.
        bytes: Size of the file, without its external data.
        digest: sha256 (hex) of the bytes and of all external data.
        ir_version: Version of the file format.
        opsets: Operator domain to version; the default domain is called `ai.onnx`.
        producer: Program that wrote the file, and its version; empty if it does not say.
        inputs: What must be fed.
        outputs: What the model computes.
        operators: Operator type to how often it occurs, the bodies of If, Loop and Scan and
            model-local functions included; the most frequent first.
        weight_types: Element type in the file to the number of values in weights.
        external_data: Whether weights stand in files beside it.
        batch: The batch size that the file demands; None if it is free.
        batch_made_dynamic: Whether that demand was proven needless and lifted.
        batch_norms: Number of BatchNormalization operators.
        folded_batch_norms: How many of them evaluation folds into the weights before them,
            which does not change the surface.
        loss: The loss that fits the output where the graph alone tells; None otherwise.
    """

    name: str
    bytes: int
    digest: str
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    operators: Mapping[str, int]
    weight_types: Mapping[str, int]
    external_data: bool
    batch: int | None
    batch_made_dynamic: bool
    batch_norms: int
    folded_batch_norms: int
    loss: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return {
            "name": self.name,
            "bytes": self.bytes,
            "sha256": self.digest,
            "ir_version": self.ir_version,
            "opsets": dict(self.opsets),
            "producer": self.producer,
            "inputs": [_signature(value) for value in self.inputs],
            "outputs": [_signature(value) for value in self.outputs],
            "nodes": sum(self.operators.values()),
            "operators": dict(self.operators),
            "weight_types": dict(self.weight_types),
            "external_data": self.external_data,
            "batch": {"size": self.batch, "made_dynamic": self.batch_made_dynamic},
            "batch_norms": {"nodes": self.batch_norms, "folded": self.folded_batch_norms},
            "loss": self.loss,
        }


def _signature(value: TensorSignature) -> dict[str, Any]:
    shape = None if value.shape is None else list(value.shape)
    return {"name": value.name, "shape": shape, "type": str(value.dtype)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedParameter:
    """One tensor of the file and what becomes of it.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
        op: Type of the operator that uses it first, without domain.
        role: What it is to that operator.
        filter_axis: Axis of this tensor that counts filters; None if none does, or more than
            one.
        filters: Number of its filters; None unless it is a weight.
        perturbed: Whether a random direction moves it.
        reason: Why it does, or does not.
        nodes: Names of the operators that use it.
        perhaps_trained: Whether it stays as a constant only because its operator is not known
            to have weights there.
    """

    name: str
    shape: tuple[int, ...]
    op: str
    role: Role
    filter_axis: int | None
    filters: int | None
    perturbed: bool
    reason: str
    nodes: tuple[str, ...]
    perhaps_trained: bool = False

    @property
    def values(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as plain JSON values."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "op": self.op,
            "role": str(self.role),
            "filter_axis": self.filter_axis,
            "filters": self.filters,
            "perturbed": self.perturbed,
            "reason": self.reason,
            "nodes": list(self.nodes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the parameters.

    Attributes:
        tensors: Number of parameters.
        values: Number of values in them.
        perturbed_tensors: Number of those that move.
        perturbed_values: Number of values in them.
        filters: Number of filters in them.
        trainable_values: Number of values in weights, biases and normalization parameters, in
            whatever else moves, and in what stays although it may be trained.
        unknown_values: Number of the last: values in tables of operators that are not known to
            have weights there, and in weights that are integers and could not be made floats.
        roles: Role to the number of tensors and of values that have it.
    """

    tensors: int
    values: int
    perturbed_tensors: int
    perturbed_values: int
    filters: int
    trainable_values: int
    unknown_values: int
    roles: Mapping[Role, tuple[int, int]]

    @classmethod
    def of(cls, parameters: Collection[AuditedParameter], *, integers: int = 0) -> Totals:
        """Sum up.

        Args:
            parameters: All parameters of a model.
            integers: Number of values in weights that are integers, which are no parameters.

        Returns:
            The totals.
        """
        tensors: Counter[Role] = Counter()
        values: Counter[Role] = Counter()
        moved = []
        trainable, unknown = 0, integers
        for p in parameters:
            tensors[p.role] += 1
            values[p.role] += p.values
            if p.perturbed:
                moved.append(p)
            if p.perturbed or p.role in TRAINABLE:
                trainable += p.values
            elif p.perhaps_trained:
                unknown += p.values
        return cls(
            tensors=tensors.total(),
            values=values.total(),
            perturbed_tensors=len(moved),
            perturbed_values=sum(p.values for p in moved),
            filters=sum(p.filters or 0 for p in moved),
            trainable_values=trainable + unknown,
            unknown_values=unknown,
            roles={role: (tensors[role], values[role]) for role in Role},
        )

    @property
    def share(self) -> float | None:
        """Share of the trainable values that move, 0 to 1; None if nothing is trainable."""
        trainable = self.trainable_values
        return self.perturbed_values / trainable if trainable else None

    @property
    def noun(self) -> str:
        """What `trainable_values` counts, for people."""
        return (
            "values that are or may be trained" if self.unknown_values else "trainable values"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as plain JSON values."""
        return {
            "tensors": self.tensors,
            "values": self.values,
            "perturbed_tensors": self.perturbed_tensors,
            "perturbed_values": self.perturbed_values,
            "filters": self.filters,
            "trainable_values": self.trainable_values,
            "unknown_values": self.unknown_values,
            "share": self.share,
            "roles": {
                str(role): {"tensors": tensors, "values": values}
                for role, (tensors, values) in self.roles.items()
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Audit:
    """What onnxscape understands of a model: `print` it, or take its fields.

    Attributes:
        model: Facts about the file.
        parameters: Its tensors in file order.
        totals: Sums over them.
        warnings: What one should know before trusting a plot.
    """

    model: ModelFacts
    parameters: tuple[AuditedParameter, ...]
    totals: Totals
    warnings: tuple[Concern, ...]

    def __repr__(self) -> str:
        totals, count = self.totals, len(self.warnings)
        return (
            f"Audit({self.model.name}: {totals.perturbed_values:,} of "
            f"{totals.trainable_values:,} {totals.noun} move, "
            f"{count} {'warning' if count == 1 else 'warnings'})"
        )

    def __str__(self) -> str:
        return self.text()

    def text(self, *, everything: bool = False) -> str:
        """Write the audit for people, in lines of at most 80 characters.

        Args:
            everything: Also list constants and statistics one by one where there are many.

        Returns:
            The text, without a newline at its end.
        """
        return as_text(self, everything=everything)

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as plain JSON values; none of them is NaN or infinite."""
        return {
            "format": FORMAT,
            "model": self.model.to_dict(),
            "parameters": [p.to_dict() for p in self.parameters],
            "totals": self.totals.to_dict(),
            "warnings": [str(concern) for concern in self.warnings],
        }
