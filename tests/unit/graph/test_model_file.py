from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxscape.errors import ModelFileError, UnsupportedModelError, UsageError
from onnxscape.graph.model_file import MAX_BYTES, read_model
from onnxscape.graph.prepared import analyse

W = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def dense(make_model):
    """The model y = x @ w."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return make_model([node], {"x": ["n", 3]}, {"y": ["n", 4]}, {"w": W})


@pytest.fixture
def saved(dense, tmp_path):
    path = tmp_path / "net.v2.onnx"
    path.write_bytes(dense.SerializeToString())
    return path


def external(model, location, **keys):
    """Return a model whose first tensor points to a file."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    tensor = other.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=str(value))
    return other


def test_a_file_is_read_with_its_name_and_digest(saved, dense):
    file = read_model(saved)
    assert (file.name, file.path, file.external) == ("net.v2", saved, False)
    assert file.content == saved.read_bytes()
    assert file.digest == hashlib.sha256(file.content).hexdigest()
    assert file.proto == dense


def test_path_text_bytes_and_message_are_the_same_model(saved, dense):
    sources = [saved, str(saved), saved.read_bytes(), dense]
    files = [read_model(source, name="given") for source in sources]
    assert len({file.digest for file in files}) == 1
    assert [file.name for file in files] == ["net.v2", "net.v2", "given", "given"]
    assert [file.path for file in files[2:]] == [None, None]


def test_a_message_is_copied(dense):
    file = read_model(dense)
    dense.graph.initializer[0].name = "other"
    assert file.proto.graph.initializer[0].name == "w"


def test_signatures_are_those_of_the_graph(make_model):
    node = helper.make_node("Concat", ["ids", "more"], ["y"], axis=0)
    model = make_model(
        [node],
        {"ids": ["n", 5], "more": [0, None]},
        {"y": None},
        {},
        types=dict.fromkeys(["ids", "more", "y"], onnx.TensorProto.INT64),
    )
    file = read_model(model)
    assert [str(signature) for signature in file.inputs] == [
        "ids [?, 5] int64",
        "more [?, ?] int64",
    ]
    assert [str(signature) for signature in file.outputs] == ["y [?] int64"]


def test_weights_listed_as_inputs_need_not_be_fed(dense):
    listed = helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [3, 4])
    dense.graph.input.insert(0, listed)
    assert [signature.name for signature in read_model(dense).inputs] == ["x"]


def test_an_input_that_is_no_tensor_is_refused(dense):
    tensor = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    sequence = helper.make_sequence_type_proto(tensor)
    dense.graph.input.append(helper.make_value_info("many", sequence))
    with pytest.raises(UnsupportedModelError, match="'many' is no tensor but a sequence_type"):
        _ = read_model(dense).inputs


def test_an_input_of_no_type_is_refused(dense):
    dense.graph.input[0].type.tensor_type.elem_type = 0
    with pytest.raises(UnsupportedModelError, match="'x' has element type 0"):
        _ = read_model(dense).inputs


# --- weights that are inputs --------------------------------------------------------------


@pytest.fixture
def weightless(dense):
    """The model y = x @ w whose w is an input without a value."""
    del dense.graph.initializer[:]
    listed = helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, ["in", 4])
    dense.graph.input.append(listed)
    return dense


def test_given_weights_become_tensors_of_the_model(weightless, analysed, run_model):
    assert [signature.name for signature in read_model(weightless).inputs] == ["x", "w"]
    file = read_model(weightless, weights={"w": W})
    assert [signature.name for signature in file.inputs] == ["x"]
    assert file.content == weightless.SerializeToString()
    x = np.float32(np.random.default_rng(0).standard_normal((2, 3)))
    (y,) = run_model(file.runnable(), {"x": x})
    np.testing.assert_allclose(y, x @ W, rtol=1e-5)
    (weight,), _ = analyse(file)
    assert (weight.name, weight.role) == ("w", "weight")
    assert (weight.values == W).all()


