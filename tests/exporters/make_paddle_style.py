"""Rewrite torch's exports as other exporters and tools write them, with onnx alone.

    python tests/exporters/make_paddle_style.py

Paddle keeps every weight in a Constant node; old files list weights as inputs; converters
lose names and order, and put views between a weight and its operator.
"""

from __future__ import annotations

import numpy as np
import onnx
from fixture_files import MODELS, save
from onnx import TensorProto, helper, numpy_helper

UNFOLDED = "cnn_torch_legacy_nofolding_eval"
FOLDED = "cnn_torch_legacy_folding_eval"
BLOCK = "block_torch_legacy_nofolding"


def read(name):
    """Return a fixture that torch exported."""
    return onnx.load(MODELS / f"{name}.onnx")


def with_constants(model):
    """Move all initializers into Constant nodes, as Paddle has them."""
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=_unnamed(tensor))
        for tensor in model.graph.initializer
    ]
    del model.graph.initializer[:]
    _replace(model.graph.node, [*constants, *model.graph.node])
    return model


def as_ir3(model):
    """List all initializers as inputs, before and behind the real one, as IR 3 demands."""
    values = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    ]
    half = len(values) // 2
    _replace(model.graph.input, [*values[:half], *model.graph.input, *values[half:]])
    model.ir_version = 3
    return model


def anonymous(model):
    """Replace all names by numbers, and shuffle weights and (as far as may be) nodes."""
    shuffle = np.random.default_rng(0).shuffle
    graph = model.graph
    names = {tensor.name for tensor in graph.initializer}
    names |= {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {value.name for value in (*graph.input, *graph.output)}
    numbers = [str(number) for number in range(len(names))]
    shuffle(numbers)
    new = dict(zip(sorted(names), numbers, strict=True)) | {"": ""}
    for tensor in (*graph.initializer, *graph.input, *graph.output):
        tensor.name = new[tensor.name]
    for node in graph.node:
        node.name = ""
        _replace(node.input, [new[name] for name in node.input])
        _replace(node.output, [new[name] for name in node.output])
    del graph.value_info[:]
    tensors = list(graph.initializer)
    shuffle(tensors)
    _replace(graph.initializer, tensors)
    known = {tensor.name for tensor in (*tensors, *graph.input)} | {""}
    left, ordered = list(graph.node), []
    while left:
        shuffle(left)
        ready = next(node for node in left if known.issuperset(node.input))
        left.remove(ready)
        ordered.append(ready)
        known |= set(ready.output)
    _replace(graph.node, ordered)
    return model


def with_views(model):
    """Store weights in other shapes; nodes in front of the operators bring them back."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []

    def store(name, array, *views):
        """Store an array under another name; views lead from it to the old name."""
        stored = f"{name}/stored"
        tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), stored))
        for number, (op, attributes, extra) in enumerate(views, 1):
            result = name if number == len(views) else f"{name}/{number}"
            nodes.append(helper.make_node(op, [stored, *extra], [result], **attributes))
            stored = result

    def integers(name, *values):
        array = np.array(values, dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    value = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    identity = ("Identity", {}, ())
    store("conv1.weight", value["conv1.weight"], identity, identity)
    store(
        "depthwise.weight",
        value["depthwise.weight"].transpose(2, 3, 0, 1),  # as Keras stores it
        ("Transpose", {"perm": [2, 3, 0, 1]}, ()),
    )
    store(
        "conv2.weight",
        value["conv2.weight"].transpose(1, 2, 3, 0).reshape(72, 12),
        ("Transpose", {}, ()),
        ("Reshape", {}, (integers("kernel shape", 0, 8, 3, -1),)),
    )
    store(
        "fc1.weight",
        value["fc1.weight"].T[None],
        ("Squeeze", {}, (integers("first axis", 0),)),
        ("Transpose", {"perm": [1, 0]}, ()),
        identity,
    )
    store(
        "fc2.weight",
        value["fc2.weight"].reshape(-1),
        ("Reshape", {}, (integers("matrix shape", 10, 16),)),
        ("Unsqueeze", {}, (integers("new axis", 0),)),
        ("Flatten", {"axis": 2}, ()),
        ("Reshape", {}, (integers("matrix shape again", -1, 16),)),
    )
    store("bn2.weight", value["bn2.weight"], identity)
    store(
        "bn3.running_var",
        value["bn3.running_var"][None],
        ("Reshape", {}, (integers("flat", -1),)),
    )
    _replace(model.graph.node, [*nodes, *model.graph.node])
    return model


def with_float_data(model):
    """Keep the values in the field of floats, not as raw bytes."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).ravel().tolist()
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values)
    return model


def in_precision(model, dtype, data_type):
    """Return the dense network in another precision, input and output too."""
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = data_type
    del model.graph.value_info[:]
    return model


def _unnamed(tensor):
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = ""
    return copy


def _replace(field, items):
    items = list(items)
    del field[:]
    field.extend(items)


def checked(model):
    """Return a model that onnx finds valid."""
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    for name, base in (("cnn", UNFOLDED), ("cnn_folded", FOLDED), ("block", BLOCK)):
        save(checked(with_constants(read(base))), f"{name}_paddle_constants")
        save(checked(as_ir3(read(base))), f"{name}_old_ir3")
        save(checked(anonymous(read(base))), f"{name}_converter_anonymous")
    save(checked(with_views(read(UNFOLDED))), "cnn_converter_views")
    save(checked(with_constants(with_views(read(UNFOLDED)))), "cnn_paddle_views")
    save(checked(with_float_data(read(UNFOLDED))), "cnn_converter_floatdata")
    mlp = "mlp_torch_legacy_nofolding"
    save(checked(in_precision(read(mlp), np.float64, TensorProto.DOUBLE)), "mlp_double")
    save(checked(in_precision(read(mlp), np.float16, TensorProto.FLOAT16)), "mlp_half")
