"""What an audit warns of: properties of a model that change a plot, or how to read it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.core.parameter import TRAINABLE, Role
from onnxscape.graph.audit.evidence import PROPOSED
from onnxscape.graph.operands import in_evaluation_order, resolve
from onnxscape.graph.operators import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from onnxscape.core.parameter import Parameter
    from onnxscape.graph.audit.evidence import Evidence


class Kind(StrEnum):
    """What a warning is about; `docs/inspect.md` explains each."""

    REWRITTEN = "rewritten"
    TENSORS = "tensors"
    WEIGHTS_AS_INPUTS = "weights as inputs"
    FOLDED = "folded by the exporter"
    SHARED = "shared weights"
    COPIES = "copies of a weight"
    MERGED = "merged tensors"
    PROBABILITIES = "probabilities out"
    OUTPUTS = "several outputs"
    FIXED_BATCH = "fixed batch"
    QUANTIZED = "quantized"
    HALF = "half precision"
    DEAD = "dead filters"
    EXTREME = "extreme values"
    UNUSED = "unused tensors"


@dataclass(frozen=True, slots=True)
class Concern:
    """One warning of an audit.

    Attributes:
        kind: What it is about.
        text: What was found, what it means for the plot, and what to do.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def concerns(evidence: Evidence) -> tuple[Concern, ...]:
    """Collect what is to be said about a model.

    Args:
        evidence: What is known of it.

    Returns:
        The warnings that this module's own checks give, by kind.
    """
    return tuple(
        Concern(kind, text) for kind, check in CHECKS.items() for text in check(evidence)
    )


def _listed(names: Iterable[str]) -> str:
    """Return a few names and the number of the rest."""
    some = list(names)
    if len(some) > 4:
        return f"{', '.join(some[:3])} and {len(some) - 3} more"
    return ", ".join(some)


# --- the network -----------------------------------------------------------------------------


def _weights_as_inputs(evidence: Evidence) -> Iterator[str]:
    """Yield a warning of inputs where only a layer's weights make sense."""
    inputs = {id(value): str(value.name) for value in evidence.graph.inputs}
    found = dict.fromkeys(
        inputs[id(value)]
        for node in in_evaluation_order(evidence.graph)
        if node.op_type in {"Conv", "ConvTranspose", "Gemm"}
        for value in node.inputs[1:]
        if id(value) in inputs
    )
    if found:
        yield (
            f"{_listed(found)}: the file has no values for them, so nothing there can move. "
            "Export the model with its weights, or give them with --weights FILE.npz"
        )


_FOLDED_NAMES = re.compile(
    r"^onnx::Conv(Transpose)?_\d+$"  # torch's older exporter renames what it folds
    r"|^ConvBnFusion_|^ConvMulFusion_"  # ONNX Runtime's optimizer
    r"|batch_?norm|merged_input"  # TensorFlow's converters keep both names
)
_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvTranspose"})


def _folded_by_exporter(evidence: Evidence) -> Iterator[str]:
    """Yield a warning of convolutions that hold a BatchNormalization already."""
    biased: dict[str, str] = {}
    plain = 0
    for node in in_evaluation_order(evidence.graph):
        if node.op_type not in _CONVOLUTIONS:
            continue
        operands = [resolve(value) for value in node.inputs[1:3]]
        names = [str(operand.source.name) for operand in operands if operand is not None]
        if len(names) == 2:
            biased[names[0]] = names[1]
        else:
            plain += 1
    sure = [
        weight
        for weight, bias in biased.items()
        if _FOLDED_NAMES.search(bias) or bias == f"{weight}_bias"  # torch's newer exporter
    ]
    consequence = (
        "The default (--normalize filter --ignore biasbn) gives the surface of the unfolded "
        "export; --ignore none, and any other --normalize, gives another. To compare such "
        "surfaces, export all models alike, without constant folding and optimization"
    )
    if sure:
        yield (
            f"the exporter has folded a BatchNormalization into {len(sure)} convolutions: "
            f"{_listed(sure)}. {consequence}"
        )
    elif len(biased) >= 3 and not plain and not _normalizations(evidence):
        yield (
            f"all {len(biased)} convolutions have a bias and none is normalized: if the "
            "network was trained with BatchNormalization, the exporter has folded it. "
            f"{consequence}"
        )


