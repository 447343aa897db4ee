"""Half, quantized and weightless models from request to landscape."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fixture_observer import Recorder
from onnx import TensorProto, helper, numpy_helper

import onnxscape as ox
from onnxscape.errors import DataError, NoParametersError, UnsupportedModelError

RNG = np.random.default_rng(0)
W1 = np.float32(RNG.standard_normal((6, 8)))
W2 = np.float32(RNG.standard_normal((8, 3)))
X = np.float32(RNG.standard_normal((40, 6)))
Y = RNG.integers(0, 3, 40)
SMALL = {"grid": "3x3", "radius": 0.3, "seed": 5, "threads": 1}


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs.split(), **attributes)


@pytest.fixture
def network(make_model):
    """Returns relu(x @ w1) @ w2 with tensors of a type, fed the same type."""

    def build(dtype=np.float32):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return make_model(
            [
                node("MatMul", ["x", "w1"], "h"),
                node("Relu", ["h"], "r"),
                node("MatMul", ["r", "w2"], "y"),
            ],
            {"x": ["n", 6]},
            {"y": ["n", 3]},
            {"w1": W1.astype(dtype), "w2": W2.astype(dtype)},
            types={"x": kind, "y": kind},
        )

    return build


@pytest.fixture
def plain(network):
    """The landscape of the float32 network."""
    return ox.evaluate(network(), (X, Y), **SMALL)


def test_a_half_model_is_evaluated_in_float32(network, plain):
    observer = Recorder()
    half = ox.evaluate(network(np.float16), (X, Y), observer=observer, **SMALL)
    np.testing.assert_allclose(half.loss, plain.loss, rtol=2e-3)
    assert half.spec.precision == "fp32"
    assert not observer.warnings


@pytest.mark.parametrize("strategy", ["constant", "overriding"])
def test_a_half_model_is_evaluated_as_it_is(strategy, network, plain):
    native = ox.evaluate(
        network(np.float16), (X, Y), precision="native", strategy=strategy, **SMALL
    )
    np.testing.assert_allclose(native.loss, plain.loss, rtol=2e-2)
    assert (native.loss != plain.loss).all()
    assert native.spec.precision == "native"


def test_float32_is_the_same_in_its_own_precision(network, plain):
    native = ox.evaluate(network(), (X, Y), precision="native", **SMALL)
    np.testing.assert_array_equal(native.loss, plain.loss)


def brain(model):
    """Return a float32 model with bfloat16 tensors and types, written by plain onnx means."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        raw = (array.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        tensor.CopyFrom(
            helper.make_tensor(tensor.name, TensorProto.BFLOAT16, array.shape, raw, raw=True)
        )
    return model


def test_a_bfloat16_model_is_evaluated_though_the_cpu_cannot_run_it(network, plain):
    observer = Recorder()
    landscape = ox.evaluate(brain(network()), (X, Y), observer=observer, device="cpu", **SMALL)
    np.testing.assert_allclose(landscape.loss, plain.loss, rtol=5e-2)
    assert len(observer.warnings) == 1
    assert "cannot be run in its own half floats here" in observer.warnings[0]


def test_a_bfloat16_model_is_refused_in_its_own_precision(network):
    with pytest.raises(UnsupportedModelError, match="leave out --precision native"):
        ox.evaluate(brain(network()), (X, Y), precision="native", **SMALL)


# --- quantized ----------------------------------------------------------------------------


def quantized_pair(model):
    """Return a QDQ version of the network: int8 weights per column, uint8 activations."""
    tensors, nodes = {}, []

    def activation(source, target):
        nodes.extend(
            [
                node("QuantizeLinear", [source, "s", "z"], f"{target}.q"),
                node("DequantizeLinear", [f"{target}.q", "s", "z"], target),
            ]
        )

    def weight(name, array):
        scale = np.abs(array).max(axis=0) / 127
        tensors[f"{name}.q"] = np.round(array / scale).astype(np.int8)
        tensors[f"{name}.s"] = scale
        inputs = [f"{name}.q", f"{name}.s"]
        nodes.append(node("DequantizeLinear", inputs, name, axis=1))

    tensors |= {"s": np.float32(0.1), "z": np.uint8(128)}
    weight("w1", W1)
    weight("w2", W2)
    activation("x", "xd")
    nodes.append(node("MatMul", ["xd", "w1"], "h"))
    activation("h", "hd")
    nodes += [node("Relu", ["hd"], "r"), node("MatMul", ["r", "w2"], "y")]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()
    )
    return model


