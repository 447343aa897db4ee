"""Operators fused with an activation, taken apart: not all devices compute them right.

On CUDA a network of FusedConv and FusedGemm gave losses a third off, and FusedConv there
refuses every activation but Relu (ONNX Runtime 1.31.1). What they compute:
onnxruntime/docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxscape.graph.passes.rewriting import Replacement, Rewriting

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from onnxscape.graph.passes.notes import Notes

_PLAIN = {"FusedConv": "Conv", "FusedGemm": "Gemm"}

_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}
"""Activation to its parameters, in the order in which FusedConv lists them."""


def take_fused_apart(model: ir.Model, _notes: Notes) -> None:
    """Write fused operators as the two that they are.

    Before: nodes are sorted. After: FusedConv and FusedGemm are gone, but for activations that
    are not known here.
    """
    rewriting = Rewriting(model)
    for node in list(model.graph.all_nodes()):
        if node.domain == "com.microsoft" and node.op_type in _PLAIN:
            _take_apart(rewriting, node)


def _take_apart(rewriting: Rewriting, node: ir.Node) -> None:
    found = node.attributes.get("activation")
    activation = "" if found is None else found.as_string()
    if activation and activation not in _PARAMETERS:
        return
    new = Replacement(rewriting, node)
    kept: dict[str, Any] = {
        n: a for n, a in node.attributes.items() if not n.startswith("activation")
    }
    inputs = list(node.inputs)
    value = new.add(_PLAIN[node.op_type], inputs[:3], **kept).outputs[0]
    if len(inputs) > 3 and inputs[3] is not None:  # FusedConv adds it before the activation
        value = new.add("Add", [value, inputs[3]]).outputs[0]
    if activation:
        value = new.add(activation, [value], **_parameters(node, activation)).outputs[0]
    new.finish([node.outputs[0]], [value])


def _parameters(node: ir.Node, activation: str) -> dict[str, Any]:
    """Return the activation's parameters: FusedConv lists them, FusedGemm names them."""
    names = _PARAMETERS[activation]
    listed = node.attributes.get("activation_params")
    if listed is not None:
        return dict(zip(names, listed.as_floats(), strict=False))
    return {
        name: named.as_float()
        for name in names
        if (named := node.attributes.get(f"activation_{name}")) is not None
    }
