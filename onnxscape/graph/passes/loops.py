"""Loops: states that never change, weights among them, and loops that would not end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.operands import VIEWS, bodies, constant_array, origin, resolve
from onnxscape.graph.operators import attribute

if TYPE_CHECKING:
    from onnxscape.graph.passes.notes import Notes

MAX_TRIPS = 10**6
"""Trips of a Loop; recurrent networks take one per step of a sequence."""

_SAME = frozenset({"Identity"})


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
            and origin(body.outputs[slot - first + made], _SAME) is body.inputs[slot]
            and not node.outputs[slot - first].is_graph_output()
        }
        # One that goes altogether still runs in the user's file: its limit must be known.
        if gone and (len(gone) < len(node.outputs) or not _is_open(node)):
            _drop_states(node, body, gone, first, made)


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
    """Before: constants are initializers. After: as `refuse_long_loops`, without warnings."""
    _check_loops(model.graph, 1, None)


def refuse_long_loops(model: ir.Model, notes: Notes) -> None:
    """Before: constants are folded. After: no loop is known to run for hours.

    A body runs once for every trip of each loop around it: trips multiply, those of a Loop by
    its limit, those of a Scan by the length of what it scans. The user is told of a loop that
    nothing limits: no constant, no size of a value, and no condition.

    Raises:
        UnsupportedModelError: If a loop cannot stop before an absurd number of trips, alone or
            together with those around it.
    """
    _check_loops(model.graph, 1, notes)


def _check_loops(graph: ir.Graph, around: int, notes: Notes | None) -> None:
    """Check the loops of a graph that runs so many times itself."""
    for node in graph:
        inner = bodies(node)
        if not inner:
            continue
        trips = around
        if node.op_type in {"Loop", "Scan"} and node.domain in {"", "ai.onnx"}:
            trips *= _trips(node, around, notes)
        for body in inner:
            _check_loops(body, trips, notes)


def _trips(node: ir.Node, around: int, notes: Notes | None) -> int:
    """Return how often a loop runs at most, as far as the file tells; 1 if it does not.

    Raises:
        UnsupportedModelError: If that is too often.
    """
    trips = _loop_limit(node) if node.op_type == "Loop" else _scan_length(node)
    may_stop = node.op_type == "Loop" and _may_stop(node.attributes["body"].as_graph())
    if trips is None:
        if notes is not None and _is_open(node):
            notes.warn(
                f"how often {node.op_type} {node.name!r} runs is computed while it runs, and "
                "nothing says how often at most: an evaluation may take very long"
            )
        return 1
    if trips * around > MAX_TRIPS and not may_stop:
        number = "without end" if trips == math.inf else f"{int(trips)} times"
        again = f", {around} times over in the loops around it" if around > 1 else ""
        raise UnsupportedModelError(
            f"{node.op_type} {node.name!r} is to run {number}{again}, and nothing in it says "
            f"when to stop; expected at most {MAX_TRIPS} trips in all: export the model anew"
        )
    # One that may stop early is taken at its word; its limit is often the largest integer.
    return 1 if may_stop and trips * around > MAX_TRIPS else max(1, int(trips))


def _loop_limit(node: ir.Node) -> float | None:
    """Return the trips of a Loop, infinite if it has no limit; None if that is computed."""
    limit = node.inputs[0] if node.inputs else None
    if limit is None:
        return math.inf
    array = constant_array(limit)
    return None if array is None or not array.size else int(array.max())


def _is_open(node: ir.Node) -> bool:
    """Return whether nothing limits a Loop: no constant, no size, and no condition."""
    if node.op_type != "Loop" or _loop_limit(node) is not None:
        return False
    return not (_may_stop(node.attributes["body"].as_graph()) or _is_size(node.inputs[0]))


def _is_size(value: ir.Value | None) -> bool:
    """Return whether a number is the size of an axis, picked from a shape."""
    source = origin(value, _PICKS)
    maker = None if source is None else source.producer()
    return maker is not None and maker.op_type == "Shape"


_PICKS = VIEWS | {"Cast", "Gather", "Slice"}
"""Operators behind which a size is still one."""


def _scan_length(node: ir.Node) -> int:
    """Return the length of what a Scan goes through; 1 if the file does not tell.

    What it scans is in memory by then, so that nothing need be said of an unknown length.
    """
    count = attribute(node, "num_scan_inputs", 0)
    first = len(node.inputs) - count
    found = node.attributes.get("scan_input_axes")
    axes = list(found.as_ints()) if found is not None else [0] * count
    for value, axis in zip(node.inputs[first:], axes, strict=False):
        operand = resolve(value)
        shape = (
            operand.shape
            if operand is not None
            else ()
            if value is None or value.shape is None
            else tuple(value.shape)
        )
        size = shape[axis] if -len(shape) <= axis < len(shape) else None
        if isinstance(size, int | np.integer):
            return int(size)
    return 1


def _may_stop(body: ir.Graph) -> bool:
    """Return whether the body computes its condition instead of handing it on."""
    condition = origin(body.outputs[0], _SAME)
    maker = None if condition is None else condition.producer()
    if maker is not None and maker.op_type not in _SAME | {"Constant"}:
        return True
    array = None if condition is None else constant_array(condition)
    return array is not None and not array.all()
