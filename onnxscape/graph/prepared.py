"""Prepared models: a graph with a loss head whose moved weights can be replaced."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from onnxscape.graph.batch_axis import FixedBatch, free_batch
from onnxscape.graph.canonical import broken_graphs_refused, canonical_of
from onnxscape.graph.folding import fold_batch_norms, scaled
from onnxscape.graph.heads import LossHead, graft_heads
from onnxscape.graph.narrowing import HALF_TYPES, narrowed, schema_type
from onnxscape.graph.opset_raising import raise_opset
from onnxscape.graph.parameters import find_parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from onnxscape.core.loss import Loss
    from onnxscape.core.parameter import Parameter
    from onnxscape.core.selection import Overrides
    from onnxscape.graph.model_file import ModelFile


@dataclass(frozen=True, slots=True, eq=False)
class WeightSlot:
    """A tensor of the prepared graph that follows one of the user's parameters.

    Attributes:
        tensor: Its name in the prepared graph.
        parameter: The user's parameter.
        scale: float64 [filters], the factor a folded normalization puts on each filter; None
            where the tensor is the parameter itself.
    """

    tensor: str
    parameter: Parameter
    scale: NDArray[np.float64] | None

    def transfer(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Carry weights, or a direction, from the user's tensor to this one.

        Args:
            values: Shaped like the parameter.

        Returns:
            The same step in the prepared graph; transferring is linear.
        """
        if self.scale is None:
            return values
        return scaled(self.parameter, values, self.scale)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedModel:
    """A graph that computes the loss of each sample for any values of the moved weights.

    Attributes:
        proto: The graph, weights at the center.
        slots: The tensors that move.
        head: The heads that compute the loss and metrics.
        folded: Number of normalizations folded into weights.
        batch: The batch size that the user's file is bound to; None if it takes any.
    """

    proto: onnx.ModelProto
    slots: tuple[WeightSlot, ...]
    head: LossHead
    folded: int
    batch: FixedBatch | None

    @property
    def demanded_batch(self) -> int | None:
        """The only batch size that the graph takes; None if it takes any."""
        return None if self.batch is None or self.batch.dynamic else self.batch.size

    @property
    def output(self) -> str:
        """Name of the model's output that the loss is computed from."""
        return self.head.loss.output

    def with_overridable_weights(self) -> bytes:
        """Return the model with the moved weights as inputs that have a default."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        names = {slot.tensor for slot in self.slots}
        for tensor in self.proto.graph.initializer:
            if tensor.name in names:
                proto.graph.input.append(
                    onnx.helper.make_tensor_value_info(
                        tensor.name, tensor.data_type, list(tensor.dims)
                    )
                )
        return proto.SerializeToString()

    def with_external_weights(self) -> bytes:
        """Return the model with the moved weights left out, to be given to a session.

        They are marked as external data under a made-up location; ONNX Runtime takes them
        from `SessionOptions.add_external_initializers` before it optimizes, so they are
        constants for it.
        """
        names = {slot.tensor for slot in self.slots}
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            if tensor.name in names:
                length = len(tensor.raw_data)
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
                for key, value in (
                    ("location", "weights"),
                    ("offset", "0"),
                    ("length", str(length)),
                ):
                    tensor.external_data.add(key=key, value=value)
        return proto.SerializeToString()


def analyse(
    file: ModelFile, overrides: Overrides | None = None, *, precision: str = "fp32"
) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Find the parameters of a model file.

    Args:
        file: The model.
        overrides: What the user says about single tensors; None for nothing.
        precision: Arithmetic of the forward pass, one of `PRECISIONS`.

    Returns:
        The parameters in file order, and warnings for the user.

    Raises:
        ModelFileError: If its graph is broken.
        UnsupportedModelError: If it cannot be handled.
        UsageError: If the overrides do not fit it.
    """
    form = canonical_of(file, precision)
    with broken_graphs_refused():
        parameters, warnings = find_parameters(form.model, overrides)
    return parameters, (*form.warnings, *warnings)


