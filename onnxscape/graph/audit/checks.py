"""Checks of a model: properties that change a plot, or how it is to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.parameter import TRAINABLE, Role
from onnxscape.graph.audit.concern import Concern, Kind, listed
from onnxscape.graph.audit.evidence import PROPOSED
from onnxscape.graph.audit.network_checks import (
    folded_by_exporter,
    merged_tensors,
    shared_weights,
    weights_as_inputs,
)
from onnxscape.graph.passes.quantization import DYNAMIC, UNSCALED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from onnxscape.graph.audit.evidence import Evidence


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
    """Yield which of several outputs counts."""
    if len(evidence.ends) < 2:
        return
    taken = (
        "say which one by --output NAME"
        if evidence.output is None
        else f"{evidence.output} unless you say another by --output NAME"
    )
    yield (
        f"the model has {len(evidence.ends)} outputs ({listed(evidence.ends)}), and a plot "
        f"shows a loss of one: {taken}"
    )


def _fixed_batch(evidence: Evidence) -> Iterator[str]:
    """Yield what is made of a batch size that is part of the file."""
    batch = evidence.batch
    if batch is None:
        return
    if batch.dynamic:
        yield (
            f"the file was exported for batches of {batch.size}; that is proven needless, so "
            "it is evaluated in batches of any size. The surface is the same"
        )
    else:
        yield (
            f"the file was exported for batches of {batch.size} and runs in pieces of that "
            f"size, since {batch.reason}. Each piece gives what the file gives, but small "
            "ones are slow: export with a dynamic batch axis"
        )


def _quantized(evidence: Evidence) -> Iterator[str]:
    """Yield what moving weights that are stored as integers means."""
    weights = [p.name for p in evidence.parameters if p.role is Role.WEIGHT]
    stored = [n for n in weights if "int" in evidence.types.get(n, "")]
    integers = [n for n in stored if UNSCALED not in evidence.graph.initializers[n].meta]
    if integers:
        yield (
            f"{listed(integers)}: stored as integers. They move as the real numbers they "
            "stand for, between the integers; where activations are rounded they still are, "
            "so expect small steps in the surface. Compare with the float model under the "
            "same --seed"
        )


def _dynamic(evidence: Evidence) -> Iterator[str]:
    """Yield that a sample's activations are rounded by what the others in its batch are."""
    found = [op for op in evidence.operators if op in DYNAMIC]
    batch = evidence.batch
    if not found or (batch is not None and batch.size == 1):
        return
    takes = "takes" if len(found) == 1 else "take"
    how = "--batch-size" if batch is None else f"which {batch.size} share a batch"
    yield (
        f"{listed(found)} {takes} the range of activations over the whole batch, so the "
        f"outputs of a sample depend a little on the others in it, and results on {how}. "
        "Compare surfaces of one batch size only"
    )


_HALF = frozenset({"float16", "bfloat16"})


def _half(evidence: Evidence) -> Iterator[str]:
    """Yield in which precision half-precision weights are evaluated."""
    halves = [kind for name in evidence.uses if (kind := evidence.types.get(name)) in _HALF]
    if halves and not evidence.native:
        subject = "1 tensor is" if len(halves) == 1 else f"{len(halves)} tensors are"
        yield (
            f"{subject} {' or '.join(sorted(set(halves)))} in the file and float32 when "
            "evaluated, which leaves out the rounding of activations. --precision native "
            "keeps it"
        )


# --- the values ------------------------------------------------------------------------------


def _little_moves(evidence: Evidence) -> Iterator[str]:
    """Yield a warning if most of the model stays where it is."""
    sizes = {
        p.name: p.values.size for p in evidence.parameters if p.role is not Role.STATISTIC
    }
    total = sum(sizes.values()) + evidence.integers
    moved = sum(size for name, size in sizes.items() if name in evidence.moves)
    if 0 < moved < total / 2:
        yield (
            f"only {moved:,} of the {total:,} values that the model computes with move, so "
            "the surface is that of a part of it. Look for your layers among what stays"
        )


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
            f"{total} of {filters} filters are all zero: {listed(dead)}. A filter of norm 0 "
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
            f"{listed(broken)} hold NaN or infinite values: the loss will hardly be finite "
            "anywhere. Check the checkpoint"
        )
    if huge:
        yield (
            f"{listed(huge)} hold very large values: steps of that size change the loss "
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
            f"{listed(negative)}: running variances below zero; the model's output is not "
            "finite there. Check the checkpoint"
        )


def _unused(evidence: Evidence) -> Iterator[str]:
    """Yield the number of tensors that could be left out of the file."""
    if evidence.unused:
        yield (
            f"no output depends on {len(evidence.unused)} of the file's tensors: "
            f"{listed(evidence.unused)}. They are not listed and do not move. If they should "
            "matter, the export has cut off a part of the network"
        )


CHECKS: Mapping[Kind, Callable[[Evidence], Iterator[str]]] = {
    Kind.LITTLE: _little_moves,
    Kind.WEIGHTS_AS_INPUTS: weights_as_inputs,
    Kind.FOLDED: folded_by_exporter,
    Kind.SHARED: shared_weights,
    Kind.MERGED: merged_tensors,
    Kind.PROBABILITIES: _probabilities,
    Kind.OUTPUTS: _outputs,
    Kind.FIXED_BATCH: _fixed_batch,
    Kind.QUANTIZED: _quantized,
    Kind.DYNAMIC: _dynamic,
    Kind.HALF: _half,
    Kind.DEAD: _dead,
    Kind.EXTREME: _extreme,
    Kind.UNUSED: _unused,
}
"""Each kind that is found here; the others come from the canonical form and the parameters."""