def _normalizations(evidence: Evidence) -> int:
    return sum(p.role is Role.NORMALIZATION for p in evidence.parameters)


def _shared(evidence: Evidence) -> Iterator[str]:
    """Yield the weights that several operators use."""
    times = {
        p.name: sum((use.node.op_type, use.slot) in WEIGHTS for use in evidence.uses[p.name])
        for p in evidence.parameters
        if p.role is Role.WEIGHT and p.name in evidence.uses
    }
    shared = [f"{name} ({n} operators)" for name, n in times.items() if n > 1]
    if shared:
        yield (
            f"{_listed(shared)}: each moves once, in all its operators alike, as training "
            "moved it. Its filters are those of its first operator. Nothing to do"
        )


def _copies(evidence: Evidence) -> Iterator[str]:
    """Yield a warning of weights with the same values under two names."""
    groups: dict[tuple[int, float, float], list[Parameter]] = defaultdict(list)
    for p in evidence.parameters:
        if p.role is Role.WEIGHT and p.values.size > 1:
            low, high = float(p.values.min()), float(p.values.max())
            if low < high:  # tensors of one number are equal by chance
                groups[p.values.size, low, high].append(p)
    pairs = [
        f"{first.name} and {other.name}"
        for group in groups.values()
        for i, first in enumerate(group)
        for other in group[i + 1 :]
        if _equal(first.values, other.values)
    ]
    if pairs:
        yield (
            f"{_listed(pairs)} hold the same values: if the network ties them, the exporter "
            "has made two tensors of one. Each gets a direction of its own, so the surface is "
            "another than that of an export with one tensor. Export without optimization, or "
            "compare only with exports that have the copy too"
        )


def _equal(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    if a.shape == b.shape and np.array_equal(a, b):
        return True
    return a.ndim == 2 and a.shape == b.shape[::-1] and np.array_equal(a, b.T)


def _merged(evidence: Evidence) -> Iterator[str]:
    """Yield the biases and normalization parameters that several operators use."""
    merged = [
        p.name
        for p in evidence.parameters
        if p.role in TRAINABLE - {Role.WEIGHT} and len(evidence.uses.get(p.name, ())) > 1
    ]
    if not merged:
        return
    effect = (
        "Each moves once, in all of them alike, as if it had been one tensor in training"
        if any(name in evidence.moves for name in merged)
        else "They do not move, so this surface is not affected"
    )
    yield (
        f"{_listed(merged)}: one stored tensor serves several operators; exporters merge "
        f"tensors that happen to be equal. {effect}. Another checkpoint of the network may be "
        "stored otherwise"
    )


# --- the evaluation --------------------------------------------------------------------------


def _probabilities(evidence: Evidence) -> Iterator[str]:
    """Yield a warning of outputs that cross-entropy would take for logits."""
    for name, end in evidence.ends.items():
        if end in {"Softmax", "Sigmoid"}:
            yield (
                f"the output {name} comes from a {end}: it holds probabilities, not logits. "
                "Cross-entropy of logits would flatten the surface. Use --loss "
                f"{PROPOSED[end]}, or export the model without its last {end}"
            )


def _outputs(evidence: Evidence) -> Iterator[str]:
    """Yield that one of several outputs has to be chosen."""
    if len(evidence.ends) > 1:
        yield (
            f"the model has {len(evidence.ends)} outputs ({_listed(evidence.ends)}), and a "
            "loss is computed from one. Choose it with --output NAME"
        )


def _fixed_batch(evidence: Evidence) -> Iterator[str]:
    """Yield what is made of a batch size that is part of the file."""
    if evidence.batch is None:
        return
    if evidence.batch_made_dynamic:
        yield (
            f"the file takes {evidence.batch} at a time; nothing in its graph needs that, so "
            "it is evaluated in larger batches. The surface is the same"
        )
    else:
        yield (
            f"the file takes {evidence.batch} at a time, and is evaluated like that, the last "
            "batch filled up with samples that do not count. The surface is the same, but "
            "small batches are slow: export with a dynamic batch axis"
        )


_QUANTIZED = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DequantizeLinear",
    "QGemm",
    "MatMulNBits",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "MatMulIntegerToFloat",
    "QAttention",
)


