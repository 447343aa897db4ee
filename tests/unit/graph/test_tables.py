"""Tables: positions and embeddings are told from masks, sines and bases by their values."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.core.direction import random_direction
from onnxscape.core.selection import Overrides
from onnxscape.graph.parameters import find_parameters
from onnxscape.graph.prepared import analyse

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def roles(analysis):
    return {name: p.role.value for name, p in analysis.parameters.items()}


def embedded(make_model, op, table, *, between=()):
    """x @ w, perhaps something else, then a table of positions."""
    return make_model(
        [
            node("MatMul", ["x", "w"], "h"),
            *between,
            node(op, ["g" if between else "h", "table"], "y"),
        ],
        {"x": ["n", 16, 3]},
        {"y": ["n", 16, 8]},
        {"w": tensor(3, 8), "table": np.float32(table)},
    )


TABLE = RNG.standard_normal((1, 16, 8))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("between", [[], [node("Softmax", ["h"], "g")]])
def test_a_table_of_positions_is_a_bias_wherever_it_comes_behind_weights(
    op, between, make_model, analysed
):
    found = analysed(embedded(make_model, op, TABLE, between=between))
    assert roles(found) == {"w": "weight", "table": "bias"}
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("table", "fixed"),
    [
        (np.where(np.arange(8) > np.arange(16)[:, None], -np.inf, 0), "a mask"),
        (np.cos(np.arange(16)[:, None] / 2.0 ** np.arange(8)), "sines and cosines"),
    ],
)
def test_masks_and_sines_are_constants_and_nothing_is_said(table, fixed, make_model, analysed):
    found = analysed(embedded(make_model, "Add", table))
    assert found.parameters["table"].role == "constant"
    assert fixed in found.parameters["table"].fixed
    assert found.warnings == ()


def test_a_table_before_any_weight_is_preprocessing(make_model, analysed):
    model = make_model(
        [node("Sub", ["x", "mean"], "h"), node("Conv", ["h", "w"], "y")],
        {"x": ["n", 3, 4, 4]},
        {"y": ["n", 4, 4, 4]},
        {"w": tensor(4, 3, 1, 1), "mean": tensor(3, 4, 4)},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight", "mean": "constant"}
    assert "tensor 'mean' [3, 4, 4] of Sub is not moved" in found.warnings[0]


def test_a_fourier_basis_is_no_weight_and_its_name_is_told(make_model, analysed):
    angles = 2 * np.pi * np.arange(33)[:, None] * np.arange(64) / 64
    basis = np.concatenate([np.cos(angles), np.sin(angles)]) * np.hanning(64)
    model = make_model(
        [
            node("Conv", ["x", "stft"], "h", strides=[32]),
            node("Relu", ["h"], "r"),
            node("Conv", ["r", "w"], "y"),
        ],
        {"x": ["n", 1, 256]},
        {"y": ["n", 4, 7]},
        {"stft": np.float32(basis[:, None]), "w": tensor(4, 66, 1)},
    )
    found = analysed(model)
    assert roles(found) == {"stft": "constant", "w": "weight"}
    assert found.parameters["w"].noise_key == 0
    (warning,) = found.warnings
    assert warning == (
        "tensor 'stft' [66, 1, 64] of Conv is not moved: its values are a Fourier basis; "
        "--include 'stft' moves it"
    )
    included, warnings = analyse(found.file, Overrides(include=("stft",)))
    assert [(p.name, p.noise_key) for p in included] == [("stft", 1), ("w", 0)]
    assert warnings == ()


def looked_up(make_model, **tables):
    """Return a model that multiplies looked-up rows of some tables."""
    names = list(tables)
    nodes = [node("Gather", [name, "i"], f"{name}.rows") for name in names]
    value = f"{names[0]}.rows"
    for name in names[1:]:
        nodes.append(node("Mul", [value, f"{name}.rows"], f"{name}.product"))
        value = f"{name}.product"
    nodes.append(node("Identity", [value], "y"))
    types = {"i": onnx.TensorProto.INT64}
    tensors = {name: np.float32(table) for name, table in tables.items()}
    return make_model(nodes, {"i": ["n"]}, {"y": None}, tensors, types=types)


ANGLES = np.arange(32)[:, None] / 100 ** (np.arange(8) / 8)


def test_a_table_of_sines_that_is_looked_up_is_no_embedding_and_its_name_is_told(
    make_model, analysed
):
    found = analysed(looked_up(make_model, cosines=np.cos(ANGLES), words=tensor(32, 8)))
    assert roles(found) == {"cosines": "constant", "words": "weight"}
    (warning,) = found.warnings
    assert warning == (
        "tensor 'cosines' [32, 8] of Gather is not moved: its values are sines and cosines of "
        "the position; --include 'cosines' moves it"
    )


def test_many_tables_that_stay_for_their_values_are_told_of_in_one_sentence(
    make_model, analysed
):
    tables = {f"t{i}": np.cos(ANGLES + i) for i in range(5)}
    model = looked_up(make_model, words=tensor(32, 8), **tables)
    (warning,) = analysed(model).warnings
    assert warning == (
        "tensors 't0' [32, 8], 't1' [32, 8], 't2' [32, 8] and 2 more of Gather are not moved: "
        "their values are sines and cosines of the position; --include 't0' moves the first"
    )
    (warning,) = analysed(model, Overrides(include=("t0",), exclude=("t1", "t2"))).warnings
    assert warning.startswith("tensors 't3' [32, 8], 't4' [32, 8] of Gather are not moved")


def test_an_embedding_of_two_values_is_a_weight(make_model, analysed, run_model):
    binary = np.where(RNG.random((32, 8)) < 0.5, -1.0, 1.0)
    model = looked_up(make_model, words=binary)
    found = analysed(model)
    assert roles(found) == {"words": "weight"}
    assert (found.parameters["words"].filter_axis, found.warnings) == (0, ())
    rows = {"i": np.array([3, 0, 31])}
    (y,) = run_model(model, rows)
    np.testing.assert_array_equal(y, binary[rows["i"]])
    direction = random_direction([found.parameters["words"]], seed=0, axis=0).tensors["words"]
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), np.sqrt(8), rtol=1e-6)


@pytest.mark.parametrize("hidden", [0, -1e9])
def test_a_mask_that_is_looked_up_stays_and_its_name_is_told(hidden, make_model, analysed):
    seen = 1.0 if hidden == 0 else 0.0
    mask = np.where(np.tril(np.ones((8, 8), bool)), seen, hidden)
    found = analysed(looked_up(make_model, mask=mask, words=tensor(8, 8)))
    assert roles(found) == {"mask": "constant", "words": "weight"}
    (warning,) = found.warnings
    assert warning == (
        "tensor 'mask' [8, 8] of Gather is not moved: its values are a mask; "
        "--include 'mask' moves it"
    )


@pytest.mark.parametrize("shape", [(8,), (1, 8), (8, 1)])
def test_vectors_that_are_looked_up_are_no_embeddings(shape, make_model, analysed):
    model = make_model(
        [node("Gather", ["table", "i"], "y")],
        {"i": ["n"]},
        {"y": None},
        {"table": tensor(*shape)},
        types={"i": onnx.TensorProto.INT64},
    )
    assert roles(analysed(model)) == {"table": "constant"}


def test_a_shape_that_is_read_is_no_use_of_a_tensor(make_model):
    model = make_model(
        [
            node("Shape", ["w"], "s"),
            node("Cast", ["s"], "f", to=1),
            node("ReduceSum", ["f"], "t"),
            node("Mul", ["x", "t"], "y"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 3]},
        {"w": tensor(3, 4)},
    )
    assert find_parameters(ir.from_proto(model)) == ((), ())


@pytest.mark.parametrize(("index", "shape"), [([], (4, 8)), ([], (4, 3, 8)), ([1], (4, 3, 8))])
def test_weights_of_layers_that_are_looked_up_one_by_one_are_no_embedding(
    index, shape, make_model, analysed
):
    model = make_model(
        [
            node("Gather", ["stack", "layer"], "looked_up"),
            node("MatMul", ["x", "w"], "h"),
            node("Add", ["h", "looked_up"], "y"),
        ],
        {"x": ["n", 3, 5], "layer": index},
        {"y": None},
        {"stack": tensor(*shape), "w": tensor(5, 8)},
        types={"layer": onnx.TensorProto.INT64},
    )
    found = analysed(model)
    assert roles(found) == {"w": "weight", "stack": "constant"}
