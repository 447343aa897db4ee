"""Tensors that the user includes: the filters of their operator, noise of their own."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from onnxscape.core.direction import noise, random_direction
from onnxscape.core.selection import Overrides

RNG = np.random.default_rng(0)


def tensor(*shape):
    return np.float32(RNG.standard_normal(shape))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{output}.node", **attributes)


def mel(bands, bins):
    """Return triangles [bands, bins], each behind the one before, wider and wider."""
    edges = (bins - 1) * np.linspace(0.1, 1, bands + 2) ** 2
    places = np.arange(bins)
    left, center, right = (edges[i : i + bands, None] for i in range(3))
    rising, falling = (places - left) / (center - left), (right - places) / (right - center)
    return np.float32(np.maximum(0, np.minimum(rising, falling)))


def waves(frequencies, length):
    """Return windowed cosines and sines [2 * frequencies, length]."""
    angles = 2 * np.pi * np.arange(frequencies)[:, None] * np.arange(length) / length
    return np.float32(np.concatenate([np.cos(angles), np.sin(angles)]) * np.hanning(length))


# The operator with a fixed tensor `f`, the tensor, x, and the axis of f that makes channels.
FIXED = {
    "a mel bank as B of a MatMul": (
        node("MatMul", ["x", "f"], "h"), mel(40, 201).T.copy(), ["n", 9, 201], 1,
    ),
    "a mel bank as A of a MatMul": (
        node("MatMul", ["f", "x"], "h"), mel(40, 201), ["n", 201, 9], 0,
    ),
    "a mel bank in a Gemm": (
        node("Gemm", ["x", "f"], "h"), mel(40, 201).T.copy(), ["n", 201], 1,
    ),
    "a mel bank in a Gemm with transB": (
        node("Gemm", ["x", "f"], "h", transB=1), mel(40, 201), ["n", 201], 0,
    ),
    "a Fourier basis in a Conv": (
        node("Conv", ["x", "f"], "h", strides=[32]), waves(33, 64)[:, None], ["n", 1, 256], 0,
    ),
    "a Fourier basis as B of a MatMul": (
        node("MatMul", ["x", "f"], "h"), waves(33, 64).T.copy(), ["n", 9, 64], 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FIXED)
def test_an_included_basis_has_the_filters_of_its_operator(case, make_model, analysed):
    layer, values, shape, axis = FIXED[case]
    model = make_model([layer], {"x": shape}, {"h": None}, {"f": values})
    assert analysed(model).parameters["f"].layout is None
    included = analysed(model, Overrides(include=("f",))).parameters["f"]
    assert (included.role, included.filter_axis) == ("constant", axis)
    assert included.layout.filters == values.shape[axis]
    d = random_direction([included], seed=3, axis=0).tensors["f"]
    rest = tuple(other for other in range(values.ndim) if other != axis)
    lengths, theirs = (
        np.sqrt((a.astype(np.float64) ** 2).sum(axis=rest)) for a in (d, values)
    )
    np.testing.assert_allclose(lengths, theirs, rtol=1e-6)
    drawn = noise(3, 0, 0, values.shape[axis], values.size // values.shape[axis])
    turned = np.moveaxis(d, axis, 0).reshape(drawn.shape).astype(np.float64)
    cosines = (turned * drawn).sum(axis=1) / np.linalg.norm(drawn, axis=1)
    np.testing.assert_allclose(cosines, theirs, rtol=1e-5, atol=1e-7)


def test_the_filters_of_an_included_basis_behind_a_view_are_those_of_the_file(
    make_model, analysed
):
    nodes = [node("Transpose", ["f"], "ft"), node("MatMul", ["x", "ft"], "h")]
    model = make_model(nodes, {"x": ["n", 201]}, {"h": None}, {"f": mel(40, 201)})
    included = analysed(model, Overrides(include=("f",))).parameters["f"]
    assert (included.filter_axis, included.layout.filters) == (0, 40)


@pytest.mark.parametrize("order", [["h", "g"], ["g", "h"]])
def test_the_filters_of_an_operator_count_whichever_use_comes_first(
    order, make_model, analysed
):
    nodes = [
        node("Mul", ["z", "f"], "g"),
        node("MatMul", ["x", "f"], "h"),
        node("Concat", order, "y", axis=0),
    ]
    inputs = {"z": [201, 40], "x": [5, 201]}
    model = make_model(nodes, inputs, {"y": None}, {"f": mel(40, 201).T.copy()})
    included = analysed(model, Overrides(include=("f",))).parameters["f"]
    assert (included.filter_axis, included.layout.filters) == (1, 40)


def test_an_axis_that_the_user_names_wins_over_that_of_the_operator(make_model, analysed):
    bank = mel(40, 201).T.copy()
    model = make_model(
        [node("MatMul", ["x", "f"], "h")], {"x": ["n", 201]}, {"h": None}, {"f": bank}
    )
    said = Overrides(include=("f",), filter_axis={"f": 0})
    included = analysed(model, said).parameters["f"]
    assert (included.filter_axis, included.layout.filters) == (0, 201)


# --- noise ----------------------------------------------------------------------------------


def positioned(make_model, extra):
    """Return two layers around tables of positions.

    Extra are constants that exporters write or leave out: a scale of one, a mean, a mask, the
    scale of a normalization.
    """
    h = "x"
    nodes, tensors = [], {}
    if "scale" in extra:
        nodes.append(node("Mul", ["x", "scale"], "x.scaled"))
        tensors["scale"] = np.float32(1)
        h = "x.scaled"
    if "mean" in extra:
        nodes.append(node("Sub", [h, "mean"], "x.shifted"))
        tensors["mean"] = np.zeros(3, np.float32) + 0.5
        h = "x.shifted"
    if "mask" in extra:
        nodes.append(node("Add", [h, "mask"], "x.masked"))
        tensors["mask"] = np.tril(np.ones((16, 3), np.float32))
        h = "x.masked"
    nodes.append(node("MatMul", [h, "w"], "h"))
    nodes.append(node("Add", ["h", "bias"], "b"))
    if "gamma" in extra:
        nodes.append(node("Mul", ["b", "gamma"], "scaled"))
        tensors["gamma"] = np.ones(8, np.float32)
    nodes.append(node("Add", ["scaled" if "gamma" in extra else "b", "table"], "t"))
    nodes.append(node("Add", ["t", "offset"], "o"))
    nodes.append(node("MatMul", ["o", "v"], "y"))
    rng = np.random.default_rng(1)
    for name, shape in (
        ("w", (3, 8)), ("bias", (8,)), ("table", (16, 8)), ("offset", (16, 8)), ("v", (8, 2)),
    ):  # fmt: skip
        tensors[name] = np.float32(rng.standard_normal(shape))
    return make_model(nodes, {"x": ["n", 16, 3]}, {"y": ["n", 16, 2]}, tensors)


EXTRAS = [(), ("scale",), ("scale", "mean"), ("scale", "mean", "mask"), ("gamma",)]


@pytest.mark.parametrize("extra", EXTRAS[1:])
@pytest.mark.parametrize("name", ["table", "offset"])
def test_the_noise_of_an_included_table_does_not_depend_on_constants_of_the_exporter(
    name, extra, make_model, analysed
):
    found = []
    for constants in ((), extra):
        model = positioned(make_model, constants)
        parameters = analysed(model, Overrides(include=(name,))).parameters
        found.append(random_direction(list(parameters.values()), seed=0, axis=0).tensors)
    assert found[0].keys() == found[1].keys() == {"w", "v", name}
    for tensor_name, theirs in found[0].items():
        np.testing.assert_array_equal(found[1][tensor_name], theirs)


@pytest.mark.parametrize("extra", EXTRAS[1:4])
def test_the_noise_of_an_included_bias_does_not_depend_on_constants_of_the_exporter(
    extra, make_model, analysed
):
    keys = {
        analysed(positioned(make_model, constants), Overrides(include=("bias",)))
        .parameters["bias"]
        .noise_key
        for constants in ((), extra)
    }
    assert len(keys) == 1


def test_including_a_tensor_changes_the_noise_of_no_other(make_model, analysed):
    model = positioned(make_model, EXTRAS[3])
    every = ("table", "offset", "bias", "scale", "mean", "mask")
    together = analysed(model, Overrides(include=every)).parameters
    for name in every:
        alone = analysed(model, Overrides(include=(name,))).parameters
        assert alone[name].noise_key == together[name].noise_key
        assert (alone["w"].noise_key, alone["v"].noise_key) == (0, 1)
    assert len({p.noise_key for p in together.values()}) == len(together)
