"""Following the batch through a whole graph, and freeing the graph from its size."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.batch_axis import numbers
from onnxscape.graph.batch_axis.rules import follow
from onnxscape.graph.batch_axis.state import Along, State, Unprovable
from onnxscape.graph.batch_axis.step import Choices, Edits, Step
from onnxscape.graph.operands import in_evaluation_order

_NAME = "onnxscape::batch"
"""What the size of the batch is called once it is free."""

_MOST_ATTEMPTS = 64
"""How often a proof is tried with another guess where sizes do not tell the batch axis."""

_MOST_FOLLOWED = 2**18
"""Nodes that all those tries follow together; a large graph gets fewer, but one."""

_MOST_ZEROS = 2**20
"""Elements of the largest initializer that is looked through for values other than zero."""


@dataclass(frozen=True, slots=True)
class FixedBatch:
    """The batch size a model was exported for.

    Attributes:
        size: The samples its inputs must have.
        dynamic: Whether it is proven that any number of samples gives each the same outputs,
            once the graph is freed from the size.
        reason: Why that could not be proven; empty if it was.
    """

    size: int
    dynamic: bool
    reason: str = ""

    def __str__(self) -> str:
        how = (
            "made dynamic" if self.dynamic else f"run in pieces of {self.size}: {self.reason}"
        )
        return f"exported for batches of {self.size} only; {how}"


def fixed_batch(model: ir.Model) -> FixedBatch | None:
    """Tell whether a model is bound to one batch size, and whether it can be freed from it.

    Args:
        model: Canonical model; it is not changed.

    Returns:
        The batch size; None if the model takes any.

    Raises:
        UnsupportedModelError: If its inputs want different sizes.
    """
    return _prove(model)[0]


def free_batch(model: ir.Model) -> FixedBatch | None:
    """Free a model from the batch size it was exported for, where that is provably right.

    The proof follows the samples from the first axis of the inputs through every operator: the
    outputs hold them on their first axis again, and no operator lets one see another, whatever
    their number. Nothing is concluded from sizes alone, since an axis of size one may be
    anything.

    Args:
        model: Canonical model. If the proof succeeds it is changed in place: inputs and
            outputs take any number of samples, and the targets of reshapes and the like follow
            it. The names of its weights stay.

    Returns:
        The batch size; None if the model takes any already.

    Raises:
        UnsupportedModelError: If its inputs want different sizes.
    """
    found, edits = _prove(model)
    if found is not None and found.dynamic:
        edits.apply()
    return found


def why_unproven(model: ir.Model, size: int) -> str:
    """Tell what stands against a proof that no sample of a model sees another.

    Args:
        model: Canonical model that takes any number of samples; it is not changed.
        size: Some number of samples.

    Returns:
        The first operator that the samples cannot be followed through, and why; empty if the
        proof succeeds.
    """
    return _proof(model, size)[0].reason


def _prove(model: ir.Model) -> tuple[FixedBatch | None, Edits]:
    """Return what is known of the batch size, and the changes that free a graph from it."""
    size = _size(_inputs(model.graph))
    if size is None:
        return None, Edits(model.graph)
    return _proof(model, size)


def _proof(model: ir.Model, size: int) -> tuple[FixedBatch, Edits]:
    """Return whether a graph can be freed from a batch size, and the changes that do."""
    graph = model.graph
    edits = Edits(graph)
    needed = list(in_evaluation_order(graph))
    choices = Choices()
    reason = ""
    attempts = max(1, min(_MOST_ATTEMPTS, _MOST_FOLLOWED // max(1, len(needed))))
    for _ in range(attempts):
        edits = Edits(graph)
        edits.add(lambda: _forget_shapes(graph, needed))
        try:
            _follow_all(model, needed, size, edits, choices)
        except Unprovable as stop:
            reason = reason or str(stop)
        else:
            return FixedBatch(size, dynamic=True), edits
        others = choices.others()
        if others is None:
            break
        choices = others
    return FixedBatch(size, dynamic=False, reason=reason), edits


def _follow_all(
    model: ir.Model, needed: list[ir.Node], size: int, edits: Edits, choices: Choices
) -> None:
    """Follow the batch from the inputs to the outputs.

    Raises:
        Unprovable: If samples might see each other on the way, or do not arrive.
    """
    states = {value: _of_input(value, size) for value in _inputs(model.graph)}
    opset = model.opset_imports.get("", 1)
    for node in needed:
        inputs = tuple(None if value is None else _of(value, states) for value in node.inputs)
        try:
            made = follow(Step(node, inputs, opset, size, edits, choices))
        except Unprovable as stop:
            name = node.name or node.outputs[0].name
            raise Unprovable(f"{node.op_type} {name!r} {stop}") from None
        for slot, output in enumerate(node.outputs):
            states[output] = made[min(slot, len(made) - 1)]
    for value in model.graph.outputs:
        _check_output(value, states)


def _of(value: ir.Value, states: dict[ir.Value, State]) -> State:
    """Return what is known of an input of a node."""
    if value not in states:
        states[value] = _of_initializer(value)
    return states[value]


def _of_initializer(value: ir.Value) -> State:
    tensor = value.const_value
    if tensor is None:
        return State(None)
    shape = tuple(int(size) for size in tensor.shape.numpy())
    if tensor.dtype in numbers.WHOLE and tensor.size <= numbers.MOST:
        return State(shape, numbers=numbers.of_constant(tensor.numpy()))
    floating = tensor.dtype in {ir.DataType.FLOAT, ir.DataType.DOUBLE}
    zero = floating and tensor.size <= _MOST_ZEROS and not tensor.numpy().any()
    return State(shape, zero=bool(zero))


def _of_input(value: ir.Value, batch: int) -> State:
    """Return where an input holds the batch.

    Raises:
        Unprovable: If it has no first axis.
    """
    if value.shape is None or not value.shape.rank():
        raise Unprovable(f"input {value.name!r} has no batch axis")
    rest = [_known(size) for size in value.shape.dims[1:]]
    return State((batch, *rest), Along(0))


def _check_output(value: ir.Value, states: dict[ir.Value, State]) -> None:
    """Check that an output holds the batch where the inputs do.

    Raises:
        Unprovable: If it does not.
    """
    if states.get(value, State(None)).along != Along(0):
        raise Unprovable(f"output {value.name!r} does not have the samples on its first axis")


def _forget_shapes(graph: ir.Graph, needed: list[ir.Node]) -> None:
    """Free inputs and outputs from the batch size; drop what is stale or not needed."""
    kept = set(needed)
    graph.remove([node for node in graph if node not in kept], safe=True)
    for node in needed:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    for value in (*_inputs(graph), *graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([_NAME, *value.shape.dims[1:]])


def _inputs(graph: ir.Graph) -> list[ir.Value]:
    return [value for value in graph.inputs if not value.is_initializer()]


def _size(inputs: list[ir.Value]) -> int | None:
    """Return the number of samples that inputs demand; None if they take any.

    Raises:
        UnsupportedModelError: If they demand different ones.
    """
    demanded = {
        str(value.name): size
        for value in inputs
        if value.shape is not None and value.shape.rank() and (size := _known(value.shape[0]))
    }
    if len(set(demanded.values())) > 1:
        text = ", ".join(f"{name!r} {size}" for name, size in demanded.items())
        raise UnsupportedModelError(
            "expected inputs for one number of samples, the model's first axes differ: "
            f"{text}; export it with the batch on the first axis of every input"
        )
    return next(iter(demanded.values()), None)


def _known(size: int | ir.SymbolicDim) -> int | None:
    return size if isinstance(size, int) and size > 0 else None
