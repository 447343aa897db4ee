"""Old operator sets are converted in a child process; names and outputs stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.canonical import canonical
from onnxscape.graph.model_file import read_model
from onnxscape.graph.passes import opsets
from onnxscape.graph.passes.opsets import with_supported_opset
from onnxscape.graph.prepared import rebuilt

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


X = {"x": tensor(4, 2, 6, 6)}


@pytest.fixture
def old(make_model, node, batch_norm):
    """Returns a small convolutional network of an old operator set."""

    def build(opset, ir_version=3):
        norm, tensors = batch_norm("a", "b", 4)
        nodes = [
            node("Conv", ["x", "conv.w"], "a", kernel_shape=[3, 3]),
            norm,
            node("Dropout", ["b"], "c"),
            node("Relu", ["c"], "d"),
            node("MaxPool", ["d"], "e", kernel_shape=[2, 2], strides=[2, 2]),
            node("Reshape", ["e", "shape"], "f"),
            node("Gemm", ["f", "fc.w", "fc.b"], "y", transB=1),
        ]
        tensors |= {"conv.w": tensor(4, 2, 3, 3), "fc.w": tensor(3, 16), "fc.b": tensor(3)}
        tensors["shape"] = np.array([0, 16])
        model = make_model(
            nodes, {"x": ["n", 2, 6, 6]}, {"y": ["n", 3]}, tensors, opset=opset, ir_version=4
        )
        model.ir_version = ir_version
        if ir_version < 4:
            for weight in model.graph.initializer:
                model.graph.input.append(
                    helper.make_tensor_value_info(
                        weight.name, weight.data_type, list(weight.dims)
                    )
                )
        return model

    return build


@pytest.mark.parametrize(("opset", "ir_version"), [(7, 3), (8, 3), (9, 3), (9, 4), (10, 5)])
def test_an_old_model_computes_the_same_under_its_names(opset, ir_version, old, unchanged):
    model = old(opset, ir_version)
    form = unchanged(model, X)
    assert form.model.opset_imports[""] == 11
    names = {weight.name for weight in model.graph.initializer}
    assert names <= form.model.graph.initializers.keys()


def test_an_old_file_is_rebuilt_as_it_is(old, run_model):
    model = old(9)
    own = {"fc.w": numpy_helper.to_array(model.graph.initializer[5])}
    own = {
        t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "fc.w"
    }
    content = rebuilt(read_model(model), {"fc.w": 2 * own["fc.w"]})
    assert onnx.ModelProto.FromString(content).opset_import[0].version == 9
    (y,) = run_model(content, X)
    (before,) = run_model(model, X)
    assert np.abs(y - before).max() > 0.1


def test_a_new_model_is_not_touched(old):
    model = old(11, 4)
    assert with_supported_opset(model) is model


def test_what_cannot_be_converted_is_refused_with_the_way_out(make_model, node):
    model = make_model([node("Nonsense", ["x"], "y")], {"x": [1]}, {"y": [1]}, {}, opset=9)
    with pytest.raises(
        UnsupportedModelError,
        match=r"11 or newer, the model has 9, and it cannot be converted: .*opset_version=11",
    ) as caught:
        canonical(model)
    assert "\n" not in str(caught.value)


def test_a_conversion_that_takes_too_long_is_given_up(old, monkeypatch):
    monkeypatch.setattr(opsets, "CONVERSION_SECONDS", 0)
    with pytest.raises(UnsupportedModelError, match="cannot be converted: "):
        canonical(old(9))


def test_external_data_is_converted_too(old, unchanged, tmp_path):
    path = tmp_path / "old.onnx"
    model = old(9, 4)
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, size_threshold=0)
    form = unchanged(read_model(path).proto, X)
    assert form.model.graph.initializers["conv.w"].dtype == TensorProto.FLOAT