def prepare(
    file: ModelFile,
    parameters: Sequence[Parameter],
    *,
    moved: AbstractSet[str],
    loss: Loss,
    custom: Mapping[str, ModelFile] | None = None,
    fold: bool = True,
    precision: str = "fp32",
    exact_softmax: bool = True,
) -> PreparedModel:
    """Build the graph that evaluates a model's loss while some of its parameters move.

    Args:
        file: The model.
        parameters: Its parameters.
        moved: Names of those that move.
        loss: The loss and metrics.
        custom: Graphs given for metrics by name, or for `loss`.
        fold: Whether normalizations that nothing moves are folded into moved weights.
        precision: Arithmetic of the forward pass, one of `PRECISIONS`.
        exact_softmax: Whether LogSoftmax of float64 is computed in float64 where it will run.

    Returns:
        The prepared model; in `fp16` and `bf16` all but its heads is computed in half floats.

    Raises:
        ModelFileError: If the graph is broken.
        UnsupportedModelError: If the loss does not fit the model.
        UsageError: If the loss is not known.
    """
    by_name: Mapping[str, Parameter] = {p.name: p for p in parameters}
    with broken_graphs_refused():
        model = canonical_of(file, precision).model.clone()
        if precision in HALF_TYPES:
            raise_opset(model, schema_type(precision))
        batch = free_batch(model)
        head = graft_heads(model, loss, custom, exact_softmax=exact_softmax)
        folded = fold_batch_norms(model, by_name, moved) if fold else ()
        _drop_unused_initializers(model.graph)
        model.graph.sort()
        proto = ir.to_proto(model)
    slots = [WeightSlot(weight.tensor, weight.parameter, weight.scale) for weight in folded]
    done = {weight.parameter.name for weight in folded}
    slots += [
        WeightSlot(name, by_name[name], None) for name in by_name if name in moved - done
    ]
    tensors = {slot.tensor for slot in slots}
    if precision in HALF_TYPES:
        with broken_graphs_refused():
            proto = narrowed(proto, precision, tensors)
    _raw(proto, tensors)
    return PreparedModel(proto, tuple(slots), head, len(folded), batch)


def _drop_unused_initializers(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _raw(proto: onnx.ModelProto, names: Collection[str]) -> None:
    """Store the moved weights as raw bytes, whichever field the exporter used."""
    for tensor in proto.graph.initializer:
        if tensor.name in names and not tensor.HasField("raw_data"):
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
            )


def rebuilt(
    file: ModelFile, values: Mapping[str, NDArray[np.floating]], *, precision: str = "fp32"
) -> bytes:
    """Write the user's model with other values in its own tensors; nothing else changes.

    A value that nodes compute from constants is cut off from its node and becomes a tensor.
    Training mode is switched off. The model's canonical form is written instead if the file
    has no place for the values: a quantized or float16 tensor, a value inside a function.

    Args:
        file: The model.
        values: Parameter name to new values.
        precision: Arithmetic of the forward pass, one of `PRECISIONS`.

    Returns:
        The bytes of the model.

    Raises:
        KeyError: If there is no tensor of that name.
    """
    form = canonical_of(file, precision)
    unknown = values.keys() - form.model.graph.initializers.keys()
    if unknown:
        raise KeyError(f"{file.name} has no tensors {sorted(unknown)}")
    halves = form.loosened & {"float16", "bfloat16"} and precision != "native"
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    if "training" in form.loosened:
        _leave_training_mode(proto.graph)
    if halves or not _takes(proto.graph, values):
        proto = ir.to_proto(form.model)
    left = dict(values)
    for graph in _graphs(proto.graph):
        _put(graph, left)
    return proto.SerializeToString()


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the bodies in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            bodies = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            for body in bodies:
                yield from _graphs(body)


def _takes(graph: onnx.GraphProto, values: Mapping[str, NDArray[np.floating]]) -> bool:
    """Return whether each value has one place in a file, of its own element type."""
    places: Counter[str] = Counter()
    for part in _graphs(graph):
        for tensor in part.initializer:
            places[tensor.name] += 1
            value = values.get(tensor.name)
            if value is not None and tensor.data_type != _type(value):
                return False
        for node in part.node:
            places.update(node.output)
            for tensor in (a.t for a in node.attribute if node.op_type == "Constant"):
                value = values.get(node.output[0])
                if value is not None and tensor.data_type not in {0, _type(value)}:
                    return False
    return all(places[name] == 1 for name in values)


def _put(graph: onnx.GraphProto, left: dict[str, NDArray[np.floating]]) -> None:
    """Put values in their places, and strike out those that had one."""
    for tensor in graph.initializer:
        if tensor.name in left:
            tensor.CopyFrom(_tensor(left.pop(tensor.name), tensor.name))
    for node in graph.node:
        for number, name in enumerate(node.output):
            if name not in left:
                continue
            value = left.pop(name)
            if node.op_type == "Constant":
                del node.attribute[:]
                node.attribute.append(onnx.helper.make_attribute("value", _tensor(value, "")))
            else:
                node.output[number] = f"{name}::before"
                graph.initializer.append(_tensor(value, name))


def _leave_training_mode(graph: onnx.GraphProto) -> None:
    """Make BatchNormalization and Dropout what they are in inference."""
    for part in _graphs(graph):
        for node in part.node:
            if node.op_type == "BatchNormalization":
                del node.output[1:]
                kept = [a for a in node.attribute if a.name != "training_mode"]
                del node.attribute[:]
                node.attribute.extend(kept)
            elif node.op_type == "Dropout":
                del node.input[2:]


def _tensor(array: NDArray[np.floating], name: str) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)


def _type(array: NDArray[np.floating]) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