def test_the_digest_covers_given_weights(weightless):
    digests = {
        read_model(weightless, weights=weights).digest
        for weights in ({"w": W}, {"w": 2 * W}, {"w": np.vstack([W, W])}, None)
    }
    assert len(digests) == 4
    assert read_model(weightless, weights={}).digest == read_model(weightless).digest


def test_the_order_in_which_weights_are_given_is_no_part_of_the_model(weightless):
    bias = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [4])
    weightless.graph.input.append(bias)
    given = {"w": W, "a": W[0]}
    one, other = (
        read_model(weightless, weights=weights)
        for weights in (given, dict(reversed(given.items())))
    )
    assert one.digest == other.digest
    assert one.runnable() == other.runnable()
    assert [tensor.name for tensor in other.proto.graph.initializer] == ["w", "a"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"v": W}, r"'v', which is no input of the model without a value; those are x, w"),
        ({"w": W[0]}, r"'w' as \[4\] float32; expected w \[\?, 4\] float32"),
        ({"w": W.T}, r"'w' as \[4, 3\] float32; expected w \[\?, 4\] float32"),
        ({"w": W.astype(np.float64)}, r"'w' as \[3, 4\] float64; expected w"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message, weightless):
    with pytest.raises(UsageError, match=message):
        read_model(weightless, weights=weights)


def test_a_weight_with_a_value_cannot_be_given(dense):
    with pytest.raises(UsageError, match="'w', which is no input"):
        read_model(dense, weights={"w": W})


# --- files that are no models -------------------------------------------------------------


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ModelFileError, match=r"no model file at .*absent\.onnx"):
        read_model(tmp_path / "absent.onnx")


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(ModelFileError, match=r"expected an \.onnx file, got the folder"):
        read_model(tmp_path)


def test_a_file_behind_a_file_is_an_error(saved):
    with pytest.raises(ModelFileError, match="cannot read the model"):
        read_model(saved / "net.onnx")


def test_a_file_too_large_for_one_message_is_an_error(tmp_path):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(ModelFileError, match=r"has 2\.1 GB; one ONNX file holds at most 2 GB"):
        read_model(path)


