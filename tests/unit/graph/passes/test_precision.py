"""Half floats: the same function up to their rounding, computed in float32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxscape.errors import UnsupportedModelError, UsageError
from onnxscape.graph.canonical import canonical, fed_inputs
from onnxscape.graph.model_file import read_model

RNG = np.random.default_rng(0)
HALF = TensorProto.FLOAT16


@pytest.fixture
def half_model(make_model, node):
    """A float16 model with all that names a type: tensors, casts, fills, bodies."""

    def body(weight):
        output = helper.make_tensor_value_info("b", HALF, ["n", 4])
        made = [node("MatMul", ["x", weight], "b")]
        inner = numpy_helper.from_array(np.float16(RNG.standard_normal((3, 4))), "inner")
        return helper.make_graph(made, "body", [], [output], [inner])

    constant = numpy_helper.from_array(np.float16(RNG.standard_normal((4, 4))), "")
    fill = numpy_helper.from_array(np.float16([0.5]), "")
    nodes = [
        helper.make_node("Constant", [], ["v"], value=constant),
        helper.make_node("ConstantOfShape", ["shape"], ["half"], value=fill),
        node("If", ["flag"], "c", then_branch=body("inner"), else_branch=body("w")),
        node("Cast", ["c"], "wide", to=TensorProto.FLOAT),
        node("Relu", ["wide"], "d"),
        node("Cast", ["d"], "e", to=HALF),
        node("MatMul", ["e", "v"], "f"),
        node("Add", ["f", "half"], "y"),
    ]
    return make_model(
        nodes,
        {"x": ["n", 3], "flag": []},
        {"y": ["n", 4]},
        {"w": np.float16(RNG.standard_normal((3, 4))), "shape": np.array([4])},
        types={"x": HALF, "y": HALF, "flag": TensorProto.BOOL},
    )


@pytest.mark.parametrize("flag", [True, False])
def test_a_half_model_is_computed_in_float32(flag, half_model, run_model):
    x = np.float16(RNG.standard_normal((5, 3)))
    form = canonical(half_model)
    after = ir.to_proto(form.model)
    (truth,) = run_model(half_model, {"x": x, "flag": np.array(flag)})
    (ours,) = run_model(after, {"x": x.astype(np.float32), "flag": np.array(flag)})
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, truth, atol=5e-3 * np.abs(truth).max())
    assert str(int(HALF)) not in {
        str(value.dtype) for graph in form.model.graphs() for value in graph.inputs
    }
    types = {v.dtype for v in form.model.graph.initializers.values()}
    assert ir.DataType.FLOAT16 not in types
    assert form.loosened == {"float16"}


def test_a_half_model_is_computed_as_it_is_if_asked(half_model, run_model):
    x = np.float16(RNG.standard_normal((5, 3)))
    form = canonical(half_model, precision="native")
    feeds = {"x": x, "flag": np.array(True)}
    (truth,) = run_model(half_model, feeds)
    (ours,) = run_model(ir.to_proto(form.model), feeds)
    assert ours.dtype == np.float16
    np.testing.assert_allclose(ours, truth, rtol=2e-3, atol=2e-3)
    assert form.loosened == {"float16"}


def test_what_is_fed_has_the_type_of_the_arithmetic(half_model):
    file = read_model(half_model)
    assert [str(s.dtype) for s in fed_inputs(file)] == ["float32", "bool"]
    assert [str(s.dtype) for s in fed_inputs(file, "native")] == ["float16", "bool"]


@pytest.fixture
def brain_model(make_model, node):
    """A bfloat16 model, and the float32 values of its weight."""
    w = np.float32(RNG.standard_normal((3, 4)))
    cut = (w.view(np.uint32) & 0xFFFF0000).view(np.float32)
    model = make_model(
        [node("MatMul", ["x", "w"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {},
        types={"x": TensorProto.BFLOAT16, "y": TensorProto.BFLOAT16},
    )
    raw = (w.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    model.graph.initializer.append(
        helper.make_tensor("w", TensorProto.BFLOAT16, [3, 4], raw, raw=True)
    )
    return model, cut


def test_a_bfloat16_model_is_computed_in_float32(brain_model, run_model):
    model, w = brain_model
    form = canonical(model)
    assert form.loosened == {"bfloat16"}
    x = np.float32(RNG.standard_normal((5, 3)))
    (ours,) = run_model(ir.to_proto(form.model), {"x": x})
    np.testing.assert_allclose(ours, x @ w, rtol=1e-5, atol=1e-6)


def test_a_bfloat16_model_cannot_be_computed_as_it_is(brain_model):
    with pytest.raises(UnsupportedModelError, match=r"bfloat16.*leave out --precision native"):
        canonical(brain_model[0], precision="native")


def test_masks_at_the_end_of_the_half_range_stay(make_model, node, run_model):
    low = np.finfo(np.float16).min
    model = make_model(
        [node("Add", ["x", "mask"], "h"), node("Softmax", ["h"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 3]},
        {"mask": np.float16([0, low, -np.inf])},
        types={"x": HALF, "y": HALF},
    )
    x = np.zeros((1, 3), np.float32)
    (ours,) = run_model(ir.to_proto(canonical(model).model), {"x": x})
    np.testing.assert_array_equal(ours, [[1, 0, 0]])


def test_float64_stays_what_it_is(make_model, node, unchanged):
    double = TensorProto.DOUBLE
    model = make_model(
        [node("MatMul", ["x", "w"], "y")],
        {"x": ["n", 3]},
        {"y": ["n", 4]},
        {"w": RNG.standard_normal((3, 4))},
        types={"x": double, "y": double},
    )
    form = unchanged(model, {"x": RNG.standard_normal((2, 3))}, rtol=1e-14)
    assert not form.loosened


def test_an_unknown_precision_is_refused(half_model):
    with pytest.raises(UsageError, match="tf32, fp16, bf16 or native, got 'fp8'"):
        canonical(half_model, precision="fp8")