def _quantized(evidence: Evidence) -> Iterator[str]:
    """Yield what moving the weights of a quantized model means."""
    found = [op for op in _QUANTIZED if evidence.operators.get(op)]
    if found:
        yield (
            f"the file is quantized ({_listed(found)}). Its weights move as real numbers, "
            "between the levels of the integers, while activations are still rounded: expect "
            "small steps in the surface. Compare with the float model under the same --seed"
        )


_HALF = frozenset({"float16", "bfloat16"})


def _half(evidence: Evidence) -> Iterator[str]:
    """Yield in which precision half-precision weights are evaluated."""
    found = Counter(
        evidence.types.get(name, "")
        for name, uses in evidence.uses.items()
        if any((use.node.op_type, use.slot) in WEIGHTS for use in uses)
    )
    types = sorted(_HALF & found.keys())
    if types and not evidence.native:
        count = sum(found[name] for name in types)
        yield (
            f"{count} weights are {' and '.join(types)}; they are evaluated in float32, which "
            "leaves out the rounding of activations. --precision native keeps it"
        )


# --- the values ------------------------------------------------------------------------------


def _dead(evidence: Evidence) -> Iterator[str]:
    """Yield the number of filters that filter normalization cannot move."""
    dead: dict[str, int] = {}
    filters = 0
    for p in evidence.parameters:
        if p.layout is not None and p.name in evidence.moves:
            count = int((~p.layout.to_filters(p.values).any(axis=1)).sum())
            filters += p.layout.filters
            if count:
                dead[f"{p.name} ({count} of {p.layout.filters})"] = count
    if dead:
        total = sum(dead.values())
        yield (
            f"{total} of {filters} filters are all zero: {_listed(dead)}. A filter of norm 0 "
            "has a direction of norm 0, so they stay under --normalize filter. That is right "
            "for a pruned network; otherwise look at its training"
        )


HUGE = 1e6
"""Trained values beyond this are worth a look."""


def _extreme(evidence: Evidence) -> Iterator[str]:
    """Yield a warning of values that make losses overflow."""
    broken, huge = [], []
    for p in evidence.parameters:
        if p.role is Role.CONSTANT or p.values.size == 0:
            continue
        low, high = float(p.values.min()), float(p.values.max())
        if not np.isfinite([low, high]).all():
            broken.append(p.name)
        elif p.role in TRAINABLE and max(-low, high) > HUGE:
            huge.append(f"{p.name} ({max(-low, high):.1e})")
    if broken:
        yield (
            f"{_listed(broken)} hold NaN or infinite values: the loss will hardly be finite "
            "anywhere. Check the checkpoint"
        )
    if huge:
        yield (
            f"{_listed(huge)} hold very large values: steps of that size change the loss "
            "beyond what a plot can show. Check the checkpoint, or use a smaller --radius"
        )
    negative = [
        p.name
        for p in evidence.parameters
        if any(
            (use.node.op_type, use.slot) == ("BatchNormalization", 4)
            for use in evidence.uses.get(p.name, ())
        )
        and (p.values < 0).any()
    ]
    if negative:
        yield (
            f"{_listed(negative)}: running variances below zero; the model's output is not "
            "finite there. Check the checkpoint"
        )


_FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
)


def _unused(evidence: Evidence) -> Iterator[str]:
    """Yield the number of tensors that could be left out of the file."""
    unused = [
        name
        for name, value in evidence.graph.initializers.items()
        if value.dtype in _FLOATS and name not in evidence.uses and not value.is_graph_output()
    ]
    if unused:
        yield (
            f"no output depends on {len(unused)} of the file's tensors: {_listed(unused)}. "
            "They are not listed and do not move. If they should matter, the export has cut "
            "off a part of the network"
        )


CHECKS: Mapping[Kind, Callable[[Evidence], Iterator[str]]] = {
    Kind.WEIGHTS_AS_INPUTS: _weights_as_inputs,
    Kind.FOLDED: _folded_by_exporter,
    Kind.SHARED: _shared,
    Kind.COPIES: _copies,
    Kind.MERGED: _merged,
    Kind.PROBABILITIES: _probabilities,
    Kind.OUTPUTS: _outputs,
    Kind.FIXED_BATCH: _fixed_batch,
    Kind.QUANTIZED: _quantized,
    Kind.HALF: _half,
    Kind.DEAD: _dead,
    Kind.EXTREME: _extreme,
    Kind.UNUSED: _unused,
}
"""Each kind that is found here; the others come from the canonical form and the parameters."""
