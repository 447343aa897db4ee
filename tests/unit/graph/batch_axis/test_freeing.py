"""Freeing a model from its batch size: right for every operator, refused wherever it is not.

The truth is plain ONNX Runtime on the model as it is exported for a single sample, one sample
after the other.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from batch_models import W4, arrays, between, exported, ints, node, ramp, weight
from onnx import TensorProto, helper
from right_models import RIGHT
from wrong_models import WRONG

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.batch_axis import FixedBatch, fixed_batch, free_batch
from onnxscape.graph.canonical import canonical as canonical_form


def canonical(proto):
    """Return the graph of a model's canonical form."""
    return canonical_form(proto).model


MODELS = Path(__file__).parents[3] / "exporters" / "models"


def in_pieces(run_model, model, feeds, size):
    count = len(feeds["x"])
    return np.concatenate(
        [
            run_model(model, {k: v[i : i + size] for k, v in feeds.items()}, ["y"])[0]
            for i in range(0, count, size)
        ]
    )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", RIGHT)
def test_a_freed_model_gives_every_sample_its_own_output(name, batch, make_model, run_model):
    case = RIGHT[name]
    model = canonical(exported(case, batch, make_model))
    assert free_batch(model) == FixedBatch(batch, dynamic=True)
    freed = ir.to_proto(model)
    feeds = arrays(case, 6)
    truth = in_pieces(run_model, exported(case, 1, make_model), feeds, 1)
    assert np.ptp(truth, axis=0).max() > 0.1  # the samples differ
    for size in (1, 2, 6):
        ours = in_pieces(run_model, freed, feeds, size)
        np.testing.assert_allclose(ours, truth, rtol=1e-5, atol=1e-6)


def naive(model):
    """Return the model with the batch merely called dynamic."""
    proto = onnx.ModelProto.FromString(model.SerializeToString())
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto


@pytest.mark.parametrize(
    ("name", "batch"), [(name, batch) for name, case in WRONG.items() for batch in case[4]]
)
def test_where_samples_see_each_other_the_model_is_left_as_it_is(
    name, batch, make_model, run_model
):
    case = WRONG[name]
    file = exported(case[:4], batch, make_model)
    model = canonical(file)
    before = ir.to_proto(model).SerializeToString()
    found = free_batch(model)
    assert (found.size, found.dynamic) == (batch, False)
    assert any(n.op_type in found.reason for n in file.graph.node) or "output" in found.reason
    assert ir.to_proto(model).SerializeToString() == before
    # and it had better: called dynamic, the model fails or gives other outputs
    feeds = arrays(case, 6)
    truth = in_pieces(run_model, file, feeds, batch)
    try:
        (ours,) = run_model(naive(file), feeds, ["y"])
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no base
        return
    assert ours.shape != truth.shape or not np.allclose(ours, truth, atol=1e-4)


def test_the_reason_names_the_node(make_model):
    case = WRONG["torn apart"]
    found = fixed_batch(canonical(exported(case[:4], 3, make_model)))
    assert str(found) == (
        "exported for batches of 3 only; run in pieces of 3: Reshape 'make y' tears "
        "samples apart: [3, 4] becomes [4, 3]"
    )
    assert str(FixedBatch(1, dynamic=True)) == "exported for batches of 1 only; made dynamic"


def test_looking_does_not_change_the_model(make_model):
    model = canonical(exported(RIGHT["a target with the batch size"], 3, make_model))
    before = ir.to_proto(model).SerializeToString()
    assert fixed_batch(model) == FixedBatch(3, dynamic=True)
    assert ir.to_proto(model).SerializeToString() == before


def test_a_model_of_any_batch_is_not_fixed(make_model):
    model = make_model([node("Relu", "x")], {"x": ["batch", 4]}, {"y": ["batch", 4]}, {})
    assert fixed_batch(canonical(model)) is None
    assert free_batch(canonical(model)) is None


def test_inputs_of_free_and_fixed_batch_go_together(make_model, run_model):
    inputs = {"x": [2, 4], "z": ["n", 4]}
    model = canonical(make_model([node("Add", "x z")], inputs, {"y": [2, 4]}, {}))
    assert free_batch(model) == FixedBatch(2, dynamic=True)
    feeds = {"x": ramp(5, 4), "z": -ramp(5, 4)}
    assert not run_model(ir.to_proto(model), feeds)[0].any()


def test_inputs_of_two_batch_sizes_are_refused(make_model):
    model = canonical(
        make_model([node("Add", "x z")], {"x": [2, 4], "z": [1, 4]}, {"y": [2, 4]}, {})
    )
    with pytest.raises(UnsupportedModelError, match=r"first axes differ: 'x' 2, 'z' 1"):
        free_batch(model)


@pytest.mark.parametrize("op", ["If", "Loop"])
def test_graphs_within_nodes_are_not_followed(op, make_model):
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["o"])], "body", [], [out])
    if op == "If":
        inner = helper.make_node(
            "If", ["c"], ["y"], name="n", then_branch=body, else_branch=body
        )
    else:
        for name, kind in (("i", TensorProto.INT64), ("k", TensorProto.BOOL)):
            body.input.append(helper.make_tensor_value_info(name, kind, []))
        body.input.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, None))
        body.output.insert(0, helper.make_tensor_value_info("k", TensorProto.BOOL, []))
        inner = helper.make_node("Loop", ["m", "c", "x"], ["y"], name="n", body=body)
    tensors = {"c": np.array(True), "m": ints(1)[0]}
    model = canonical(make_model([inner], {"x": [1, 4]}, {"y": None}, tensors))
    assert (
        fixed_batch(model).reason == f"{op} 'n' runs a graph of its own, which is not followed"
    )


