"""Loops: states that never change, weights among them, and loops that would not end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.operands import bodies, constant_array, resolve
from onnxscape.graph.operators import attribute

if TYPE_CHECKING:
    from onnxscape.graph.passes.notes import Notes

MAX_TRIPS = 10**6
"""Trips of a Loop; recurrent networks take one per step of a sequence."""


def capture_unchanged_states(model: ir.Model, _notes: Notes) -> None:
    """Let bodies of Loop and Scan capture the constants that they pass on as they are.

    Before: constants are initializers of the main graph. After: no state begins as a constant
    and stays one; bodies, and what comes behind the loop, use the constant.
    """
    for node in list(model.graph.all_nodes()):
        if node.op_type not in {"Loop", "Scan"}:
            continue
        (body,) = bodies(node)
        # Loop: trip count and condition come first; of those the body makes the condition.
        first, made = (2, 1) if node.op_type == "Loop" else (0, 0)
        end = len(node.inputs) - attribute(node, "num_scan_inputs", 0)
        gone = {
            slot
            for slot in range(first, end)
            if resolve(node.inputs[slot]) is not None
            and _origin(body.outputs[slot - first + made]) is body.inputs[slot]
            and not node.outputs[slot - first].is_graph_output()
        }
        if gone:
            _drop_states(node, body, gone, first, made)


def _origin(value: ir.Value | None) -> ir.Value | None:
    """Return what a value is when Identity nodes are left out."""
    while value is not None and (maker := value.producer()) is not None:
        value = maker.inputs[0] if maker.op_type == "Identity" else None
    return value


def _drop_states(node: ir.Node, body: ir.Graph, gone: set[int], first: int, made: int) -> None:
    """Take states out of a loop; what used them uses the values they begin with."""
    for slot in sorted(gone, reverse=True):
        start = node.inputs[slot]
        assert start is not None  # noqa: S101 - it was resolved
        node.outputs[slot - first].replace_all_uses_with(start)
        body.outputs.pop(slot - first + made)
        body.inputs.pop(slot).replace_all_uses_with(start)
    kept = [out for i, out in enumerate(node.outputs) if i + first not in gone]
    graph = node.graph
    assert graph is not None  # noqa: S101 - it was found in one
    if not kept:
        graph.remove(node, safe=True)
        return
    loop = ir.Node(
        node.domain,
        node.op_type,
        [value for slot, value in enumerate(node.inputs) if slot not in gone],
        node.attributes.values(),
        num_outputs=len(kept),
        name=node.name,
    )
    ir.convenience.replace_nodes_and_values(graph, node, [node], [loop], kept, loop.outputs)


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
