"""Files in float32, with plain onnx edits: half precision, quantized operators, training mode.

What a quantized operator computes is written with the float operator between DequantizeLinear
and QuantizeLinear; its weight stands under the name of the quantized tensor.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16


def float_form(model):
    """Return a copy of a model in which all is float32 that can be."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for graph in graphs_of(copy.graph):
        _leave_training_mode(graph)
        _widen(graph)
    _replace_quantized(copy)
    return copy


def graphs_of(graph):
    """Yield a graph and those in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs_of(attribute.g)


def _leave_training_mode(graph):
    for node in graph.node:
        if node.op_type == "Dropout":
            del node.input[1:]
            del node.output[1:]
        if node.op_type == "BatchNormalization":
            kept = [a for a in node.attribute if a.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
            del node.output[1:]


def _widen(graph):
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type in {HALF, BFLOAT}:
            kind.elem_type = FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            if attribute.name in {"to", "dtype"} and attribute.i in {HALF, BFLOAT}:
                attribute.i = FLOAT


def _widen_tensor(tensor):
    if tensor.data_type in {HALF, BFLOAT}:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _replace_quantized(model):
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes, floats = [], {}
    _look_up_floats(graph, constants, floats)
    for node in graph.node:
        write = WRITTEN.get(node.op_type)
        new = None if write is None else write(node, constants, floats)
        nodes += [node] if new is None else new
    kept = [tensor for tensor in graph.initializer if tensor.name not in floats]
    kept += [numpy_helper.from_array(array, name) for name, array in floats.items()]
    _replace(graph.initializer, kept)
    _replace(graph.node, nodes)


def _look_up_floats(graph, constants, floats):
    """Put float rows in place of quantized ones that are scaled after they are looked up."""
    looked_up = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Gather" and node.input[0] in constants
    }
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in looked_up:
            name = looked_up[node.input[0]]
            scale, zero = (constants[slot].astype(np.float64) for slot in node.input[1:])
            floats[name] = ((constants[name] - zero) * scale).astype("f4")
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output))


def _linear(op, node, slots, constants, floats, **attributes):
    """Write an operator on quantized inputs: numbers of weight, scale, zero, bias, output."""
    weight, scale, zero, bias, output = slots
    names = list(node.input)
    if names[weight] not in constants:
        return None
    w, s, z = (constants[names[slot]].astype(np.float64) for slot in (weight, scale, zero))
    axis = {"Conv": 0, "MatMul": -1}.get(op, 0 if attributes.get("transB") else -1)
    floats[names[weight]] = ((w - _along(z, w, axis)) * _along(s, w, axis)).astype("f4")
    x, y = f"{node.output[0]}/x", f"{node.output[0]}/y"
    inputs = [x, names[weight]]
    if bias is not None and len(names) > bias and names[bias]:
        unit = constants[names[1]].astype(np.float64) * s * attributes.get("alpha", 1)
        floats[names[bias]] = (constants[names[bias]] * unit).astype("f4")
        inputs.append(names[bias])
    return [
        helper.make_node("DequantizeLinear", names[:3], [x]),
        helper.make_node(op, inputs, [y], **attributes),
        helper.make_node("QuantizeLinear", [y, *names[output : output + 2]], node.output[:1]),
    ]


def _q_linear_conv(node, constants, floats):
    return _linear("Conv", node, (3, 4, 5, 8, 6), constants, floats, **_attributes(node))


def _q_linear_matmul(node, constants, floats):
    return _linear("MatMul", node, (3, 4, 5, None, 6), constants, floats)


def _q_gemm(node, constants, floats):
    return _linear("Gemm", node, (3, 4, 5, 6, 7), constants, floats, **_attributes(node))


def _integer(op):
    """Write an operator whose results are whole numbers, scaled by what comes behind it.

    ONNX Runtime calls a weight NAME_quantized and its scale, a factor behind the operator,
    NAME_scale: the weight takes it, and ones stay in its place.
    """

    def write(node, constants, floats):
        x, w, x_zero, w_zero = node.input
        if w not in constants:
            return None
        axis = 0 if op == "Conv" else -1
        weight = constants[w].astype(np.float32)
        scale = f"{w.removesuffix('_quantized')}_scale"
        weight -= _along(constants[w_zero].astype(np.float32), weight, axis)
        floats[w] = weight * _along(constants[scale], weight, axis)
        floats[scale] = np.ones_like(constants[scale])
        stem = node.output[0]
        return [
            helper.make_node("Cast", [x], [f"{stem}/x"], to=FLOAT),
            helper.make_node("Cast", [x_zero], [f"{stem}/zero"], to=FLOAT),
            helper.make_node("Sub", [f"{stem}/x", f"{stem}/zero"], [f"{stem}/centered"]),
            helper.make_node(op, [f"{stem}/centered", w], [stem], **_attributes(node)),
        ]

    return write


def _dynamic_lstm(node, constants, floats):
    names = list(node.input)
    nodes, turned = [], []
    for slot, scale, zero in ((1, 8, 9), (2, 10, 11)):
        array = constants[names[slot]].astype(np.float64)
        s, z = (
            constants[names[k]].astype(np.float64).reshape(len(array), 1, -1)
            for k in (scale, zero)
        )
        floats[names[slot]] = ((array - z) * s).astype("f4")
        turned.append(f"{names[slot]}/turned")
        nodes.append(
            helper.make_node("Transpose", names[slot : slot + 1], turned[-1:], perm=[0, 2, 1])
        )
    inputs = [names[0], *turned, *names[3:8]]
    return [*nodes, helper.make_node("LSTM", inputs, node.output, **_attributes(node))]


def _four_bits(node, constants, floats):
    found = _attributes(node)
    rows, columns, block = found["N"], found["K"], found["block_size"]
    packed = constants[node.input[1]]
    scales = constants[node.input[2]].astype(np.float64).reshape(rows, -1, 1)
    blocks = scales.shape[1]
    pairs = packed.reshape(rows, blocks, -1)
    numbers = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(rows, blocks, block)
    zeros = np.full((rows, blocks), 8)
    if len(node.input) > 3 and node.input[3]:
        zero = constants[node.input[3]].reshape(rows, -1)
        zeros = np.stack([zero & 15, zero >> 4], axis=-1).reshape(rows, -1)[:, :blocks]
    weight = (numbers.astype(np.float64) - zeros[..., None]) * scales
    name = node.input[1]
    floats[name] = weight.reshape(rows, -1)[:, :columns].astype("f4")
    return [
        helper.make_node("Transpose", [name], [f"{name}/turned"], perm=[1, 0]),
        helper.make_node("MatMul", [node.input[0], f"{name}/turned"], node.output),
    ]


WRITTEN = {
    "QLinearConv": _q_linear_conv,
    "QLinearMatMul": _q_linear_matmul,
    "QGemm": _q_gemm,
    "ConvInteger": _integer("Conv"),
    "MatMulInteger": _integer("MatMul"),
    "DynamicQuantizeLSTM": _dynamic_lstm,
    "MatMulNBits": _four_bits,
}
"""Quantized operator to what writes it with float ones."""


def _along(numbers, array, axis):
    if numbers.size == 1:
        return numbers.reshape(())
    shape = [1] * array.ndim
    shape[axis] = numbers.size
    return numbers.reshape(shape)


def _attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _replace(field, items):
    items = list(items)
    del field[:]
    field.extend(items)
