"""Slots: what stands where in the operators of ONNX and of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.graph.parameters import find_parameters

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


SLOTS = {
    "LSTM": ("LSTM", ["x", "w", "w2", "bias", "", "state", "state2", "bias2"], {}),
    "GRU": ("GRU", ["x", "w", "w2", "bias", "", "state"], {}),
    "DeformConv": ("DeformConv", ["x", "w", "offset", "bias", "mask"], {}),
    "BiasGelu": ("com.microsoft.BiasGelu", ["x", "bias"], {}),
    "FastGelu": ("com.microsoft.FastGelu", ["x", "bias"], {}),
    "SkipLayerNormalization": (
        "com.microsoft.SkipLayerNormalization",
        ["x", "x", "gamma", "beta", "bias"],
        {"gamma": "normalization", "beta": "normalization"},
    ),
    "SkipSimplifiedLayerNormalization": (
        "com.microsoft.SkipSimplifiedLayerNormalization",
        ["x", "x", "gamma", "bias"],
        {"gamma": "normalization"},
    ),
    "GroupNorm": (
        "com.microsoft.GroupNorm",
        ["x", "gamma", "beta"],
        {"gamma": "normalization", "beta": "normalization"},
    ),
    "EmbedLayerNormalization": (
        "com.microsoft.EmbedLayerNormalization",
        ["x", "", "w", "w2", "", "gamma", "beta"],
        {"gamma": "normalization", "beta": "normalization"},
    ),
    "MultiHeadAttention": (
        "com.microsoft.MultiHeadAttention",
        ["x", "x", "x", "bias", "", "mask"],
        {},
    ),
    "Attention": ("com.microsoft.Attention", ["x", "w", "bias", "", "", "mask"], {}),
    "MoE": ("com.microsoft.MoE", ["x", "x", "w", "bias", "w2", "bias2"], {}),
    "FusedGemm": ("com.microsoft.FusedGemm", ["x", "w", "bias"], {}),
}


@pytest.mark.parametrize("name", SLOTS)
def test_every_slot_has_its_role(name, make_model):
    op, operands, more = SLOTS[name]
    domain, _, kind = op.rpartition(".")
    rank = 4 if "Conv" in name else 2 if name in {"Attention", "FusedGemm"} else 3
    if name == "EmbedLayerNormalization":
        rank = 2
    sizes = dict.fromkeys(operands, (2,)) | {"w": (2,) * rank, "w2": (2,) * rank}
    tensors = {o: tensor(*sizes[o]) for o in operands if o not in {"", "x"}}
    layer = helper.make_node(kind, operands, ["y"], domain=domain)
    model = make_model([layer], {"x": None}, {"y": None}, tensors)
    parameters, _ = find_parameters(ir.from_proto(model))
    expected = {"w": "weight", "w2": "weight", "bias": "bias", "bias2": "bias"} | more
    assert {p.name: p.role.value for p in parameters} == {
        o: expected.get(o, "constant") for o in tensors
    }


def test_the_users_operator_is_reported(make_model):
    model = ir.from_proto(
        make_model(
            [node("Gemm", ["x", "w"], "y")], {"x": None}, {"y": None}, {"w": tensor(3, 4)}
        )
    )
    model.graph[0].meta["onnxscape.op"] = "MatMulInteger"
    ((weight,), _) = find_parameters(model)
    assert weight.op == "MatMulInteger"


def test_weights_that_are_attributes_are_told_of(make_model):
    layer = helper.make_node(
        "LinearRegressor", ["x"], ["y"], "linear", domain="ai.onnx.ml", coefficients=[1.0, 2.0]
    )
    model = make_model([layer], {"x": ["n", 2]}, {"y": ["n", 1]}, {})
    parameters, (warning,) = find_parameters(ir.from_proto(model))
    assert parameters == ()
    assert warning == (
        "what LinearRegressor 'linear' has learned stands in its attributes and is not "
        "moved: convert the model to tensors (Gemm or MatMul) instead"
    )


def constants_of(make_model, layer, *, inputs=None, opset=17, **tensors):
    """Return the roles of a node's operands, and the warnings."""
    model = make_model(
        [layer], {"x": None} if inputs is None else inputs, {"y": None}, tensors, opset=opset
    )
    parameters, warnings = find_parameters(ir.from_proto(model))
    assert warnings == ()
    return {p.name: p.role.value for p in parameters}


@pytest.mark.parametrize(
    ("op", "operands", "values"),
    [
        ("Resize", ["x", "roi", "scales"], {"roi": np.ones(8), "scales": np.ones(4)}),
        ("Pad", ["x", "pads", "value"], {"value": np.ones(())}),
        ("Clip", ["x", "low", "high"], {"low": -np.ones(()), "high": np.ones(())}),
        ("STFT", ["x", "step", "window"], {"window": np.hanning(64)}),
        ("DequantizeLinear", ["x", "scale"], {"scale": np.ones(4)}),
        ("QuantizeLinear", ["x", "scale"], {"scale": np.ones(4)}),
        ("Where", ["mask", "x", "hidden"], {"hidden": np.float64(-1e9)}),
        ("Pow", ["x", "exponent"], {"exponent": np.ones(())}),
        ("Dropout", ["x", "ratio"], {"ratio": np.ones(())}),
        ("Max", ["x", "zero"], {"zero": np.zeros((1, 4))}),
        ("OneHot", ["x", "depth", "values"], {"values": np.array([0.0, 1.0])}),
        ("GridSample", ["x", "grid"], {"grid": np.float64(1)}),
    ],
)
def test_what_is_no_weight_is_never_taken_for_one(op, operands, values, make_model):
    floats = {name: np.float32(array) for name, array in values.items()}
    more = {o: np.array([1]) for o in operands if o != "x" and o not in floats}
    found = constants_of(make_model, node(op, operands, "y"), **floats, **more)
    assert found == dict.fromkeys(floats, "constant")


def test_tables_that_rotate_queries_are_constants_of_their_operator(make_model):
    angles = np.arange(32)[:, None] / 100 ** (np.arange(8) / 8)
    layer = helper.make_node(
        "RotaryEmbedding", ["x", "i", "cos", "sin"], ["y"], domain="com.microsoft"
    )
    tables = {"cos": np.float32(np.cos(angles)), "sin": np.float32(np.sin(angles))}
    found = constants_of(make_model, layer, inputs={"x": None, "i": None}, **tables)
    assert found == {"cos": "constant", "sin": "constant"}
