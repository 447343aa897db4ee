from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from onnxscape.errors import ModelFileError, UnsupportedModelError
from onnxscape.graph.canonical import canonical
from onnxscape.graph.prepared import rebuilt

RNG = np.random.default_rng(0)
W = np.float32(RNG.standard_normal((3, 4)))
X = {"x": np.float32(RNG.standard_normal((2, 3)))}


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def constant(name, array):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, ""))


@pytest.fixture
def dense(make_model):
    """Returns the model y = relu(x @ w) with changes."""

    def build(nodes=None, tensors=None, **options):
        plain = [node("MatMul", ["x", "w"], "h"), node("Relu", ["h"], "y")]
        return make_model(
            nodes or plain,
            {"x": ["n", 3]},
            {"y": ["n", 4]},
            {"w": W} if tensors is None else tensors,
            **options,
        )

    return build


@pytest.fixture
def same(run_model, dense):
    """Returns a check that a model's canonical form computes relu(x @ w)."""

    def check(model):
        result = canonical(model).model
        (ours,) = run_model(ir.to_proto(result), X)
        np.testing.assert_allclose(ours, np.maximum(X["x"] @ W, 0), rtol=1e-5, atol=1e-6)
        return result

    return check


def test_the_users_model_is_not_changed(dense):
    model = dense([constant("w", W), *dense().graph.node], {})
    before = model.SerializeToString(deterministic=True)
    canonical(model)
    assert model.SerializeToString(deterministic=True) == before


def test_weights_listed_as_inputs_become_constants(dense, same, analysed):
    model = dense(ir_version=3)
    model.graph.input.append(
        helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, list(W.shape))
    )
    onnx.checker.check_model(model)
    result = same(model)
    assert [value.name for value in result.graph.inputs] == ["x"]
    found = analysed(model)
    assert found.parameters["w"].role == "weight"
    assert [signature.name for signature in found.file.inputs] == ["x"]


def test_old_files_become_ones_whose_weights_can_be_overridden(dense, same):
    assert same(dense(ir_version=3)).ir_version == 4
    assert same(dense(ir_version=8)).ir_version == 8


def test_constant_nodes_become_tensors_of_their_names(dense, same, analysed):
    model = dense([constant("w", W), *dense().graph.node], {})
    result = same(model)
    assert list(result.graph.initializers) == ["w"]
    assert [n.op_type for n in result.graph] == ["MatMul", "Relu"]
    assert analysed(model).parameters["w"].role == "weight"


def test_nodes_in_any_order_are_sorted(dense, same):
    result = same(dense(list(dense().graph.node)[::-1]))
    assert [n.op_type for n in result.graph] == ["MatMul", "Relu"]


def function(nodes, inputs=("a", "b"), outputs=("c",), name="Layer"):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    return helper.make_function("my.own", name, inputs, outputs, nodes, opsets)


def test_functions_of_the_model_are_inlined(dense, same, analysed):
    inner = function([node("MatMul", ["a", "b"], "t"), node("Relu", ["t"], "c")])
    outer = function([node("Layer", ["a", "b"], "c", domain="my.own")], name="Outer")
    call = node("Outer", ["x", "w"], "y", domain="my.own")
    model = dense([call], functions=[inner, outer])
    onnx.checker.check_model(model)
    assert [n.op_type for n in same(model).graph] == ["MatMul", "Relu"]
    weight = analysed(model).parameters["w"]
    assert (weight.role, weight.op, weight.filter_axis) == ("weight", "MatMul", 1)


def test_a_weight_inside_a_function_moves_where_it_is_inlined(
    dense, same, analysed, run_model
):
    inner = function(
        [constant("b", W), node("MatMul", ["a", "b"], "t"), node("Relu", ["t"], "c")],
        inputs=("a",),
    )
    model = dense([node("Layer", ["x"], "y", domain="my.own")], {}, functions=[inner])
    onnx.checker.check_model(model)
    same(model)
    found = analysed(model)
    ((name, weight),) = found.parameters.items()
    assert weight.role == "weight"
    (y,) = run_model(rebuilt(found.file, {name: -W}), X)
    np.testing.assert_allclose(y, np.maximum(X["x"] @ -W, 0), rtol=1e-5, atol=1e-6)


