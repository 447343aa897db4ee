"""Outputs that are no tensors."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.model_file import read_model

W = np.float32(np.random.default_rng(0).standard_normal((3, 4)))
X = {"x": np.float32(np.random.default_rng(1).standard_normal((5, 3)))}


def list_of_maps(name):
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, value)
    )
    return helper.make_value_info(name, kind)


@pytest.fixture
def classifier(make_model, node):
    """The label, and a list of maps from class to probability, as skl2onnx writes them."""
    nodes = [
        node("MatMul", ["x", "w"], "h"),
        node("Softmax", ["h"], "p"),
        node("ArgMax", ["p"], "label", axis=1),
        node("ZipMap", ["p"], "maps", domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3]),
    ]
    model = make_model(
        nodes,
        {"x": ["n", 3]},
        {"label": ["n", 1]},
        {"w": W},
        types={"label": TensorProto.INT64},
    )
    model.graph.output.append(list_of_maps("maps"))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


def test_a_map_at_an_output_becomes_the_tensor_it_was_made_of(classifier, run_model):
    file = read_model(classifier)
    assert [str(output) for output in file.outputs] == [
        "label [?, 1] int64",
        "maps [?] float32",
    ]
    label, maps = run_model(file.runnable(), X)
    truth, listed = run_model(classifier, X)
    assert (label == truth).all()
    expected = [[row[key] for key in range(4)] for row in listed]
    np.testing.assert_allclose(maps, expected, rtol=1e-6)


def test_the_digest_is_that_of_the_file(classifier):
    content = classifier.SerializeToString()
    assert read_model(content).content == content
    assert read_model(content).altered


def test_a_sequence_is_no_output(make_model, node):
    nodes = [node("MatMul", ["x", "w"], "y"), node("SequenceConstruct", ["y"], "all")]
    model = make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 4]}, {"w": W})
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    model.graph.output.append(
        helper.make_value_info("all", helper.make_sequence_type_proto(kind))
    )
    assert [output.name for output in read_model(model).outputs] == ["y"]


def test_a_model_without_a_tensor_at_its_outputs_is_refused(make_model, node):
    model = make_model([node("SequenceConstruct", ["x"], "all")], {"x": ["n", 3]}, {}, {})
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    model.graph.output.append(
        helper.make_value_info("all", helper.make_sequence_type_proto(kind))
    )
    with pytest.raises(
        UnsupportedModelError, match=r"the model has only 'all' .sequence_type"
    ):
        read_model(model)


def test_an_output_without_a_type_is_taken_for_float32(make_model, node):
    model = make_model(
        [node("MatMul", ["x", "w"], "y")], {"x": ["n", 3]}, {"y": [1]}, {"w": W}
    )
    model.graph.output[0].ClearField("type")
    file = read_model(model)
    assert [str(output) for output in file.outputs] == ["y [?] float32"]
    assert not file.altered
