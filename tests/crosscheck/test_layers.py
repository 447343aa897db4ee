"""Layers of all kinds end to end: directions from the rules, points from edited files.

Nothing of the product makes the truth: noise comes from numpy by the published scheme, weights
are edited with plain onnx, outputs come from plain ONNX Runtime, the loss from numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxscape as ox

SEED, SAMPLES, CLASSES = 5, 24, 4
POINTS = ((0.5, -0.5), (-0.5, 0.0), (0.0, 0.5))


def rows(w, axes):
    """Return a weight as [filters, elements] with filters along some axes."""
    count = int(np.prod([w.shape[axis] for axis in axes]))
    return np.moveaxis(w, axes, range(len(axes))).reshape(count, -1)


def unrows(matrix, shape, axes):
    """Return what `rows` was made from."""
    rest = [size for i, size in enumerate(shape) if i not in axes]
    first = [shape[axis] for axis in axes]
    return np.moveaxis(matrix.reshape(*first, *rest), range(len(axes)), axes)


@dataclass(frozen=True)
class Network:
    """A small classifier.

    `weights` are those that move in order of evaluation, with the axes that count filters
    (None: a grouped ConvTranspose in two groups). `held` are tensors that bodies hold.
    """

    nodes: list
    x: tuple
    tensors: dict
    weights: dict
    integers: int = 0
    held: tuple = ()


def shapes(**sizes):
    rng = np.random.default_rng(len(sizes))
    return {name: np.float32(rng.standard_normal(size) / 2) for name, size in sizes.items()}


def n(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=outputs, **attributes)


def ints(**values):
    return {name: np.array(value, np.int64) for name, value in values.items()}


def recurrent(op, gates, both):
    ways = 2 if both else 1
    return Network(
        [
            n("Transpose", "x", "steps", perm=[1, 0, 2]),
            n(
                op,
                "steps w r b",
                "all last",
                hidden_size=5,
                direction="bidirectional" if both else "forward",
            ),
            n("Transpose", "last", "turned", perm=[1, 0, 2]),
            n("Flatten", "turned", "flat"),
            n("Gemm", "flat head", "y"),
        ],
        (6, 3),
        shapes(
            w=(ways, gates * 5, 3),
            r=(ways, gates * 5, 5),
            b=(ways, 2 * gates * 5),
            head=(5 * ways, CLASSES),
        ),
        {"w": (0, 1), "r": (0, 1), "head": (1,)},
    )


def branch(name, weight, held=None):
    """Return a body with a layer whose weight it holds, or captures."""
    return helper.make_graph(
        [n("Gemm", f"x {weight} bias", f"{name}_h"), n("Tanh", f"{name}_h", name)],
        name,
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        [] if held is None else [numpy_helper.from_array(held, weight)],
    )


BRANCHED = shapes(w=(3, 5), bias=(5,), head=(5, CLASSES), other=(3, 5))


def step(*, carried):
    """Return a body that computes h = tanh(h @ w + x)."""
    info = helper.make_tensor_value_info
    state = [info("h", TensorProto.FLOAT, None)] + (
        [info("w_in", TensorProto.FLOAT, [3, 3])] if carried else []
    )
    ends = [info("h_next", TensorProto.FLOAT, None)] + (
        [info("w_out", TensorProto.FLOAT, [3, 3])] if carried else []
    )
    nodes = [
        n("Identity", "go", "still"),
        n("MatMul", f"h {'w_in' if carried else 'w'}", "product"),
        n("Add", "product x", "sum"),
        n("Tanh", "sum", "h_next"),
        *([n("Identity", "w_in", "w_out")] if carried else []),
    ]
    inputs = [
        info("i", TensorProto.INT64, []),
        info("go", TensorProto.BOOL, []),
        *state,
    ]
    return helper.make_graph(
        nodes, "step", inputs, [info("still", TensorProto.BOOL, []), *ends]
    )


def looped(*, carried):
    return Network(
        [
            n(
                "Loop",
                f"three true x {'w' if carried else ''}".strip(),
                "h_last w_last" if carried else "h_last",
                body=step(carried=carried),
            ),
            n("Gemm", "h_last head", "y"),
        ],
        (3,),
        shapes(w=(3, 3), head=(3, CLASSES)) | ints(three=3) | {"true": np.array(True)},
        {"w": (1,), "head": (1,)},
    )


NETWORKS = {
    "LSTM": recurrent("LSTM", 4, both=False),
    "LSTM both ways": recurrent("LSTM", 4, both=True),
    "GRU both ways": recurrent("GRU", 3, both=True),
    "RNN both ways": recurrent("RNN", 1, both=True),
    "embedding": Network(
        [
            n("Gather", "words x", "embedded"),
            n("Add", "embedded positions", "placed"),
            n("ReduceMean", "placed", "mean", axes=[1], keepdims=0),
            n("Gemm", "mean head", "y"),
        ],
        (6,),
        shapes(words=(11, 5), positions=(1, 6, 5), head=(5, CLASSES)),
        {"words": (0,), "head": (1,)},
        integers=11,
    ),
    "einsum": Network(
        [
            n("Einsum", "x query", "heads", equation="bti,ihd->bhtd"),
            n("Tanh", "heads", "act"),
            n("Einsum", "act join", "joined", equation="bhtd,hdo->bto"),
            n("ReduceMean", "joined", "y", axes=[1], keepdims=0),
        ],
        (6, 3),
        shapes(query=(3, 2, 4), join=(2, 4, CLASSES)),
        {"query": (1, 2), "join": (2,)},
    ),
    "stacked matrices": Network(
        [
            n("MatMul", "x w", "h"),
            n("ReduceMean", "h", "mean", axes=[2], keepdims=0),
            n("Flatten", "mean", "flat"),
            n("Gemm", "flat head", "y"),
        ],
        (2, 5, 3),
        shapes(w=(2, 3, 4), head=(8, CLASSES)),
        {"w": (0, 2), "head": (1,)},
    ),
    "grouped conv transpose": Network(
        [
            n("ConvTranspose", "x w", "h", group=2),
            n("Relu", "h", "act"),
            n("Flatten", "act", "flat"),
            n("Gemm", "flat head", "y"),
        ],
        (4, 3),
        shapes(w=(4, 3, 2), head=(24, CLASSES)),
        {"w": None, "head": (1,)},
    ),
    "attention": Network(
        [
            n("Attention", "x w b", "h", num_heads=2, domain="com.microsoft"),
            n("ReduceMean", "h", "mean", axes=[1], keepdims=0),
            n("Gemm", "mean head", "y"),
        ],
        (5, 6),
        shapes(w=(6, 24), b=(24,), head=(8, CLASSES)),
        {"w": (1,), "head": (1,)},
    ),
    "branches": Network(
        [
            n(
                "If",
                "true",
                "h",
                then_branch=branch("taken", "w", BRANCHED["w"]),
                else_branch=branch("never", "other"),
            ),
            n("Gemm", "h head", "y"),
        ],
        (3,),
        BRANCHED | {"true": np.array(True)},
        {"other": (1,), "w": (1,), "head": (1,)},
        held=("w",),
    ),
    "loop that captures": looped(carried=False),
    "loop that carries": looped(carried=True),
}


def model_of(network):
    x_type = TensorProto.INT64 if network.integers else TensorProto.FLOAT
    graph = helper.make_graph(
        network.nodes,
        "network",
        [helper.make_tensor_value_info("x", x_type, ["n", *network.x])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [
            numpy_helper.from_array(array, name)
            for name, array in network.tensors.items()
            if name not in network.held
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def edited(graph, values):
    """Put other values in the initializers of a graph and of its bodies."""
    for tensor in graph.initializer:
        if tensor.name in values:
            array = np.float32(values[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                edited(attribute.g, values)


def samples_of(network):
    rng = np.random.default_rng(3)
    x = (
        rng.integers(0, network.integers, (SAMPLES, *network.x))
        if network.integers
        else np.float32(rng.standard_normal((SAMPLES, *network.x)))
    )
    return x, rng.integers(0, CLASSES, SAMPLES)


def direction(network, axis):
    """Return filter-normalized noise by weight, drawn by the published rules."""
    drawn = {}
    for key, (name, axes) in enumerate(network.weights.items()):
        w = network.tensors[name].astype(np.float64)
        if axes is None:  # [C, M/g, k]: the two groups' channels one after another
            halves = [rows(half, (1,)) for half in np.split(w, 2)]
            matrix = np.concatenate(halves)
        else:
            matrix = rows(w, axes)
        stream = np.random.Generator(
            np.random.Philox(np.random.SeedSequence((1, SEED, axis, key)))
        )
        d = stream.standard_normal(matrix.shape)
        d *= np.linalg.norm(matrix, axis=1, keepdims=True) / np.linalg.norm(
            d, axis=1, keepdims=True
        )
        if axes is None:
            half = (w.shape[0] // 2, *w.shape[1:])
            drawn[name] = np.concatenate([unrows(p, half, (1,)) for p in np.split(d, 2)])
        else:
            drawn[name] = unrows(d, w.shape, axes)
    return drawn


def cross_entropy(y, labels):
    y = y.astype(np.float64)
    top = y.max(axis=1)
    log_sum = top + np.log(np.exp(y - top[:, None]).sum(axis=1))
    return float(np.mean(log_sum - y[np.arange(len(y)), labels]))


@pytest.mark.parametrize("strategy", [None, "overriding"])
@pytest.mark.parametrize("name", NETWORKS)
def test_points_equal_edited_files_along_directions_from_the_rules(
    name, strategy, tmp_path, run_model
):
    network = NETWORKS[name]
    model, (x, labels) = model_of(network), samples_of(network)
    path = tmp_path / "directions.h5"
    surface = ox.evaluate(
        model,
        (x, labels),
        grid="3x3",
        radius=0.5,
        seed=SEED,
        samples="all",
        threads=1,
        strategy=strategy,
        out=tmp_path / "surface.h5",
        save_directions=path,
    )
    delta, eta = (direction(network, axis) for axis in (0, 1))
    with h5py.File(path) as file:
        for group, truth in (("xdirection", delta), ("ydirection", eta)):
            stored = {d.attrs["name"]: d[()] for d in file[group].values()}
            moved = {tensor: d for tensor, d in stored.items() if np.any(d)}
            assert moved.keys() == truth.keys()
            for tensor, d in moved.items():
                np.testing.assert_allclose(d, truth[tensor], rtol=1e-5, atol=1e-7)
    for alpha, beta in POINTS:
        weights = {
            tensor: network.tensors[tensor] + alpha * delta[tensor] + beta * eta[tensor]
            for tensor in network.weights
        }
        moved = onnx.ModelProto()
        moved.CopyFrom(model)
        edited(moved.graph, weights)
        (y,) = run_model(moved, {"x": x})
        row, column = (int((step + 0.5) * 2) for step in (beta, alpha))
        assert surface.loss[row, column] == pytest.approx(cross_entropy(y, labels), rel=2e-4)
    assert np.ptp(surface.loss) > 1e-3


def test_the_models_are_valid():
    for network in NETWORKS.values():
        onnx.checker.check_model(model_of(network))
