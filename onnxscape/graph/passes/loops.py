"""Loops: what stays the same in every trip, and those that would not end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.operands import constant_array, resolve
from onnxscape.graph.operators import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxscape.graph.passes.notes import Notes

MAX_TRIPS = 10**6
"""Trips of a Loop; recurrent networks take one per step of a sequence."""


def capture_invariants(model: ir.Model, _notes: Notes) -> None:
    """Read a constant where it is, not from the state that a loop hands on unchanged.

    Before: constants are initializers. After: no node in the body of a Loop or Scan uses a
    state that starts as a constant and never changes; it uses the constant.
    """
    for node in model.graph.all_nodes():
        if node.domain not in {"", "ai.onnx"} or node.op_type not in {"Loop", "Scan"}:
            continue
        body = node.attributes["body"].as_graph()
        # A Loop begins with the number of trips and a condition, its body hands on the latter.
        skipped, handed = (2, 1) if node.op_type == "Loop" else (0, 0)
        states = len(node.inputs) - skipped
        if node.op_type == "Scan":
            states -= attribute(node, "num_scan_inputs", 0)
        for index in range(states):
            start = node.inputs[skipped + index]
            state = body.inputs[skipped + index]
            if start is not None and resolve(start) is not None:
                if _source(body.outputs[handed + index]) is not state:
                    continue
                for use in list(state.uses()):
                    use.node.replace_input_with(use.idx, start)


def _source(value: ir.Value) -> ir.Value:
    """Return what a value is a copy of."""
    while (maker := value.producer()) is not None and maker.op_type == "Identity":
        copied = maker.inputs[0]
        if copied is None:
            break
        value = copied
    return value


def refuse_endless_loops(model: ir.Model, _notes: Notes) -> None:
    """Before: constants are initializers. After: no Loop is known to run for hours.

    Raises:
        UnsupportedModelError: If a Loop cannot stop before an absurd number of trips.
    """
    for node in model.graph.all_nodes():
        if node.op_type != "Loop" or node.domain not in {"", "ai.onnx"}:
            continue
        limit = node.inputs[0] if node.inputs else None
        array = None if limit is None else constant_array(limit)
        endless = limit is None or (
            array is not None and array.size and array.max() > MAX_TRIPS
        )
        if endless and not _may_stop(node.attributes["body"].as_graph()):
            number = "without end" if array is None else f"{int(array.max())} times"
            raise UnsupportedModelError(
                f"Loop {node.name!r} is to run {number}, and nothing in it says when to stop; "
                f"expected at most {MAX_TRIPS} times: export the model anew"
            )


def _may_stop(body: ir.Graph) -> bool:
    """Return whether the body computes its condition instead of handing it on."""
    condition: ir.Value | None = body.outputs[0]
    while condition is not None and (node := condition.producer()) is not None:
        if node.op_type not in {"Identity", "Constant"}:
            return True
        condition = node.inputs[0] if node.inputs else None
    array = None if condition is None else constant_array(condition)
    return array is not None and not array.all()
