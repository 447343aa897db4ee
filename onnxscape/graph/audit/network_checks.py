"""Checks of what the exporter made of the network: folded, shared, copied, merged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from onnxscape.core.parameter import TRAINABLE, Role
from onnxscape.graph.audit.concern import listed
from onnxscape.graph.operands import in_evaluation_order, resolve
from onnxscape.graph.scales import only_consumer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx_ir as ir

    from onnxscape.graph.audit.evidence import Evidence, Use


def weights_as_inputs(evidence: Evidence) -> Iterator[str]:
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
            f"{listed(found)}: the file has no values for them, so nothing there can move. "
            "Export the model with its weights, or give them with --weights FILE.npz"
        )


_FOLDED_NAMES = re.compile(
    r"^onnx::Conv(Transpose)?_\d+$"  # torch's older exporter renames what it folds
    r"|^ConvBnFusion_|^ConvMulFusion_"  # ONNX Runtime's optimizer
    r"|batch_?norm"  # TensorFlow's converters keep the names of both
)
_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvTranspose"})


def folded_by_exporter(evidence: Evidence) -> Iterator[str]:
    """Yield a warning of layers that hold a BatchNormalization already."""
    layers = list(_layers(evidence.graph))
    sure = [
        weight
        for _, weight, bias in layers
        # torch's newer exporter adds `_bias` where there was none
        if bias is not None and (_FOLDED_NAMES.search(bias) or bias == f"{weight}_bias")
    ]
    consequence = (
        "The default (--normalize filter --ignore biasbn) gives the surface of the unfolded "
        "export; --ignore none, and any other --normalize, gives another. To compare such "
        "surfaces, export all models alike, without constant folding and optimization"
    )
    biased = [bias for op, _, bias in layers if op in _CONVOLUTIONS]
    if sure:
        noun = "layer" if len(sure) == 1 else "layers"
        yield (
            f"the exporter has folded a BatchNormalization into {len(sure)} {noun}: "
            f"{listed(sure)}. {consequence}"
        )
    elif len(biased) >= 3 and None not in biased and not _normalizations(evidence):
        yield (
            f"all {len(biased)} convolutions have a bias and none is normalized: if the "
            "network was trained with BatchNormalization, the exporter has folded it. "
            f"{consequence}"
        )


def _layers(graph: ir.Graph) -> Iterator[tuple[str, str, str | None]]:
    """Yield the operator, weight and bias of each layer that a normalization folds into."""
    for node in in_evaluation_order(graph):
        if len(node.inputs) < 2 or (weight := resolve(node.inputs[1])) is None:
            continue
        bias = None
        if node.op_type in _CONVOLUTIONS or node.op_type in {"Gemm", "FusedGemm"}:
            bias = resolve(node.inputs[2]) if len(node.inputs) > 2 else None
        elif node.op_type == "MatMul":
            add = only_consumer(node.outputs[0])
            if add is not None and add.op_type == "Add":
                constants = [o for value in add.inputs if (o := resolve(value)) is not None]
                bias = constants[0] if constants else None
        else:
            continue
        yield (
            node.op_type,
            str(weight.source.name),
            None if bias is None else str(bias.source.name),
        )


def _normalizations(evidence: Evidence) -> int:
    return sum(p.role is Role.NORMALIZATION for p in evidence.parameters)


def shared_weights(evidence: Evidence) -> Iterator[str]:
    """Yield the weights that several operators use."""
    times = {
        p.name: len({use.node for use in evidence.uses.get(p.name, ())})
        for p in evidence.parameters
        if p.role is Role.WEIGHT
    }
    shared = [f"{name} ({n} operators)" for name, n in times.items() if n > 1]
    if shared:
        yield (
            f"{listed(shared)}: each moves once, in all its operators alike, as training "
            "moved it. Its filters are those of its first operator. Nothing to do"
        )


def merged_tensors(evidence: Evidence) -> Iterator[str]:
    """Yield the biases and normalization parameters that several operators use."""
    merged = [
        p.name
        for p in evidence.parameters
        if p.role in TRAINABLE - {Role.WEIGHT} and _in_several_layers(p.name, evidence.uses)
    ]
    if not merged:
        return
    effect = (
        "Each moves once, in all of them alike, as if it had been one tensor in training"
        if any(name in evidence.moves for name in merged)
        else "They do not move, so this surface is not affected"
    )
    yield (
        f"{listed(merged)}: one stored tensor serves several operators, because the "
        f"network shares it or the exporter merged equal tensors. {effect}. Another "
        "checkpoint of the network may be stored otherwise"
    )


def _in_several_layers(name: str, uses: Mapping[str, Sequence[Use]]) -> bool:
    """Return whether a tensor is used beside different tensors: not by one layer run twice."""
    nodes = {use.node for use in uses.get(name, ())}
    besides = {
        tuple(None if (o := resolve(value)) is None else o.source for value in node.inputs)
        for node in nodes
    }
    alone = all(sum(source is not None for source in sources) == 1 for sources in besides)
    return len(nodes) > 1 and (len(besides) > 1 or alone)
