"""Outputs that are no tensors: the maps of scikit-learn's converters, and sequences."""

from __future__ import annotations

import onnx

from onnxscape.errors import UnsupportedModelError


def keep_tensor_outputs(proto: onnx.ModelProto) -> bool:
    """Leave a model only outputs that are tensors.

    A ZipMap at an output is taken out: the tensor that it would turn into a list of maps gets
    the output's name. Other sequences and maps are no outputs any more.

    Args:
        proto: A model; changed in place.

    Returns:
        Whether anything was changed.

    Raises:
        UnsupportedModelError: If no output is left.
    """
    opened = _open_maps(proto)
    outputs = list(proto.graph.output)
    tensors = [v for v in outputs if v.type.WhichOneof("value") in {None, "tensor_type"}]
    if not tensors:
        found = ", ".join(f"{v.name!r} ({v.type.WhichOneof('value')})" for v in outputs)
        raise UnsupportedModelError(
            f"expected an output that is a tensor, the model has only {found}; export it "
            "with its tensors as outputs"
        )
    del proto.graph.output[:]
    proto.graph.output.extend(tensors)
    return opened or len(tensors) < len(outputs)


def _open_maps(proto: onnx.ModelProto) -> bool:
    """Return whether there were ZipMaps at outputs, after making them Identities."""
    outputs = {value.name: value for value in proto.graph.output}
    found = [
        node
        for node in proto.graph.node
        if node.op_type == "ZipMap"
        and node.domain == "ai.onnx.ml"
        and node.output[0] in outputs
    ]
    for node in found:
        value = outputs[node.output[0]]
        node.op_type, node.domain = "Identity", ""
        del node.attribute[:]
        value.type.Clear()
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return bool(found)