@pytest.mark.parametrize("strategy", ["constant", "overriding"])
def test_a_quantized_model_is_compared_with_its_original(
    strategy, network, plain, run_model, tmp_path
):
    observer = Recorder()
    model = quantized_pair(network())
    path = tmp_path / "directions.h5"
    landscape = ox.evaluate(
        model,
        (X, Y),
        observer=observer,
        strategy=strategy,
        out=tmp_path / "surface.h5",
        save_directions=path,
        **SMALL,
    )
    assert ["quantized weights are moved" in text for text in observer.warnings] == [True]
    np.testing.assert_allclose(landscape.loss, plain.loss, rtol=0.1)
    # Exactly: the file with float weights in place of its integers, and numpy's loss.
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        steps = {t.attrs["name"]: t[()] for t in file["xdirection"].values()}
    assert steps.keys() == {"w1", "w2"}
    edited = onnx.ModelProto.FromString(model.SerializeToString())
    for part in edited.graph.node:
        if part.output[0] in steps:
            name = part.output[0]
            part.output[0] = f"{name}.before"
            moved = tensors[f"{name}.q"] * tensors[f"{name}.s"] + 0.3 * steps[name]
            edited.graph.initializer.append(numpy_helper.from_array(np.float32(moved), name))
    (logits,) = run_model(edited, {"x": X}, optimized=False)
    wide = logits.astype(float)
    losses = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(40), Y]
    assert landscape.loss[1, 2] == pytest.approx(losses.mean(), rel=1e-5)


# --- weights that are inputs --------------------------------------------------------------


@pytest.fixture
def weightless(network):
    model = network()
    del model.graph.initializer[:]
    for name, array in (("w1", W1), ("w2", W2)):
        model.graph.input.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        )
    return model


@pytest.mark.parametrize("how", ["arrays", "file"])
def test_weights_are_given_apart(how, weightless, plain, tmp_path):
    weights = {"w1": W1, "w2": W2}
    if how == "file":
        np.savez(tmp_path / "weights.npz", **weights)
        weights = tmp_path / "weights.npz"
    landscape = ox.evaluate(weightless, (X, Y), weights=weights, **SMALL)
    np.testing.assert_allclose(landscape.loss, plain.loss, rtol=1e-6)
    assert landscape.spec.model != plain.spec.model


def test_weights_without_values_are_pointed_out(weightless):
    with pytest.raises(
        NoParametersError, match=r"move: w1, w2 are inputs .*--weights FILE\.npz"
    ):
        ox.evaluate(weightless, (X, Y), **SMALL)


@pytest.mark.parametrize("given", [(), ("w",)])
def test_evaluation_and_inspection_name_the_same_inputs(given, make_model):
    node = helper.make_node("Gemm", ["x", "w", "b"], ["out"])
    model = make_model([node], {"x": ["n", 4], "w": [4, 3], "b": [3]}, {"out": ["n", 3]}, {})
    weights = {"w": np.ones((4, 3), dtype=np.float32)}
    weights = {name: weights[name] for name in given}
    named = ["b"] if given else ["w", "b"]
    (told,) = [
        concern.text
        for concern in ox.inspect(model, weights=weights).warnings
        if concern.kind == "weights as inputs"
    ]
    assert told.startswith(f"{', '.join(named)}: ")
    expected = "or biases: b; if they" if given else "w, b are inputs of the model that are"
    with pytest.raises((NoParametersError, DataError), match=f"{expected}.*--weights FILE"):
        ox.evaluate(model, {"x": np.ones((6, 4)), "y": np.arange(6) % 3}, weights=weights)


def test_a_single_weight_without_a_value_is_pointed_out(network):
    model = network()
    del model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, W1.shape))
    with pytest.raises(DataError, match=r"like weights or biases: w1; .*--weights FILE\.npz"):
        ox.evaluate(model, {"x": X, "y": Y}, **SMALL)
