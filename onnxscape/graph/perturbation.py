"""Graphs that move weights themselves: theta + alpha * delta + beta * eta, as nodes.

They compute what `onnxscape.core.perturbation` does, operation by operation, hence the same
bits: float64 products and sums, rounded once. All tensors of one type move as one vector, so
that a device has a handful of large operations to do instead of hundreds of small ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxscape.graph.heads.builder import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

ALPHA, BETA = f"{PREFIX}alpha", f"{PREFIX}beta"
"""Inputs, float64 [1]: the steps."""

_KINDS = ("theta", "delta", "eta")
_OPSET = 18


@dataclass(frozen=True, slots=True, eq=False)
class WeightStep:
    """How one tensor of a prepared graph moves.

    Attributes:
        tensor: Its name.
        theta: Its values at the center.
        delta: Step of alpha, shaped like theta; None if it leaves the tensor alone.
        eta: Step of beta, likewise.
    """

    tensor: str
    theta: NDArray[np.floating]
    delta: NDArray[np.floating] | None
    eta: NDArray[np.floating] | None


def flat_inputs(steps: Sequence[WeightStep]) -> dict[str, NDArray[np.floating]]:
    """Return what the nodes take besides `ALPHA` and `BETA`.

    Args:
        steps: The tensors that move.

    Returns:
        Input name to vector: for each element type of weights all theta, all delta, all eta.
    """
    return {
        name: np.concatenate([_values(step, kind).ravel() for step in group])
        for kind in _KINDS
        for name, group in _groups(steps, kind)
    }


def perturbation_model(steps: Sequence[WeightStep]) -> bytes:
    """Return a model whose outputs are the moved tensors, under their names.

    Args:
        steps: The tensors that move.

    Returns:
        The bytes of the model. Its inputs are `ALPHA`, `BETA` and `flat_inputs`.
    """
    nodes, constants = _nodes(steps)
    outputs = [
        helper.make_tensor_value_info(
            step.tensor, helper.np_dtype_to_tensor_dtype(step.theta.dtype), step.theta.shape
        )
        for step in steps
    ]
    graph = helper.make_graph(nodes, "perturbation", _inputs(steps), outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8
    )
    content: bytes = model.SerializeToString()
    return content


def self_moving(model: onnx.ModelProto, steps: Sequence[WeightStep]) -> bytes:
    """Return a model that computes its own weights from `ALPHA`, `BETA` and `flat_inputs`.

    Args:
        model: The model, its weights initializers; stays as it is.
        steps: The tensors that move.

    Returns:
        The bytes of the model.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    graph = proto.graph
    moved = {step.tensor for step in steps}
    kept = [tensor for tensor in graph.initializer if tensor.name not in moved]
    nodes, constants = _nodes(steps)
    nodes += list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *constants])
    graph.node.extend(nodes)
    graph.input.extend(_inputs(steps))
    content: bytes = proto.SerializeToString()
    return content


def _groups(steps: Sequence[WeightStep], kind: str) -> Iterator[tuple[str, list[WeightStep]]]:
    """Yield the input of one kind for each element type of weights, and what is in it."""
    for dtype in dict.fromkeys(step.theta.dtype for step in steps):
        yield (
            f"{PREFIX}{kind}_{dtype}",
            [step for step in steps if step.theta.dtype == dtype],
        )


def _values(step: WeightStep, kind: str) -> NDArray[np.floating]:
    values = step.theta if kind == "theta" else step.delta if kind == "delta" else step.eta
    return np.zeros(step.theta.shape, _type(step)) if values is None else values


def _type(step: WeightStep) -> np.dtype[Any]:
    """Return the type of a tensor's directions."""
    return np.promote_types(step.theta.dtype, np.float32)


def _inputs(steps: Sequence[WeightStep]) -> list[onnx.ValueInfoProto]:
    flat: Mapping[str, NDArray[np.floating]] = flat_inputs(steps)
    return [
        *(helper.make_tensor_value_info(n, TensorProto.DOUBLE, [1]) for n in (ALPHA, BETA)),
        *(
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape
            )
            for name, values in flat.items()
        ),
    ]


def _nodes(
    steps: Sequence[WeightStep],
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    groups = zip(*(_groups(steps, kind) for kind in _KINDS), strict=True)
    for (theta, group), (delta, _), (eta, _) in groups:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_wide"], to=TensorProto.DOUBLE)
            for name in (theta, delta, eta)
        ]
        along_delta, along_eta, partly, moved = (
            f"{theta}_{part}" for part in ("along_delta", "along_eta", "partly", "moved")
        )
        to = helper.np_dtype_to_tensor_dtype(group[0].theta.dtype)
        nodes += [
            helper.make_node("Mul", [f"{delta}_wide", ALPHA], [along_delta]),
            helper.make_node("Mul", [f"{eta}_wide", BETA], [along_eta]),
            helper.make_node("Add", [f"{theta}_wide", along_delta], [partly]),
            helper.make_node("Add", [partly, along_eta], [moved]),
            helper.make_node("Cast", [moved], [f"{moved}_rounded"], to=to),
        ]
        pieces = [f"{PREFIX}{step.tensor}_flat" for step in group]
        sizes = np.array([step.theta.size for step in group], np.int64)
        constants.append(numpy_helper.from_array(sizes, f"{theta}_sizes"))
        nodes.append(
            helper.make_node("Split", [f"{moved}_rounded", f"{theta}_sizes"], pieces, axis=0)
        )
        for step, piece in zip(group, pieces, strict=True):
            shape = f"{PREFIX}{step.tensor}_shape"
            constants.append(
                numpy_helper.from_array(np.array(step.theta.shape, np.int64), shape)
            )
            nodes.append(helper.make_node("Reshape", [piece, shape], [step.tensor]))
    return nodes, constants
