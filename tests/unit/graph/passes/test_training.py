"""Training mode: the truth is the same file as it would be exported for inference."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.canonical import canonical
from onnxscape.graph.model_file import read_model
from onnxscape.graph.prepared import rebuilt

X = {"x": np.float32(np.random.default_rng(0).standard_normal((8, 3)))}


@pytest.fixture
def normalized(make_model, batch_norm):
    """Returns a BatchNormalization, with further outputs or not."""

    def build(further=(), outputs=(), **options):
        attributes = {k: options.pop(k) for k in ("training_mode",) if k in options}
        norm, tensors = batch_norm("x", "y", 3, **attributes)
        norm.output.extend(further)
        shapes = {"y": ["n", 3]} | {name: [3] for name in outputs}
        return make_model([norm], {"x": ["n", 3]}, shapes, tensors, **options)

    return build


def inference(model):
    """Return the same model without what asks for training, by plain onnx means."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        del node.output[1:]
        del node.attribute[:]
    return copy


@pytest.mark.parametrize(
    ("opset", "further", "mode"),
    [
        (17, ["mean", "var"], {"training_mode": 1}),
        (17, [], {"training_mode": 1}),
        (14, ["mean", "var"], {"training_mode": 1}),
        (13, ["mean", "var", "saved_mean", "saved_var"], {}),
        (11, ["mean", "var", "saved_mean", "saved_var"], {}),
        (9, ["mean", "var", "saved_mean", "saved_var"], {}),
    ],
)
def test_a_normalization_takes_its_stored_statistics(
    opset, further, mode, normalized, run_model
):
    model = normalized(further, opset=opset, **mode)
    form = canonical(model)
    (ours,) = run_model(ir.to_proto(form.model), X)
    (truth,) = run_model(inference(model), X)
    np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)
    (warning,) = form.warnings
    assert warning.startswith("BatchNormalization 'bn.node' is in training mode: its stored")
    assert "model.eval()" in warning
    assert form.loosened == {"training"}


def test_a_normalization_in_inference_mode_is_left_as_it_is(normalized):
    for model in (normalized(training_mode=0), normalized(), normalized(["", ""])):
        form = canonical(model)
        assert not form.warnings
        assert not form.loosened


def test_statistics_of_the_batch_that_are_used_are_refused(normalized):
    model = normalized(["mean", "var"], ["mean"], training_mode=1)
    with pytest.raises(
        UnsupportedModelError, match=r"'bn\.node' is in training mode and .*model\.eval"
    ):
        canonical(model)


def test_training_mode_inside_a_body_is_left_as_well(make_model, normalized, node, run_model):
    inner = normalized(["mean", "var"], training_mode=1).graph
    body = helper.make_graph(inner.node, "body", [], inner.output, inner.initializer)
    choice = node("If", ["flag"], "z", then_branch=body, else_branch=body)
    model = make_model([choice], {"x": ["n", 3]}, {"z": ["n", 3]}, {"flag": np.array(True)})
    form = canonical(model)
    assert form.loosened == {"training"}
    (ours,) = run_model(ir.to_proto(form.model), X)
    (truth,) = run_model(inference(normalized(["mean", "var"], training_mode=1)), X)
    np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)


def test_the_rebuilt_file_is_in_inference_mode(normalized, run_model):
    model = normalized(["mean", "var"], training_mode=1)
    (ours,) = run_model(rebuilt(read_model(model), {}), X)
    (truth,) = run_model(inference(model), X)
    np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)


# --- Dropout ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["tensor", "constant node"])
def test_a_dropout_lets_all_pass(how, make_model, node, run_model):
    nodes = [node("Dropout", ["x", "", "training"], "y")]
    flag = np.array(True)
    if how == "constant node":
        value = numpy_helper.from_array(flag, "")
        nodes.insert(0, helper.make_node("Constant", [], ["training"], value=value))
    tensors = {"training": flag} if how == "tensor" else {}
    model = make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, tensors)
    form = canonical(model)
    (ours,) = run_model(ir.to_proto(form.model), X)
    assert (ours == X["x"]).all()
    assert "Dropout 'y.node' is in training mode: it drops nothing here" in form.warnings[0]
    (rebuilt_output,) = run_model(rebuilt(read_model(model), {}), X)
    assert (rebuilt_output == X["x"]).all()


def test_a_dropout_that_an_input_switches_is_refused(make_model, node):
    model = make_model(
        [node("Dropout", ["x", "", "training"], "y")],
        {"x": ["n", 3], "training": []},
        {"y": ["n", 3]},
        {},
        types={"training": onnx.TensorProto.BOOL},
    )
    with pytest.raises(UnsupportedModelError, match="whenever 'training' says so"):
        canonical(model)


def test_a_dropout_in_inference_mode_is_taken(make_model, node, unchanged):
    nodes = [
        node("Dropout", ["x"], "a"),
        node("Dropout", ["a", "ratio"], "b"),
        node("Dropout", ["b", "ratio", "training"], "y"),
    ]
    tensors = {"ratio": np.float32(0.5), "training": np.array(False)}
    model = make_model(nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, tensors)
    assert not unchanged(model, X).warnings