def test_functions_that_call_one_another_in_a_circle_are_refused(dense):
    circle = [
        function([node(other, ["a", "b"], "c", domain="my.own")], name=name)
        for name, other in (("Layer", "Other"), ("Other", "Layer"))
    ]
    model = dense([node("Layer", ["x", "w"], "y", domain="my.own")], functions=circle)
    with pytest.raises(ModelFileError, match="graph is broken"):
        canonical(model)


def test_a_graph_in_a_circle_is_refused(dense):
    nodes = [
        node("Add", ["x", "b"], "a"),
        node("Identity", ["a"], "b"),
        node("MatMul", ["a", "w"], "y"),
    ]
    with pytest.raises(ModelFileError, match=r"graph is broken: .*cycle"):
        canonical(dense(nodes))


def test_views_in_a_circle_are_refused(dense):
    # Following such a tensor back to its source would never end.
    nodes = [
        node("Identity", ["b"], "a"),
        node("Identity", ["a"], "b"),
        node("MatMul", ["x", "b"], "y"),
    ]
    with pytest.raises(ModelFileError, match=r"graph is broken: .*cycle"):
        canonical(dense(nodes))


def test_the_other_name_of_the_default_operator_set_is_understood(dense, same, analysed):
    model = dense()
    for part in (*model.graph.node, *model.opset_import):
        part.domain = "ai.onnx"
    assert dict(same(model).opset_imports) == {"": 17}
    assert analysed(model).parameters["w"].role == "weight"


def test_a_value_that_nothing_makes_is_refused_by_name(dense, caplog):
    nodes = [node("MatMul", ["x", "v"], "h"), node("Relu", ["h"], "y")]
    with pytest.raises(
        ModelFileError, match=r"node 'h\.node' \(MatMul\) asks for 'v', which nothing makes"
    ):
        canonical(dense(nodes))
    assert not caplog.records


def test_an_output_that_nothing_makes_is_refused_by_name(dense):
    with pytest.raises(ModelFileError, match="the graph's output asks for 'y', which nothing"):
        canonical(dense([node("MatMul", ["x", "w"], "h")]))


def test_a_value_that_nothing_makes_inside_a_body_is_refused(dense):
    def body(weight):
        output = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["n", 4])
        return helper.make_graph([node("MatMul", ["x", weight], "b")], "body", [], [output])

    good, bad = body("w"), body("v")
    tensors = {"w": W, "flag": np.array(True)}
    canonical(dense([node("If", ["flag"], "y", then_branch=good, else_branch=good)], tensors))
    with pytest.raises(ModelFileError, match="asks for 'v', which nothing makes"):
        canonical(
            dense([node("If", ["flag"], "y", then_branch=good, else_branch=bad)], tensors)
        )


@pytest.mark.parametrize("opset", [7, 10])
def test_an_old_operator_set_is_converted(opset, dense, same):
    result = same(dense(opset=opset))
    assert result.opset_imports[""] == 11
    assert "w" in result.graph.initializers


def test_the_oldest_operator_set_is_taken(dense, same):
    same(dense(opset=11))


def test_a_model_without_operator_set_is_refused(dense):
    model = dense()
    model.opset_import[0].domain = "my.own"
    with pytest.raises(
        UnsupportedModelError, match="11 or newer, the model has 1, and it cannot be converted"
    ):
        canonical(model)


# --- the reference's untrained checkpoint ------------------------------------------------


def test_a_checkpoint_with_merged_tensors_computes_the_same(
    reference, run_model, digits_arrays
):
    model = onnx.load(reference / "checkpoints" / "epoch_00.onnx")
    x = {"input": digits_arrays[0][:8]}
    (ours,) = run_model(ir.to_proto(canonical(model).model), x)
    (truth,) = run_model(model, x)
    np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)
