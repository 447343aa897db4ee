"""Whatever a model file claims, it ends in one line, in bounded memory and time."""

from __future__ import annotations

import os

import numpy as np
import pytest
from onnx import TensorProto, helper

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs.split(), **attributes)


def test_the_harmless_model_is_evaluated(dense, evaluate):
    outcome = evaluate(dense())
    assert outcome.status == 0, outcome


# --- bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file(part, dense, refused):
    content = dense().SerializeToString()
    assert "is no ONNX model" in refused(content[: int(part * len(content))])


def field(number, content):
    """Return a length-delimited protobuf field."""
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@pytest.mark.parametrize("depth", [25, 100, 5000])
def test_graphs_in_graphs(depth, dense, refused):
    # GraphProto.node = 1, NodeProto.attribute = 5, AttributeProto.g = 6, ModelProto.graph = 7
    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(6, inner)))
    refused(dense().SerializeToString() + field(7, inner))


def test_a_message_that_claims_two_gigabytes(dense, refused):
    content = dense().SerializeToString()
    refused(content + b"\x3a\xff\xff\xff\xff\x07" + b"x" * 100)


# --- shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [[2**62], [2**31, 2**31, 2**31], [-3, -4], [2**40, 0]])
@pytest.mark.parametrize("held", [b"", W.tobytes()])
def test_a_weight_of_absurd_shape(dims, held, dense, refused):
    model = dense()
    tensor = model.graph.initializer[0]
    tensor.dims[:] = dims
    tensor.raw_data = held
    refused(model)


def test_a_weight_of_absurd_shape_in_a_constant(dense, refused):
    value = helper.make_tensor("", TensorProto.FLOAT, [1], [1.0])
    value.dims[:] = [2**62]
    refused(dense([node("Constant", [], "w", value=value)], {}))


def test_a_weight_of_absurd_shape_in_an_old_model(dense, refused):
    model = dense(opset=9)
    model.graph.initializer[0].dims[:] = [2**62]
    refused(model)


def test_an_input_of_absurd_shape(dense, refused):
    model = dense()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**62
    refused(model)


@pytest.mark.parametrize("size", [2**27, 2**62])
def test_a_batch_of_absurd_size(size, dense, refused):
    model = dense()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    assert f"fill up a batch of {size} samples" in refused(model)


# --- graphs -------------------------------------------------------------------------------


def test_nodes_in_a_circle(dense, refused):
    nodes = [node("Add", ["w", "b"], "a"), node("Identity", ["a"], "b")]
    refused(dense(nodes, weight="b"))


@pytest.mark.parametrize("where", ["weight", "output"])
def test_an_unknown_domain(where, dense, refused):
    if where == "weight":
        refused(dense([node("Steal", ["w"], "v", domain="evil.corp")], weight="v"))
        return
    model = dense()
    model.graph.node.append(node("Steal", ["y"], "z", domain="evil.corp"))
    model.graph.output[0].name = "z"
    assert "ONNX Runtime" in refused(model)


def test_a_chain_of_many_nodes(dense, evaluate):
    nodes = [node("Identity", [f"w{i}" if i else "w"], f"w{i + 1}") for i in range(5000)]
    outcome = evaluate(dense(nodes, weight="w5000"))
    assert outcome.status in {0, 4}, outcome


def test_functions_that_double(dense, refused):
    """Each function calls the one before it twice: 2^40 nodes when inlined."""
    model = dense([node("F40", ["w"], "v", domain="f")], weight="v")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    for depth in range(41):
        inner = f"F{depth - 1}"
        body = (
            [node(inner, ["a"], "b", domain="f"), node(inner, ["b"], "c", domain="f")]
            if depth
            else [node("Identity", ["a"], "c")]
        )
        model.functions.append(
            helper.make_function("f", f"F{depth}", ["a"], ["c"], body, opsets)
        )
    model.opset_import.append(helper.make_opsetid("f", 1))
    refused(model)


# --- bombs --------------------------------------------------------------------------------


