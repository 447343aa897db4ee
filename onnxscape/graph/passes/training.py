"""Training mode: BatchNormalization and Dropout as they are in inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.operands import constant_array

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxscape.graph.passes.notes import Notes

_REMEDY = "export the model in evaluation mode (model.eval())"


def leave_training_mode(model: ir.Model, notes: Notes) -> None:
    """Before: constants are initializers. After: no node does what only training does.

    BatchNormalization takes the stored statistics in place of the batch's, Dropout lets all
    pass; the user is told of each.

    Raises:
        UnsupportedModelError: If that is not possible: the statistics of the batch are used
            elsewhere, or an input of the model decides.
    """
    for node in list(model.graph.all_nodes()):
        if node.domain not in {"", "ai.onnx"}:
            continue
        if node.op_type == "BatchNormalization":
            _normalize_by_stored_statistics(node, notes)
        elif node.op_type == "Dropout":
            _let_all_pass(node, notes)


def _normalize_by_stored_statistics(node: ir.Node, notes: Notes) -> None:
    mode = node.attributes.get("training_mode")
    training = mode is not None and mode.as_int() != 0
    # Before opset 14 further outputs are what asks for training.
    further = [value for value in node.outputs[1:] if value.name]
    if not training and not further:
        return
    if any(value.uses() or value.is_graph_output() for value in further):
        raise UnsupportedModelError(
            f"BatchNormalization {node.name!r} is in training mode and the model uses the "
            f"statistics of the batch elsewhere; {_REMEDY}"
        )
    node.resize_outputs(1)
    node.attributes.pop("training_mode", None)
    _tell(node, "its stored statistics are used in place of the batch's", notes)


def _let_all_pass(node: ir.Node, notes: Notes) -> None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return
    flag = constant_array(node.inputs[2])
    if flag is None:
        raise UnsupportedModelError(
            f"Dropout {node.name!r} is in training mode whenever "
            f"{node.inputs[2].name!r} says so, which is no constant; {_REMEDY}"
        )
    node.replace_input_with(2, None)
    if flag.any():
        _tell(node, "it drops nothing here", notes)


def _tell(node: ir.Node, what: str, notes: Notes) -> None:
    notes.loosened.add("training")
    notes.warn(f"{node.op_type} {node.name!r} is in training mode: {what}; {_REMEDY}")