@pytest.mark.parametrize(
    "content",
    {
        "nothing": b"",
        "text": b"PK\x03\x04 this is a zip, perhaps",
        "zeros": bytes(1000),
        "noise": np.random.default_rng(0).bytes(5000),
    }.items(),
    ids=lambda item: item[0],
)
def test_bytes_that_are_no_model_are_an_error(content, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(content[1])
    for source in (path, content[1]):
        with pytest.raises(ModelFileError, match="is no ONNX model: it"):
            read_model(source)


def test_a_model_cut_short_anywhere_is_an_error(saved):
    content = saved.read_bytes()
    for length in range(len(content)):
        with pytest.raises(ModelFileError, match="model is no ONNX model: it"):
            read_model(content[:length])


@pytest.mark.parametrize("field", ["ir_version", "opset_import", "graph"])
def test_a_message_that_lacks_its_essence_is_an_error(field, dense):
    dense.ClearField(field)
    with pytest.raises(ModelFileError, match="no version, operator set or output"):
        read_model(dense)


# --- external data ------------------------------------------------------------------------


@pytest.fixture
def beside(dense, tmp_path):
    """A model whose weight stands in a file beside it."""
    (tmp_path / "net.data").write_bytes(b"junk" + W.tobytes() + b"more")
    path = tmp_path / "net.onnx"
    model = external(dense, "net.data", offset=4, length=W.nbytes)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_loaded_from_beside_the_file(beside):
    file = read_model(beside)
    assert file.external
    (tensor,) = file.proto.graph.initializer
    assert (numpy_helper.to_array(tensor) == W).all()
    assert not tensor.external_data
    assert tensor.data_location == onnx.TensorProto.DEFAULT


def test_the_digest_counts_the_bytes_of_external_data(beside):
    before = read_model(beside).digest
    data = beside.parent / "net.data"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    assert read_model(beside).digest != before
    content[5] ^= 1
    content[0] ^= 1  # before the weight: no part of the model
    data.write_bytes(content)
    assert read_model(beside).digest == before


def test_external_data_in_constant_nodes_bodies_and_functions_is_loaded(tmp_path, dense):
    (tmp_path / "net.data").write_bytes(W.tobytes())
    pointing = external(dense, "net.data").graph.initializer[0]
    constant = helper.make_node("Constant", [], ["v"], value=pointing)
    output = helper.make_tensor_value_info("v", onnx.TensorProto.FLOAT, [3, 4])
    body = helper.make_graph([constant], "body", [], [output], [pointing])
    choice = helper.make_node("If", ["flag"], ["z"], then_branch=body, else_branch=body)
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("my.own", "F", [], ["v"], [constant], opset)
    dense.graph.node.extend([constant, choice])
    dense.functions.append(function)
    path = tmp_path / "net.onnx"
    path.write_bytes(dense.SerializeToString())
    proto = read_model(path).proto
    loaded = [
        proto.graph.node[1].attribute[0].t,
        *(a.g.initializer[0] for a in proto.graph.node[2].attribute),
        *(a.g.node[0].attribute[0].t for a in proto.graph.node[2].attribute),
        proto.functions[0].node[0].attribute[0].t,
    ]
    assert len(loaded) == 6
    for tensor in loaded:
        assert tensor.data_location == onnx.TensorProto.DEFAULT
        assert (numpy_helper.to_array(tensor) == W).all()


def test_a_missing_external_file_is_an_error_that_names_the_weight(beside):
    (beside.parent / "net.data").unlink()
    with pytest.raises(
        ModelFileError, match=r"weight 'w' of .*net\.onnx .*no file net\.data beside the model"
    ):
        read_model(beside)


@pytest.mark.parametrize("part", ["dotted", "absolute", "link", "through a folder"])
def test_external_data_outside_of_the_folder_is_refused(part, dense, tmp_path):
    (tmp_path / "secret").write_bytes(W.tobytes())
    folder = tmp_path / "models"
    (folder / "inner").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    location = {
        "dotted": "../secret",
        "absolute": str(tmp_path / "secret"),
        "link": "link",
        "through a folder": "inner/../../secret",
    }[part]
    path = folder / "net.onnx"
    path.write_bytes(external(dense, location).SerializeToString())
    with pytest.raises(ModelFileError, match="cannot read the external data of weight 'w'"):
        read_model(path)


def test_external_data_in_a_function_outside_of_the_folder_is_refused(dense, tmp_path):
    (tmp_path / "secret").write_bytes(W.tobytes())
    (tmp_path / "models").mkdir()
    pointing = external(dense, "../secret").graph.initializer[0]
    constant = helper.make_node("Constant", [], ["v"], value=pointing)
    opset = [helper.make_opsetid("", 17)]
    dense.functions.append(helper.make_function("my.own", "F", [], ["v"], [constant], opset))
    path = tmp_path / "models" / "net.onnx"
    path.write_bytes(dense.SerializeToString())
    with pytest.raises(ModelFileError, match="cannot read the external data of weight 'w'"):
        read_model(path)


@pytest.mark.parametrize(
    "keys",
    [
        {"offset": -1},
        {"length": -1},
        {"offset": "x"},
        {"offset": 10**12},
        {"length": 10**12},
    ],
)
def test_external_data_of_impossible_size_is_refused(keys, dense, tmp_path, analysed):
    (tmp_path / "net.data").write_bytes(W.tobytes())
    path = tmp_path / "net.onnx"
    path.write_bytes(external(dense, "net.data", **keys).SerializeToString())
    with pytest.raises(ModelFileError):
        analysed(path)


@pytest.mark.parametrize("source", ["bytes", "message"])
def test_external_data_needs_a_path(source, dense):
    model = external(dense, "net.data")
    with pytest.raises(ModelFileError, match="the model came without a path; give the path"):
        read_model(model.SerializeToString() if source == "bytes" else model)


def test_a_weight_in_the_memory_of_the_process_is_not_read(dense, tmp_path):
    path = tmp_path / "net.onnx"
    model = external(dense, "*/_ORT_MEM_ADDR_/*", offset=id(W), length=W.nbytes)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="cannot read the external data"):
        read_model(path)
