"""Refusal of graphs that draw random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.errors import UnsupportedModelError

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


def refuse_randomness(model: ir.Model, _notes: Notes) -> None:
    """After: the same inputs give the same outputs.

    Raises:
        UnsupportedModelError: If a node draws random numbers.
    """
    for node in model.graph.all_nodes():
        if node.op_type in _RANDOM and node.domain in {"", "ai.onnx"}:
            raise UnsupportedModelError(
                f"{node.op_type} {node.name!r} draws random numbers: the loss would change "
                "from run to run; export it in evaluation mode, or with fixed noise"
            )
