"""Graphs that move weights themselves: theta + alpha * delta + beta * eta, as nodes.

They compute what `onnxscape.core.perturbation` does, operation by operation, hence the same
bits: float64 products and sums, rounded once. All tensors of one type move as one vector, so
that a device has a handful of large operations to do instead of hundreds of small ones. It is
not split up in the graph: ONNX Runtime's Split sends the device a table as long as the vector,
every time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxscape.graph.heads.builder import PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ALPHA, BETA = f"{PREFIX}alpha", f"{PREFIX}beta"
"""Inputs, float64 [1]: the steps."""

ALIGNED = 64
"""Elements to whose multiples tensors start in a vector: 256 bytes of float32, as where a
device's memory starts that is allocated by itself."""

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


@dataclass(frozen=True, slots=True, eq=False)
class MovedVector:
    """All moved tensors of one element type, one after the other.

    Attributes:
        name: The output of `perturbation_model` that it is.
        dtype: The type.
        steps: The tensors.
        starts: Where each of them starts, in elements.
        size: Elements of the vector, those between tensors included.
    """

    name: str
    dtype: np.dtype[Any]
    steps: tuple[WeightStep, ...]
    starts: tuple[int, ...]
    size: int

    def input(self, kind: str) -> str:
        """Return the name of the input with all theta, delta or eta.

        Args:
            kind: Which of them.
        """
        return f"{PREFIX}{kind}_{self.dtype}"

    def values(self, kind: str) -> NDArray[np.floating]:
        """Return all theta, delta or eta as one vector; zero where nothing is.

        Args:
            kind: Which of them.
        """
        of = self.dtype if kind == "theta" else np.promote_types(self.dtype, np.float32)
        vector = np.zeros(self.size, of)
        for step, start in zip(self.steps, self.starts, strict=True):
            values = getattr(step, kind)
            if values is not None:
                vector[start : start + values.size] = values.ravel()
        return vector


def moved_vectors(steps: Sequence[WeightStep]) -> list[MovedVector]:
    """Return how tensors that move lie in vectors, one for each element type.

    Args:
        steps: The tensors.
    """
    vectors = []
    for dtype in dict.fromkeys(step.theta.dtype for step in steps):
        group = tuple(step for step in steps if step.theta.dtype == dtype)
        rooms = [-(-step.theta.size // ALIGNED) * ALIGNED for step in group]
        *starts, size = itertools.accumulate(rooms, initial=0)
        vectors.append(
            MovedVector(f"{PREFIX}moved_{dtype}", dtype, group, tuple(starts), size)
        )
    return vectors


def flat_inputs(steps: Sequence[WeightStep]) -> dict[str, NDArray[np.floating]]:
    """Return what the nodes take besides `ALPHA` and `BETA`.

    Args:
        steps: The tensors that move.

    Returns:
        Input name to vector: for each element type of weights all theta, all delta, all eta.
    """
    return {
        vector.input(kind): vector.values(kind)
        for kind in _KINDS
        for vector in moved_vectors(steps)
    }


def perturbation_model(steps: Sequence[WeightStep]) -> bytes:
    """Return a model whose outputs are the moved tensors, as `moved_vectors` lays them out.

    Args:
        steps: The tensors that move.

    Returns:
        The bytes of the model. Its inputs are `ALPHA`, `BETA` and `flat_inputs`.
    """
    vectors = moved_vectors(steps)
    nodes = [node for vector in vectors for node in _moving(vector)]
    outputs = [
        helper.make_tensor_value_info(
            v.name, helper.np_dtype_to_tensor_dtype(v.dtype), [v.size]
        )
        for v in vectors
    ]
    graph = helper.make_graph(nodes, "perturbation", _inputs(steps), outputs)
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
    nodes, constants = [], []
    for vector in moved_vectors(steps):
        taking_apart, numbers = _taking_apart(vector)
        nodes += [*_moving(vector), *taking_apart]
        constants += numbers
    nodes += list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *constants])
    graph.node.extend(nodes)
    graph.input.extend(_inputs(steps))
    content: bytes = proto.SerializeToString()
    return content


def _inputs(steps: Sequence[WeightStep]) -> list[onnx.ValueInfoProto]:
    return [
        *(helper.make_tensor_value_info(n, TensorProto.DOUBLE, [1]) for n in (ALPHA, BETA)),
        *(
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape
            )
            for name, values in flat_inputs(steps).items()
        ),
    ]


def _moving(vector: MovedVector) -> list[onnx.NodeProto]:
    """Return the nodes that compute a vector, under its name."""
    theta, delta, eta = (vector.input(kind) for kind in _KINDS)
    along_delta, along_eta, partly, moved = (
        f"{vector.name}_{part}" for part in ("along_delta", "along_eta", "partly", "wide")
    )
    to = helper.np_dtype_to_tensor_dtype(vector.dtype)
    return [
        *(
            helper.make_node("Cast", [name], [f"{name}_wide"], to=TensorProto.DOUBLE)
            for name in (theta, delta, eta)
        ),
        helper.make_node("Mul", [f"{delta}_wide", ALPHA], [along_delta]),
        helper.make_node("Mul", [f"{eta}_wide", BETA], [along_eta]),
        helper.make_node("Add", [f"{theta}_wide", along_delta], [partly]),
        helper.make_node("Add", [partly, along_eta], [moved]),
        helper.make_node("Cast", [moved], [vector.name], to=to),
    ]


def _taking_apart(
    vector: MovedVector,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes that cut the tensors out of a vector, and what constants they take."""
    nodes, constants = [], []
    for step, start in zip(vector.steps, vector.starts, strict=True):
        first, end, shape, flat = (
            f"{PREFIX}{step.tensor}_{part}" for part in ("first", "end", "shape", "flat")
        )
        numbers = {first: [start], end: [start + step.theta.size], shape: step.theta.shape}
        constants += [
            numpy_helper.from_array(np.array(values, np.int64), name)
            for name, values in numbers.items()
        ]
        nodes += [
            helper.make_node("Slice", [vector.name, first, end], [flat]),
            helper.make_node("Reshape", [flat, shape], [step.tensor]),
        ]
    return nodes, constants
