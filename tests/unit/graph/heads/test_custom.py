"""Losses and metrics that are given as graphs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxscape.core.loss import Loss
from onnxscape.errors import ModelFileError, UnsupportedModelError, UsageError
from onnxscape.graph.heads import graft_heads, labels_input, read_custom
from onnxscape.graph.heads.custom import MAX_BYTES


@pytest.fixture
def write(make_model, tmp_path):
    """Returns what writes a graph to a file and reads it as a loss."""

    def to_file(nodes, inputs, outputs, tensors=None, *, name="own.onnx", **options):
        path = tmp_path / name
        onnx.save(make_model(nodes, inputs, outputs, tensors or {}, **options), path)
        return read_custom(path)

    return to_file


def node(op, inputs, *outputs, **attributes):
    return helper.make_node(op, inputs, list(outputs), **attributes)


@pytest.fixture
def absolute(write):
    """The loss |y - labels| of float32 labels, in names that clash with the model's."""

    def build(**options):
        nodes = [
            node("Sub", ["y", "labels"], "x"),
            node("Abs", ["x"], "b"),
            node("Constant", [], "c", value_float=2.0),
            node("Mul", ["b", "c"], "d"),
            node("Mul", ["d", "half"], "onnxscape::loss"),
        ]
        return write(
            nodes,
            {"y": ["n"], "labels": ["n"]},
            {"onnxscape::loss": ["n"]},
            {"half": np.float32(0.5)},
            **options,
        )

    return build


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_a_loss_may_be_a_graph(opset, absolute, run_head):
    y, labels = np.float32([1.0, 2.0, 3.0]), np.float32([2.0, 2.0, 0.0])
    results = run_head(
        "custom", y, labels, opset=opset, custom={"loss": absolute(opset=opset)}
    )
    assert results["loss"].tolist() == [1.0, 0.0, 3.0]


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.float64, np.bool_])
def test_labels_are_cast_to_the_type_that_the_graph_declares(kind, absolute, run_head):
    labels = np.array([1, 0, 1], dtype=kind)
    y = np.array([3.0, 3.0, 3.0], dtype=np.float64)  # and so is the output
    results = run_head("custom", y, labels, custom={"loss": absolute()})
    assert results["loss"].tolist() == [2.0, 3.0, 2.0]


def test_a_metric_may_be_a_graph_beside_a_built_in_loss(write, run_head):
    margin = write(
        [
            node("Unsqueeze", ["labels", "one"], "at"),
            node("GatherElements", ["y", "at"], "own", axis=1),
            node("ReduceMax", ["y"], "best", axes=[1]),
            node("Sub", ["own", "best"], "margin"),
        ],
        {"y": ["n", 3], "labels": ["n"]},
        {"margin": ["n", 1]},
        {"one": np.array([1])},
        types={"labels": TensorProto.INT64},
    )
    y, labels = np.float32([[1, 2, 3], [5, 1, 1]]), np.array([0, 0])
    results = run_head(
        "cross-entropy",
        y,
        labels,
        custom={"margin": margin},
        metrics=("accuracy", "margin"),
    )
    assert results["margin"].tolist() == [-2.0, 0.0]
    assert results["accuracy"].tolist() == [0.0, 1.0]


def test_a_loss_may_do_without_labels(write, run_head):
    file = write([node("ReduceL2", ["y"], "z", axes=[1])], {"y": ["n", 2]}, {"z": ["n", 1]})
    assert labels_input(file, ("y",)) is None
    results = run_head("custom", np.float32([[3.0, 4.0]]), custom={"loss": file})
    assert results["loss"].tolist() == [5.0]


def test_another_operator_set_is_taken_where_operators_did_not_change(absolute, run_head):
    y, labels = np.float32([1.0]), np.float32([3.0])
    for ours, theirs in ((14, 20), (20, 14), (17, 18)):
        file = absolute(opset=theirs)
        loss = run_head("custom", y, labels, opset=ours, custom={"loss": file})["loss"]
        assert loss.tolist() == [2.0]


