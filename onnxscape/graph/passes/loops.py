"""Loops: weights that are handed from step to step as a state which never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.graph.operands import bodies, resolve
from onnxscape.graph.operators import attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

    from onnxscape.graph.passes.notes import Notes


def capture_unchanged_states(model: ir.Model, _notes: Notes) -> None:
    """Let bodies of Loop and Scan capture the constants that they pass on as they are.

    Before: constants are initializers of the main graph. After: no body uses a state that
    begins as a constant and stays one; it uses the constant.
    """
    for node in model.graph.all_nodes():
        for start, state, following in _states(node):
            if resolve(start) is None or _origin(following) is not state:
                continue
            for use in state.uses():  # but for the output of the body, which it may be
                use.node.replace_input_with(use.idx, start)


def _origin(value: ir.Value | None) -> ir.Value | None:
    """Return what a value is when Identity nodes are left out."""
    while value is not None and (maker := value.producer()) is not None:
        value = maker.inputs[0] if maker.op_type == "Identity" else None
    return value


def _states(
    node: ir.Node,
) -> Iterator[tuple[ir.Value | None, ir.Value, ir.Value | None]]:
    """Yield the first value of each state, the state in the body, and its next value."""
    if node.op_type == "Loop":
        (body,) = bodies(node)
        yield from zip(node.inputs[2:], body.inputs[2:], body.outputs[1:], strict=False)
    elif node.op_type == "Scan":
        (body,) = bodies(node)
        count = len(node.inputs) - attribute(node, "num_scan_inputs", 0)
        yield from zip(node.inputs[:count], body.inputs, body.outputs, strict=False)