def test_unknown_operators_let_no_batch_through(make_model):
    model = make_model(
        [helper.make_node("Relu", ["x"], ["y"], name="n", domain="some.where")],
        {"x": [1, 4]},
        {"y": None},
        {},
    )
    model.opset_import.append(helper.make_opsetid("some.where", 1))
    assert "Relu 'n' is an operator of which" in fixed_batch(canonical(model)).reason


@pytest.mark.parametrize("perm", [None, [1, 0, 2]])
def test_an_output_without_the_batch_in_front_is_refused(perm, make_model):
    nodes = [node("Transpose", "x", perm=perm)] if perm else [node("Abs", "w")]
    model = make_model(nodes, {"x": [1, 4, 5]}, {"y": None}, {"w": W4})
    expected = "output 'y' does not have the samples on its first axis"
    assert fixed_batch(canonical(model)).reason == expected


def test_sizes_of_other_axes_may_be_unknown(make_model, run_model):
    nodes = [
        node("Shape", "x", "t", start=1, end=2),
        node("Concat", "one t heads", "target", axis=0),
        node("Reshape", "x target", "h"),
        node("Transpose", "h", "q", perm=[0, 2, 1, 3]),
        node("Softmax", "q", "p", axis=-2),
        node("Transpose", "p", "m", perm=[0, 2, 1, 3]),
        node("Concat", "one t six", "back", axis=0),
        node("Reshape", "m back"),
    ]
    tensors = {"one": ints(1), "heads": ints(2, 3), "six": ints(6)}
    file = make_model(nodes, {"x": [1, "time", 6]}, {"y": None}, tensors)
    model = canonical(file)
    assert free_batch(model) == FixedBatch(1, dynamic=True)
    feeds = {"x": weight(4, 5, 6)}
    truth = in_pieces(run_model, file, feeds, 1)
    np.testing.assert_allclose(
        run_model(ir.to_proto(model), feeds, ["y"])[0], truth, rtol=1e-6
    )


def test_names_of_weights_stay_and_stale_shapes_go(make_model):
    case = RIGHT["the batch merged with others and found again"]
    file = exported(case, 3, make_model)
    file = onnx.shape_inference.infer_shapes(file)
    assert any(
        d.dim_value == 9 for v in file.graph.value_info for d in v.type.tensor_type.shape.dim
    )
    model = canonical(file)
    free_batch(model)
    proto = ir.to_proto(model)
    assert "w" in {tensor.name for tensor in proto.graph.initializer}
    made = {name for n in proto.graph.node for name in n.output}
    for value in proto.graph.value_info:
        assert value.name not in made or not value.type.tensor_type.HasField("shape")
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 0


@pytest.mark.parametrize("opset", [11, 17])
def test_squeezing_whatever_has_size_one_spares_a_last_batch_of_one(
    opset, make_model, run_model
):
    file = make_model(
        [node("Squeeze", "x")], {"x": [3, 1, 4, 1]}, {"y": None}, {}, opset=opset
    )
    model = canonical(file)
    assert free_batch(model) == FixedBatch(3, dynamic=True)
    for count in (1, 3, 5):
        x = weight(count, 1, 4, 1)
        ours = run_model(ir.to_proto(model), {"x": x})[0]
        np.testing.assert_array_equal(ours, x.reshape(count, 4))


def test_squeezing_a_batch_of_one_away_is_refused(make_model):
    model = canonical(make_model([node("Squeeze", "x")], {"x": [1, 4]}, {"y": None}, {}))
    assert fixed_batch(model).reason == "Squeeze 'make y' drops the batch axis"


def test_places_that_sizes_leave_open_are_tried_one_after_the_other(make_model, run_model):
    # [1, 1, 8] may hold its one sample on the first axis or the second: the sum tells
    nodes = between(
        ("Reshape", "_ heads", {}),
        ("Transpose", "_", {"perm": [1, 0, 2]}),
        ("ReduceSum", "_ one", {"keepdims": 0}),
        ("Transpose", "_", {"perm": [0, 1]}),
    )
    tensors = {"heads": ints(1, 1, 8), "one": ints(1)}
    file = make_model(nodes, {"x": [1, 8]}, {"y": None}, tensors)
    model = canonical(file)
    assert free_batch(model) == FixedBatch(1, dynamic=True)
    feeds = {"x": weight(5, 8)}
    np.testing.assert_array_equal(run_model(ir.to_proto(model), feeds)[0], feeds["x"])


@pytest.mark.parametrize("fixture", ["cnn_torch_legacy_batch1", "cnn_torch_dynamo_batch5"])
def test_exporters_files_of_fixed_batch_are_freed(fixture, run_model):
    file = onnx.load(MODELS / f"{fixture}.onnx")
    model = canonical(file)
    found = free_batch(model)
    assert found.dynamic
    feeds = {"input": weight(10, 1, 8, 8)}
    pieces = [
        run_model(file, {"input": feeds["input"][i : i + found.size]})[0]
        for i in range(0, 10, found.size)
    ]
    ours = run_model(ir.to_proto(model), feeds)[0]
    np.testing.assert_allclose(ours, np.concatenate(pieces), rtol=1e-5, atol=1e-6)
