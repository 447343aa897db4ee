"""Prepared models: a graph with a loss head whose moved weights can be replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from onnxscape.graph.batch_axis import FixedBatch, free_batch
from onnxscape.graph.canonical import broken_graphs_refused, canonical
from onnxscape.graph.folding import fold_batch_norms, scaled
from onnxscape.graph.heads import LossHead, graft_loss
from onnxscape.graph.parameters import find_parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from onnxscape.core.parameter import Parameter
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
        head: The loss head.
        output: Name of the model's own output.
        folded: Number of normalizations folded into weights.
        batch: The batch size that the user's file is bound to; None if it takes any.
    """

    proto: onnx.ModelProto
    slots: tuple[WeightSlot, ...]
    head: LossHead
    output: str
    folded: int
    batch: FixedBatch | None

    @property
    def demanded_batch(self) -> int | None:
        """The only batch size that the graph takes; None if it takes any."""
        return None if self.batch is None or self.batch.dynamic else self.batch.size

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


def analyse(file: ModelFile) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Find the parameters of a model file.

    Args:
        file: The model.

    Returns:
        The parameters in file order, and warnings for the user.

    Raises:
        ModelFileError: If its graph is broken.
        UnsupportedModelError: If it cannot be handled.
    """
    with broken_graphs_refused():
        return find_parameters(canonical(file.proto))


def prepare(
    file: ModelFile,
    parameters: Sequence[Parameter],
    *,
    moved: AbstractSet[str],
    loss: str,
    fold: bool = True,
) -> PreparedModel:
    """Build the graph that evaluates a model's loss while some of its parameters move.

    Args:
        file: The model.
        parameters: Its parameters.
        moved: Names of those that move.
        loss: Name of the loss.
        fold: Whether normalizations that nothing moves are folded into moved weights.

    Returns:
        The prepared model.

    Raises:
        ModelFileError: If the graph is broken.
        UnsupportedModelError: If the loss does not fit the model.
        UsageError: If the loss is not known.
    """
    by_name: Mapping[str, Parameter] = {p.name: p for p in parameters}
    with broken_graphs_refused():
        model = canonical(file.proto)
        batch = free_batch(model)
        output = str(model.graph.outputs[0].name)
        head = graft_loss(model, loss)
        folded = fold_batch_norms(model, by_name, moved) if fold else ()
        _drop_unused_initializers(model.graph)
        model.graph.sort()
        proto = ir.to_proto(model)
    slots = [WeightSlot(weight.tensor, weight.parameter, weight.scale) for weight in folded]
    done = {weight.parameter.name for weight in folded}
    slots += [
        WeightSlot(name, by_name[name], None) for name in by_name if name in moved - done
    ]
    _raw(proto, {slot.tensor for slot in slots})
    return PreparedModel(proto, tuple(slots), head, output, len(folded), batch)


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


def rebuilt(file: ModelFile, values: Mapping[str, NDArray[np.floating]]) -> bytes:
    """Write the user's model with other values in its own tensors; nothing else changes.

    The self-test compares with this: it shares no step with `prepare`.

    Args:
        file: The model.
        values: Parameter name to new values.

    Returns:
        The bytes of the model.

    Raises:
        KeyError: If the file has no tensor of that name.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    if not values.keys() <= _names(proto.graph) and proto.functions:
        # Weights inside a function get their names where the function is inlined.
        proto = ir.to_proto(canonical(file.proto))
    left = dict(values)
    for tensor in proto.graph.initializer:
        if tensor.name in left:
            tensor.CopyFrom(_tensor(left.pop(tensor.name), tensor.name))
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.output[0] in left:
            value = _tensor(left.pop(node.output[0]), "")
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", value))
    if left:
        raise KeyError(f"{file.name} has no tensors {sorted(left)}")
    return proto.SerializeToString()


def _names(graph: onnx.GraphProto) -> set[str]:
    constants = (node.output[0] for node in graph.node if node.op_type == "Constant")
    return {tensor.name for tensor in graph.initializer}.union(constants)


def _tensor(array: NDArray[np.floating], name: str) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
