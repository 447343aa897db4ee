"""Integer weights with a scale behind their operator move as the floats they stand for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnxscape.core.direction import Normalization, random_direction
from onnxscape.graph.canonical import canonical
from onnxscape.graph.passes.notes import MOVED
from onnxscape.graph.prepared import rebuilt

RNG = np.random.default_rng(0)
F32 = np.float32
W = RNG.integers(-60, 60, (5, 4), dtype=np.int8)
ZERO = RNG.integers(-5, 5, 4, dtype=np.int8)
SCALES = F32([0.004, 0.02, 0.01, 0.1])
X = F32(RNG.standard_normal((3, 5)))
DYNAMIC = ("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"])
STATIC = ("QuantizeLinear", ["x", "xs", "xz"], ["q"])
STATIC_TENSORS = {"xs": F32(0.02), "xz": np.uint8(120)}
CAST = ("Cast", ["i"], ["f"], {"to": 1})


@pytest.fixture
def build(make_model, node):
    """Returns a model of x [3, 5] times the integers w [5, 4]; `behind` leads from f to y."""

    def make(behind, tensors=(), *, quantized=DYNAMIC, layer=None):
        layer = layer or ("MatMulInteger", ["q", "w", "xz", "wz"], ["i"])
        nodes = [
            node(op, inputs, outputs, **dict(*more))
            for op, inputs, outputs, *more in (quantized, layer, CAST, *behind)
        ]
        tensors = {"w": W, "wz": ZERO} | dict(tensors)
        return make_model(nodes, {"x": [3, 5]}, {"y": None}, tensors, opset=21, ir_version=10)

    return make


def floats(scale):
    return (W.astype(F32) - ZERO) * F32(scale)


def mul(a, b, out):
    return ("Mul", [a, b], [out])


SCALED = {
    "as onnxruntime writes it": ([mul("xs", "ws", "s"), mul("f", "s", "y")], DYNAMIC),
    "the other way round": ([mul("ws", "xs", "s"), mul("s", "f", "y")], DYNAMIC),
    "the weight's first": ([mul("f", "ws", "g"), mul("g", "xs", "y")], DYNAMIC),
    "the weight's last": ([mul("f", "xs", "g"), mul("ws", "g", "y")], DYNAMIC),
    "a fixed scale of the activations": ([mul("xs", "ws", "s"), mul("f", "s", "y")], STATIC),
    "a fixed one, last": ([mul("f", "ws", "g"), mul("g", "xs", "y")], STATIC),
    "a fixed one, first": ([mul("f", "xs", "g"), mul("g", "ws", "y")], STATIC),
}


@pytest.mark.parametrize("scale", [SCALES, SCALES[:1], SCALES[0]])
@pytest.mark.parametrize("case", SCALED)
def test_the_weights_scale_goes_into_the_weight(case, scale, build, unchanged, analysed):
    behind, quantized = SCALED[case]
    tensors = {"ws": np.asarray(scale)} | (STATIC_TENSORS if quantized is STATIC else {})
    model = build(behind, tensors, quantized=quantized)
    form = unchanged(model, {"x": X})
    assert (form.warnings, form.loosened) == ((MOVED,), {"quantized"})
    np.testing.assert_allclose(analysed(model).parameters["w"].values, floats(scale), 1e-6)


@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("scale", [SCALES, SCALES[0]])
def test_a_step_is_that_of_the_float_operator_under_every_normalization(
    normalization, scale, build, make_model, node, analysed, run_model
):
    behind, _ = SCALED["as onnxruntime writes it"]
    model = build(behind, {"ws": np.asarray(scale)})
    float_model = make_model(
        [node("MatMul", ["x", "w"], "y")], {"x": [3, 5]}, {"y": [3, 4]}, {"w": floats(scale)}
    )
    ours, theirs = (analysed(m) for m in (model, float_model))
    steps = [
        random_direction(
            list(found.parameters.values()), seed=3, axis=0, normalization=normalization
        ).tensors["w"]
        for found in (ours, theirs)
    ]
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-5, atol=1e-9)
    (y,) = run_model(rebuilt(ours.file, {"w": floats(scale) + steps[0]}), {"x": X})
    # What DynamicQuantizeLinear is said to do, in numpy.
    low, high = min(X.min(), 0), max(X.max(), 0)
    step = F32((high - low) / 255)
    zero = np.round(-low / step)
    read = (np.clip(np.round(X / step) + zero, 0, 255) - zero) * step
    np.testing.assert_allclose(y, read @ (floats(scale) + steps[1]), rtol=1e-3, atol=1e-4)


def test_the_scale_of_a_convolution_goes_into_its_filters(make_model, node, unchanged):
    w = RNG.integers(0, 127, (6, 2, 3, 3), dtype=np.uint8)
    scale = F32(RNG.uniform(0.005, 0.02, (6, 1, 1)))
    model = make_model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
            node("ConvInteger", ["q", "w", "xz", "wz"], "i"),
            node("Cast", ["i"], "f", to=1),
            node("Mul", ["xs", "ws"], "s"),
            node("Mul", ["f", "s"], "y"),
        ],
        {"x": [2, 2, 5, 5]},
        {"y": None},
        {"w": w, "wz": np.uint8(60), "ws": scale},
        opset=21,
        ir_version=10,
    )
    form = unchanged(model, {"x": F32(RNG.standard_normal((2, 2, 5, 5)))})
    found = form.model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_allclose(found, (w.astype(F32) - 60) * scale[:, None], rtol=1e-6)
    assert form.warnings == (MOVED,)


def test_a_scale_that_is_the_models_own_stays_behind(build, unchanged, analysed):
    behind = [mul("xs", "ws", "s"), mul("f", "s", "g"), mul("g", "gamma", "y")]
    gamma = F32(RNG.uniform(0.5, 2, 4))
    model = build(behind, {"ws": SCALES, "gamma": gamma})
    unchanged(model, {"x": X})
    found = analysed(model).parameters
    np.testing.assert_allclose(found["w"].values, floats(SCALES), rtol=1e-6)
    assert found["gamma"].role == "normalization"
    np.testing.assert_array_equal(found["gamma"].values, gamma)


def test_a_product_of_scales_that_is_used_elsewhere_is_kept_there(build, unchanged):
    behind = [mul("xs", "ws", "s"), mul("f", "s", "g"), ("Add", ["g", "s"], ["y"])]
    form = unchanged(build(behind, {"ws": SCALES}), {"x": X})
    found = form.model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_allclose(found, floats(SCALES), rtol=1e-6)


def test_a_product_that_the_model_gives_out_keeps_its_name(make_model, node, unchanged):
    model = make_model(
        [
            node("MatMulInteger", ["x", "w", "", "wz"], "i"),
            node("Cast", ["i"], "f", to=1),
            node("Mul", ["f", "ws"], "y"),
        ],
        {"x": [3, 5]},
        {"y": None},
        {"w": W, "wz": ZERO, "ws": SCALES},
        opset=21,
        ir_version=10,
        types={"x": TensorProto.UINT8},
    )
    form = unchanged(model, {"x": RNG.integers(0, 127, (3, 5), dtype=np.uint8)})
    assert [value.name for value in form.model.graph.outputs] == ["y"]
    found = form.model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_allclose(found, floats(SCALES), rtol=1e-6)


ROWS = F32([[0.1], [0.2], [0.3]])
UNSCALED = {
    "no product": ([("Relu", ["f"], ["y"])], {}, DYNAMIC),
    "a scale of the activations alone": ([mul("f", "xs", "y")], {}, DYNAMIC),
    "a scale for each row": ([mul("f", "rows", "y")], {"rows": ROWS}, DYNAMIC),
    "a scale that adds an axis": ([mul("f", "ws", "y")], {"ws": SCALES[None, None]}, DYNAMIC),
    "another factor first": (
        [("ReduceMax", ["x"], ["m"]), mul("f", "m", "g"), mul("g", "ws", "y")],
        {"ws": SCALES},
        DYNAMIC,
    ),
    "two scales": (
        [mul("f", "ws", "g"), mul("f", "vs", "h"), ("Add", ["g", "h"], ["y"])],
        {"ws": SCALES, "vs": 2 * SCALES},
        DYNAMIC,
    ),
    "a use without a scale": (
        [mul("f", "ws", "g"), ("Add", ["f", "g"], ["y"])], {"ws": SCALES}, DYNAMIC,
    ),
    "a square": ([mul("f", "f", "y")], {}, DYNAMIC),
    "both scales in one number": (
        [mul("f", "s", "y")], {**STATIC_TENSORS, "s": 0.02 * SCALES}, STATIC,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSCALED)
def test_a_weight_without_a_scale_of_its_own_is_warned_of(case, build, unchanged):
    behind, tensors, quantized = UNSCALED[case]
    form = unchanged(build(behind, tensors, quantized=quantized), {"x": X}, atol=1e-4)
    found = form.model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(found, W.astype(F32) - ZERO)
    (warning,) = form.warnings
    assert warning.startswith(
        "MatMulInteger 'i.node': expected a Mul by the weight's constant"
    )
    assert "moves in units of its integers. Only --normalize filter" in warning
    assert form.loosened == {"quantized"}


def test_what_made_the_product_is_gone(build, run_model):
    model = build(SCALED["as onnxruntime writes it"][0], {"ws": SCALES})
    form = canonical(model)
    products = [node for node in form.model.graph if node.op_type == "Mul"]
    assert [[value.name for value in node.inputs][1] for node in products] == ["xs"]
    theirs, ours = (run_model(m, {"x": X})[0] for m in (model, ir.to_proto(form.model)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