def filled(shape):
    return [node("ConstantOfShape", ["shape"], "big")], {"w": W, "shape": np.array(shape)}


@pytest.mark.parametrize("shape", [[2**40], [2**31, 2**31], [2**62, 2**62], [2**28]])
def test_a_constant_that_grows(shape, dense, refused):
    nodes, tensors = filled(shape)
    nodes += [node("ReduceMax", ["big"], "m", keepdims=0), node("Mul", ["w", "m"], "v")]
    assert "makes constants" in refused(dense(nodes, tensors, weight="v"))


def test_a_chain_that_doubles(dense, refused):
    nodes = [node("Concat", [f"c{i}", f"c{i}"], f"c{i + 1}", axis=0) for i in range(60)]
    nodes += [node("ReduceMax", ["c60"], "m", keepdims=0), node("Mul", ["w", "m"], "v")]
    tensors = {"w": W, "c0": np.ones(4, np.float32)}
    assert "makes constants" in refused(dense(nodes, tensors, weight="v"))


@pytest.mark.slow
def test_a_chain_that_multiplies_without_end(dense, refused):
    # Every product is as large as the first: memory is bounded, time must be.
    size = 512
    nodes = [node("MatMul", [f"c{i}", f"c{i}"], f"c{i + 1}") for i in range(20000)]
    nodes += [node("ReduceMax", ["c20000"], "m", keepdims=0), node("Mul", ["w", "m"], "v")]
    tensors = {"w": W, "c0": np.full((size, size), 1 / size, np.float32)}
    refused(dense(nodes, tensors, weight="v"))


def test_a_loop_in_a_chain_of_constants(dense, refused):
    body = helper.make_graph(
        [node("Identity", ["c"], "d"), node("Identity", ["v"], "o")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("o", TensorProto.FLOAT, None),
        ],
    )
    nodes = [node("Loop", ["trips", "", "w"], "u", body=body)]
    model = dense(nodes, {"w": W, "trips": np.array(2**62)}, weight="u")
    assert "Loop" in refused(model)


# --- external data ------------------------------------------------------------------------


def external(model, location, **keys):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


@pytest.mark.parametrize(
    "location",
    [
        "absent", "../secret", "/etc/passwd", "inner/../../secret", "link", "pipe", ".", "",
        "*/_ORT_MEM_ADDR_/*", "/dev/zero",
    ],
)  # fmt: skip
def test_external_data_that_is_not_beside_the_file(location, dense, refused, tmp_path):
    folder = tmp_path / "models"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(W.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    path = folder / "net.onnx"
    path.write_bytes(external(dense(), location).SerializeToString())
    assert "weight 'w'" in refused(path)


def test_a_sparse_file_of_a_terabyte_is_not_read(dense, evaluate, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.write(W.tobytes())
        file.truncate(1 << 40)
    outcome = evaluate(external(dense(), "large"))
    assert outcome.status == 0, outcome


@pytest.mark.parametrize(
    ("dims", "keys"),
    [
        ([2**20, 2**20], {}),
        ([2**62], {}),
        ([3, 4], {"length": 2**40}),
        ([3, 4], {"length": 8}),
        ([3, 4], {"offset": 2**60}),
        ([3, 4], {"offset": -5}),
        ([2**14, 2**14], {}),
    ],
)
def test_external_data_that_claims_more_than_there_is(dims, keys, dense, refused, tmp_path):
    (tmp_path / "small").write_bytes(W.tobytes())
    model = external(dense(), "small", **keys)
    model.graph.initializer[0].dims[:] = dims
    refused(model)


def test_an_old_model_cannot_make_the_converter_read_files(dense, refused, tmp_path):
    model = external(dense(opset=9), "../secret")
    (tmp_path.parent / "secret").write_bytes(W.tobytes())
    assert "weight 'w'" in refused(model)


# --- given weights ------------------------------------------------------------------------


def test_given_weights_that_are_a_bomb(dense, refused, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, w=np.zeros((2**28,), np.uint8))
    model = dense(tensors={})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]))
    refused(model, "--weights", str(path))
