"""Quantized operators: the same outputs up to a rounding step, and weights that are floats."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxscape.graph.canonical import canonical
from onnxscape.graph.passes.notes import MOVED
from onnxscape.graph.prepared import rebuilt

RNG = np.random.default_rng(0)
F32 = np.float32
X_SCALE, Y_SCALE = F32(0.02), F32(0.1)


def integers(*shape, dtype=np.int8):
    # Of 7 bits: without VNNI the sums of ONNX Runtime's 8-bit kernels overflow.
    low = np.iinfo(dtype).min // 2
    return RNG.integers(low, low + 127, shape, dtype=dtype, endpoint=True)


def scales(*shape):
    return F32(RNG.uniform(0.005, 0.02, shape))


def zeros(*shape):
    return RNG.integers(-5, 5, shape, dtype=np.int8)


@pytest.fixture
def build(make_model, node):
    """Returns a model of quantized operators; x is float32 or uint8."""

    def make(nodes, tensors, x_shape, *, kind=TensorProto.UINT8, out=TensorProto.UINT8):
        model = make_model(
            [node(*entry[:3], **(entry[3] if len(entry) > 3 else {})) for entry in nodes],
            {"x": x_shape},
            {"y": None},
            tensors,
            opset=21,
            ir_version=10,
            types={"x": kind, "y": out},
        )
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return model

    return make


MICROSOFT = {"domain": "com.microsoft"}


def q_linear_conv():
    tensors = {
        "xs": X_SCALE, "xz": np.uint8(120), "w": integers(6, 2, 3, 3), "ws": scales(6),
        "wz": np.zeros(6, np.int8), "ys": Y_SCALE, "yz": np.uint8(128),
        "b": RNG.integers(-900, 900, 6, dtype=np.int32),
    }  # fmt: skip
    inputs = ["x", *tensors]
    attributes = {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 2]}
    weight = tensors["w"] * tensors["ws"][:, None, None, None]
    bias = tensors["b"] * X_SCALE * tensors["ws"]
    nodes = [("QLinearConv", inputs, "y", attributes)]
    return nodes, tensors, [2, 4, 5, 5], np.uint8, np.uint8, {"w": weight, "b": bias}


def q_linear_matmul():
    tensors = {
        "xs": X_SCALE, "xz": np.uint8(120), "w": integers(5, 4), "ws": scales(4),
        "wz": zeros(4), "ys": Y_SCALE, "yz": np.uint8(128),
    }  # fmt: skip
    weight = (tensors["w"].astype(F32) - tensors["wz"]) * tensors["ws"]
    nodes = [("QLinearMatMul", ["x", *tensors], "y")]
    return nodes, tensors, [3, 5], np.uint8, np.uint8, {"w": weight}


def q_gemm(transposed, float_output):
    shape = (4, 5) if transposed else (5, 4)
    tensors = {
        "xs": X_SCALE, "xz": np.uint8(120), "w": integers(*shape), "ws": scales(4),
        "wz": np.zeros(4, np.int8), "b": RNG.integers(-900, 900, 4, dtype=np.int32),
    }  # fmt: skip
    if not float_output:
        tensors |= {"ys": Y_SCALE, "yz": np.uint8(128)}
    attributes = {"transB": int(transposed), "alpha": 0.5, **MICROSOFT}
    nodes = [("QGemm", ["x", *tensors], "y", attributes)]
    along = tensors["ws"][:, None] if transposed else tensors["ws"]
    truth = {"w": tensors["w"] * along, "b": tensors["b"] * 0.5 * X_SCALE * tensors["ws"]}
    return nodes, tensors, [3, 5], np.uint8, F32 if float_output else np.uint8, truth


def conv_integer():
    tensors = {
        "w": integers(6, 2, 3, 3, dtype=np.uint8),
        "xz": np.uint8(7),
        "wz": np.uint8(99),
        "ws": scales(1, 6, 1, 1),
    }
    nodes = [
        ("ConvInteger", ["x", "w", "xz", "wz"], "i", {"pads": [1, 1, 1, 1]}),
        ("Cast", ["i"], "f", {"to": 1}),
        ("Mul", ["f", "ws"], "y"),
    ]
    weight = (tensors["w"].astype(F32) - 99) * tensors["ws"].reshape(6, 1, 1, 1)
    return nodes, tensors, [2, 2, 5, 5], np.uint8, F32, {"w": weight}


def matmul_integer():
    # What onnxruntime's dynamic quantization writes, but that its result is used twice.
    tensors = {"w": integers(5, 4), "wz": zeros(4), "ws": scales(4)}
    nodes = [
        ("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        ("MatMulInteger", ["q", "w", "xz", "wz"], "i"),
        ("Cast", ["i"], "f", {"to": 1}),
        ("Cast", ["i"], "g", {"to": 1}),
        ("Mul", ["xs", "ws"], "s"),
        ("Mul", ["f", "s"], "fs"),
        ("Mul", ["s", "g"], "gs"),
        ("Add", ["fs", "gs"], "y"),
    ]
    weight = (tensors["w"].astype(F32) - tensors["wz"]) * tensors["ws"]
    return nodes, tensors, [3, 5], F32, F32, {"w": weight}


def matmul_integer_to_float():
    tensors = {
        "w": integers(5, 4), "xs": X_SCALE, "ws": scales(4), "xz": np.uint8(120),
        "wz": np.zeros(4, np.int8), "b": F32(RNG.standard_normal(4)),
    }  # fmt: skip
    nodes = [("MatMulIntegerToFloat", ["x", *tensors], "y", MICROSOFT)]
    return nodes, tensors, [3, 5], np.uint8, F32, {"w": tensors["w"] * tensors["ws"]}


def dynamic_quantize_matmul():
    tensors = {
        "w": integers(5, 4), "ws": scales(4), "wz": np.zeros(4, np.int8),
        "b": F32(RNG.standard_normal(4)),
    }  # fmt: skip
    nodes = [("DynamicQuantizeMatMul", ["x", *tensors], "y", MICROSOFT)]
    return nodes, tensors, [3, 5], F32, F32, {"w": tensors["w"] * tensors["ws"]}


def matmul_n_bits(bits, *, given=False):
    n, k, block = 4, 40, 32
    quantized = RNG.integers(0, 2**bits, (n, 64), dtype=np.uint8)
    tensors = {"w": packed(quantized, bits).reshape(n, 2, -1), "ws": scales(n, 2)}
    zero = np.full((n, 2), 2 ** (bits - 1), np.uint8)
    if given:
        zero = RNG.integers(0, 2**bits, (n, 2), dtype=np.uint8)
        tensors["wz"] = packed(zero, bits).ravel()
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block, **MICROSOFT}
    nodes = [("MatMulNBits", ["x", *tensors], "y", attributes)]
    spread = [np.repeat(a, block, axis=1) for a in (zero, tensors["ws"])]
    weight = (quantized - spread[0].astype(F32)) * spread[1]
    tensors["ws"] = tensors["ws"].ravel()
    return nodes, tensors, [3, k], F32, F32, {"w": weight[:, :k]}


def packed(values, bits):
    """Put small integers into bytes, one by one, the lowest bits first."""
    per = 8 // bits
    out = np.zeros((len(values), -(-values.shape[1] // per)), np.uint8)
    for row, line in enumerate(values):
        for at, value in enumerate(line):
            out[row, at // per] |= int(value) << (bits * (at % per))
    return out


CASES = {
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_matmul,
    "QGemm": lambda: q_gemm(transposed=False, float_output=False),
    "QGemm transposed": lambda: q_gemm(transposed=True, float_output=True),
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
    "MatMulIntegerToFloat": matmul_integer_to_float,
    "DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "MatMulNBits": lambda: matmul_n_bits(4),
    "MatMulNBits 8 bits": lambda: matmul_n_bits(8),
    "MatMulNBits with zero points": lambda: matmul_n_bits(4, given=True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_quantized_operator_becomes_a_float_one(case, build, run_model):
    nodes, tensors, shape, x_type, y_type, truth = CASES[case]()
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (x_type, y_type)]
    model = build(nodes, tensors, shape, kind=kinds[0], out=kinds[1])
    x = RNG.integers(0, 255, shape).astype(x_type) if x_type is np.uint8 else None
    feeds = {"x": F32(RNG.standard_normal(shape)) if x is None else x}
    form = canonical(model)
    ours = run_model(ir.to_proto(form.model), feeds)[0]
    theirs = run_model(model, feeds)[0]
    assert ours.dtype == theirs.dtype
    step = 1 if y_type is np.uint8 else 1e-5 * np.abs(theirs).max()
    assert np.abs(ours.astype(float) - theirs.astype(float)).max() <= step
    for name, values in truth.items():
        found = form.model.graph.initializers[name].const_value.numpy()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=1e-6)
    assert form.warnings == (MOVED,)
    assert form.loosened == {"quantized"}


@pytest.mark.parametrize("case", CASES)
def test_the_users_operator_is_noted_on_what_replaces_it(case, build, analysed):
    nodes, tensors, shape, x_type, y_type, truth = CASES[case]()
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (x_type, y_type)]
    model = build(nodes, tensors, shape, kind=kinds[0], out=kinds[1])
    layers = [
        n for n in canonical(model).model.graph if n.op_type in {"Conv", "Gemm", "MatMul"}
    ]
    (layer,) = layers
    assert layer.meta["onnxscape.op"] == case.split()[0]
    assert analysed(model).parameters["w"].role == "weight"
    assert analysed(model).parameters["w"].shape == truth["w"].shape


def lstm_case(per_channel):
    size, inputs = 3, 5
    tensors = {"w": integers(1, inputs, 4 * size), "r": integers(1, size, 4 * size)}
    tensors["b"] = F32(RNG.standard_normal((1, 8 * size)))
    number = (1, 4 * size) if per_channel else (1,)
    for name in "wr":
        tensors[f"{name}s"] = scales(*number)
        tensors[f"{name}z"] = np.zeros(number, np.int8)
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    attributes = {"hidden_size": size, **MICROSOFT}
    return [("DynamicQuantizeLSTM", names, ["a", "y"], attributes)], tensors


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_dynamically_quantized_lstm_becomes_a_float_one(per_channel, build, run_model):
    nodes, tensors = lstm_case(per_channel)
    model = build(nodes, tensors, [4, 2, 5], kind=TensorProto.FLOAT, out=TensorProto.FLOAT)
    form = canonical(model)
    feeds = {"x": F32(RNG.standard_normal((4, 2, 5)))}
    ours, theirs = (run_model(m, feeds)[0] for m in (ir.to_proto(form.model), model))
    assert np.abs(ours - theirs).max() < 0.02  # the states are rounded inside of theirs
    for name in "wr":
        found = form.model.graph.initializers[name].const_value.numpy()
        scale = tensors[f"{name}s"].reshape(1, 1, -1)
        np.testing.assert_allclose(found, tensors[name] * scale, rtol=1e-6)


# --- rows of integers that are scaled after they are looked up ----------------------------


def looked_up(build, uses, **options):
    """Return x (rows) of the integers w, scaled by s as many times as there are uses."""
    tensors = {"w": integers(7, 5, dtype=np.uint8), "s": scales(), "z": np.uint8(99)}
    tensors |= options.pop("tensors", {})
    nodes = []
    for use, entry in enumerate(uses):
        nodes += [("Gather", ["w", "x"], f"r{use}"), ("DequantizeLinear", entry, f"f{use}")]
    nodes.append(("Sum", [f"f{use}" for use in range(len(uses))], "y"))
    kinds = {"kind": TensorProto.INT64, "out": TensorProto.FLOAT}
    return build(nodes, tensors, [3], **kinds), tensors


ROWS = {"x": np.array([6, 0, 2])}


def test_a_quantized_embedding_becomes_a_float_one(build, unchanged, analysed, run_model):
    model, tensors = looked_up(build, [["r0", "s", "z"], ["r1", "s", "z"]])
    form = unchanged(model, ROWS)
    assert form.warnings == (MOVED,)
    weight = (tensors["w"].astype(F32) - 99) * tensors["s"]
    found = analysed(model)
    assert list(found.parameters) == ["w"]
    parameter = found.parameters["w"]
    assert (parameter.role, parameter.op) == ("weight", "Gather")
    np.testing.assert_allclose(parameter.values, weight, rtol=1e-6)
    rebuilt_file = rebuilt(found.file, {"w": 2 * weight})
    (ours,), (theirs,) = run_model(rebuilt_file, ROWS), run_model(model, ROWS)
    np.testing.assert_allclose(ours, 2 * theirs, rtol=1e-6)


@pytest.mark.parametrize("uses", [[["r0", "t", "z5"]], [["r0", "s", "z"], ["r0", "s", "z"]]])
def test_an_embedding_that_is_scaled_in_another_way_is_left_alone(uses, build, unchanged, ops):
    model, _ = looked_up(build, uses, tensors={"t": scales(5), "z5": np.zeros(5, np.uint8)})
    assert "Gather" in ops(unchanged(model, ROWS))
    assert "DequantizeLinear" in ops(unchanged(model, ROWS))


# --- DequantizeLinear on weights ----------------------------------------------------------


@pytest.mark.parametrize("how", ["tensor", "axis", "blocks", "int4", "microsoft"])
def test_a_dequantized_weight_has_the_name_at_its_operator(how, make_model, node, unchanged):
    w = integers(6, 4)
    dtype, extra = np.int8, {}
    match how:
        case "tensor" | "microsoft":
            scale, spread = scales(1)[0], np.full((6, 4), 1.0)
        case "axis" | "int4":
            scale = scales(6)
            spread, extra = np.repeat(scale[:, None], 4, 1), {"axis": 0}
        case "blocks":
            scale = scales(3, 4)
            spread, extra = np.repeat(scale, 2, 0), {"axis": 0, "block_size": 2}
    if how in {"tensor", "microsoft"}:
        spread = spread * scale
    tensors = {"w": w, "s": scale, "z": np.zeros(scale.shape, dtype)}
    domain = MICROSOFT if how == "microsoft" else {}
    model = make_model(
        [
            node("DequantizeLinear", ["w", "s", "z"], "f", **extra, **domain),
            node("Gemm", ["x", "f"], "y", transB=0),
        ],
        {"x": ["n", 6]},
        {"y": ["n", 4]},
        tensors,
        opset=21,
        ir_version=10,
    )
    if how == "int4":
        for tensor in model.graph.initializer:
            if tensor.name in "wz":
                w = np.clip(w, -8, 7)
                values = w if tensor.name == "w" else np.zeros(6, int)
                tensor.CopyFrom(
                    helper.make_tensor(
                        tensor.name, TensorProto.INT4, values.shape, values.ravel()
                    )
                )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    form = unchanged(model, {"x": F32(RNG.standard_normal((3, 6)))})
    found = form.model.graph.initializers["f"].const_value.numpy()
    np.testing.assert_allclose(found, w * spread, rtol=1e-6)
    assert [n.op_type for n in form.model.graph] == ["Gemm"]
    assert form.loosened == {"quantized"}
    assert form.warnings == (MOVED,)


# --- what cannot be rewritten -------------------------------------------------------------


def test_integers_that_are_used_as_such_are_not_moved_and_said_so(build, unchanged):
    tensors = {"w": integers(5, 4)}
    model = build([("MatMulInteger", ["x", "w"], "y")], tensors, [3, 5], out=TensorProto.INT32)
    form = unchanged(model, {"x": integers(3, 5, dtype=np.uint8)})
    assert "MatMulInteger 'y.node' is quantized in a way" in form.warnings[0]
    assert form.model.graph.initializers["w"].const_value.numpy().dtype == np.int8


def test_products_of_activations_are_no_weights(build, unchanged):
    nodes = [("MatMulInteger", ["x", "x"], "i"), ("Cast", ["i"], "y", {"to": 1})]
    model = build(nodes, {}, [4, 4], out=TensorProto.FLOAT)
    form = unchanged(model, {"x": integers(4, 4, dtype=np.uint8)})
    assert not form.warnings


def test_a_shared_quantized_weight_stays_one_tensor(build, run_model):
    tensors = {"w": integers(5, 5), "ws": scales(5), "wz": np.zeros(5, np.int8)}
    nodes = [
        ("DynamicQuantizeMatMul", ["x", "w", "ws", "wz"], "h", MICROSOFT),
        ("DynamicQuantizeMatMul", ["h", "w", "ws", "wz"], "y", MICROSOFT),
    ]
    model = build(nodes, tensors, [3, 5], kind=TensorProto.FLOAT, out=TensorProto.FLOAT)
    form = canonical(model)
    first, second = [n for n in form.model.graph if n.op_type == "MatMul"]
    assert first.inputs[1] is second.inputs[1]
    feeds = {"x": F32(RNG.standard_normal((3, 5)))}
    ours, theirs = (run_model(m, feeds)[0] for m in (ir.to_proto(form.model), model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_quantized_weight_with_two_scales_becomes_two_tensors(build):
    tensors = {"w": integers(5, 5), "s": scales(5), "t": scales(5), "z": np.zeros(5, np.int8)}
    nodes = [
        ("DynamicQuantizeMatMul", ["x", "w", "s", "z"], "h", MICROSOFT),
        ("DynamicQuantizeMatMul", ["h", "w", "t", "z"], "y", MICROSOFT),
    ]
    model = build(nodes, tensors, [3, 5], kind=TensorProto.FLOAT, out=TensorProto.FLOAT)
    layers = [n for n in canonical(model).model.graph if n.op_type == "MatMul"]
    for layer, name in zip(layers, "st", strict=True):
        found = layer.inputs[1].const_value.numpy()
        np.testing.assert_allclose(found, tensors["w"] * tensors[name], rtol=1e-6)


# --- whole networks -----------------------------------------------------------------------