def test_operators_that_changed_in_between_are_refused_by_their_sets(write, run_head):
    file = write([node("ReduceL2", ["y"], "z", axes=[1])], {"y": ["n", 2]}, {"z": ["n", 1]})
    with pytest.raises(
        UnsupportedModelError, match=r"ReduceL2 \(ai.onnx: 17, the model has 18\)"
    ):
        run_head("custom", np.float32([[3.0, 4.0]]), opset=18, custom={"loss": file})


def test_functions_of_a_loss_are_inlined(write, run_head):
    twice = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    file = write(
        [helper.make_node("Twice", ["y"], ["z"], domain="own")],
        {"y": ["n"]},
        {"z": ["n"]},
        functions=[twice],
    )
    loss = run_head("custom", np.float32([1.5]), custom={"loss": file})["loss"]
    assert loss.tolist() == [3.0]


@pytest.mark.parametrize("name", ["labels", "y", "targets"])
def test_labels_have_one_of_three_names_and_outputs_come_first(name, write):
    inputs = {"out": ["n"], name: ["n"]}
    file = write([node("Sub", ["out", name], "z")], inputs, {"z": ["n"]})
    assert labels_input(file, ("out",)) == name
    if name == "y":
        assert labels_input(file, ("out", "y")) is None


def test_an_input_that_nothing_feeds_is_refused(write, identity_model):
    file = write([node("Sub", ["y", "mask"], "z")], {"y": ["n"], "mask": ["n"]}, {"z": ["n"]})
    with pytest.raises(UnsupportedModelError, match=r"'mask' of .*own.onnx.* is no output"):
        graft_heads(identity_model, Loss(name="custom", output="y"), {"loss": file})


def test_a_loop_is_refused(make_model, tmp_path):
    body = helper.make_graph(
        [node("Identity", ["c"], "d"), node("Identity", ["s"], "t")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, None),
        ],
    )
    tensors = {"many": np.array(2**62), "yes": np.array(True)}
    loop = node("Loop", ["many", "yes", "y"], "z", body=body)
    onnx.save(make_model([loop], {"y": ["n"]}, {"z": ["n"]}, tensors), tmp_path / "l.onnx")
    with pytest.raises(UnsupportedModelError, match=r"Loop.*without loops and branches"):
        read_custom(tmp_path / "l.onnx")


def test_random_numbers_are_refused(write):
    with pytest.raises(UnsupportedModelError, match=r"\.onnx cannot be a loss.*random"):
        write([node("RandomNormalLike", ["y"], "z")], {"y": ["n"]}, {"z": ["n"]})


def test_a_file_that_is_missing_is_no_missing_model(tmp_path):
    with pytest.raises(ModelFileError, match=r"no loss or metric file at .*z\.onnx"):
        read_custom(tmp_path / "z.onnx")


def test_two_outputs_are_refused(write):
    with pytest.raises(UnsupportedModelError, match=r"one output.*has 2: z, w"):
        write(
            [node("Neg", ["y"], "z"), node("Abs", ["y"], "w")],
            {"y": ["n"]},
            {"z": ["n"], "w": ["n"]},
        )


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ModelFileError, match=r"64 MiB; a loss .* may have 64 MiB"):
        read_custom(path)


def test_what_the_loss_does_not_have_is_refused(identity_model):
    with pytest.raises(UsageError, match="mse has no accuracy"):
        graft_heads(identity_model, Loss(name="mse", output="y", metrics=("accuracy",)))


def test_heads_leave_the_models_own_inputs_and_outputs(identity_model):
    loss = Loss(name="cross-entropy", output="y", shape=(2,), class_axis=1)
    head = graft_heads(identity_model, loss)
    assert [v.name for v in identity_model.graph.inputs] == ["x", "onnxscape::labels"]
    assert [v.name for v in identity_model.graph.outputs] == ["y", head.results[0].tensor]


def test_heads_tell_which_outputs_they_read(write, make_model):
    nodes = [node("Neg", ["x"], name) for name in "abc"]
    model = make_model(nodes, {"x": ["n"]}, {"a": ["n"], "b": ["n"], "c": ["n"]}, {})
    metric = write([node("Sub", ["c", "y"], "z")], {"c": ["n"], "y": ["n"]}, {"z": ["n"]})
    loss = Loss(name="none", output="b", label_type=np.dtype(np.float32), metrics=("own",))
    assert graft_heads(ir.from_proto(model), loss, {"own": metric}).reads == ("b", "c")
