"""Refusal of graphs that draw random numbers or loop without an end in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.operands import constant_array

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxscape.graph.passes.notes import Notes

_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)

MAX_TRIPS = 10**6
"""Trips of a Loop; recurrent networks take one per step of a sequence."""


def refuse_randomness(model: ir.Model, _notes: Notes) -> None:
    """After: the same inputs give the same outputs.

    Raises:
        UnsupportedModelError: If a node draws random numbers.
    """
    for node in model.graph.all_nodes():
        if node.op_type in _RANDOM and node.domain in {"", "ai.onnx"}:
            raise UnsupportedModelError(
                f"{node.op_type} {node.name!r} draws random numbers: the loss would change "
                "from run to run; export the model in evaluation mode, or with fixed noise"
            )


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
