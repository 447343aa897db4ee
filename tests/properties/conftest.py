"""Random networks: what the property tests of several layers share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import helper, numpy_helper


@dataclass
class Network:
    """A network while it is drawn, node by node.

    `shape` is that of the last value without the batch.
    """

    shape: tuple[int, ...]
    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)
    value: str = "x"
    count: int = 0

    def __post_init__(self):
        self.input_shape = self.shape

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def add(self, op, *operands, **attributes):
        output = self.name(op.lower())
        inputs = [self.value, *operands]
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        self.value = output

    def tensor(self, shape, low=None):
        """Return the name of a new tensor: normal, or uniform from `low` to 2."""
        name = self.name("t")
        drawn = self.rng.normal(size=shape) if low is None else self.rng.uniform(low, 2, shape)
        self.tensors[name] = np.float32(drawn)
        return name

    def stored(self, shape, how):
        """Return the operand of a new weight, stored in one of the ways of exporters."""
        scale = np.sqrt(max(1, np.prod(shape) / max(shape)))
        name = self.tensor(shape)
        weight = self.tensors[name] / np.float32(scale)
        self.tensors[name] = weight
        operand = f"{name}.operand"
        match how:
            case "identity":
                made = [helper.make_node("Identity", [name], [operand])]
            case "transposed":
                self.tensors[name] = np.ascontiguousarray(weight.T)
                made = [helper.make_node("Transpose", [name], [operand])]
            case "flat":
                self.tensors[name] = weight.ravel()
                self.tensors[f"{name}.shape"] = np.array(shape)
                made = [helper.make_node("Reshape", [name, f"{name}.shape"], [operand])]
            case "constant":
                value = numpy_helper.from_array(self.tensors.pop(name), "")
                made = [helper.make_node("Constant", [], [name], value=value)]
                operand = name
            case _:
                made, operand = [], name
        self.nodes += made
        return operand


WAYS = st.sampled_from(["plain", "plain", "identity", "transposed", "flat", "constant"])


@st.composite
def networks(draw):
    """Draw a small classifier: convolutions or not, then dense layers, 3 classes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.booleans())
    shape = (draw(st.integers(1, 4)), 5, 5) if images else (draw(st.integers(1, 6)),)
    network = Network(shape, rng)
    if images:
        for _ in range(draw(st.integers(1, 3))):
            _draw_convolution(draw, network)
        network.add("Flatten")
        network.shape = (int(np.prod(network.shape)),)
    for _ in range(draw(st.integers(0, 2))):
        _draw_dense(draw, network, draw(st.integers(1, 7)))
        _draw_behind(draw, network)
    _draw_dense(draw, network, 3)
    return network


def _draw_convolution(draw, network):
    channels = network.shape[0]
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    filters = groups * draw(st.integers(1, 3))
    kernel = draw(st.sampled_from([1, 3]))
    bias = [network.tensor(filters)] if draw(st.booleans()) else []
    if draw(st.booleans()):
        op, weight = "Conv", (filters, channels // groups, kernel, kernel)
    else:
        op, weight = "ConvTranspose", (channels, filters // groups, kernel, kernel)
    padding = [kernel // 2] * 4
    network.add(op, network.stored(weight, draw(WAYS)), *bias, group=groups, pads=padding)
    network.shape = (filters, 5, 5)
    _draw_behind(draw, network)


def _draw_dense(draw, network, units):
    (features,) = network.shape
    how = draw(st.sampled_from(["Gemm", "Gemm transB", "MatMul"]))
    shape = (units, features) if how == "Gemm transB" else (features, units)
    weight = network.stored(shape, draw(WAYS))
    bias = network.tensor(units) if draw(st.booleans()) else None
    if how == "MatMul":
        network.add("MatMul", weight)
        if bias is not None:
            network.add("Add", bias)
    else:
        operands = [weight] if bias is None else [weight, bias]
        network.add("Gemm", *operands, transB=int(how == "Gemm transB"))
    network.shape = (units,)


def _draw_behind(draw, network):
    """Draw a normalization or product per channel, then an activation."""
    channels = network.shape[0]
    for kind in draw(st.lists(st.sampled_from(["norm", "product"]), max_size=2)):
        if kind == "norm":
            network.add(
                "BatchNormalization",
                *[network.tensor(channels) for _ in range(3)],
                network.tensor(channels, low=0.5),
            )
        else:
            network.add("Mul", network.tensor((channels, *[1] * (len(network.shape) - 1))))
    if draw(st.booleans()):
        network.add(draw(st.sampled_from(["Relu", "Tanh", "Identity"])))


@dataclass(frozen=True)
class Drawn:
    """A network as a model, and samples for it."""

    network: Network
    model: Any
    feeds: dict[str, Any]
    labels: Any


@pytest.fixture(scope="session")
def draw_network(make_model):
    """Returns a network drawn by `data.draw`, as a model with samples."""

    def draw(data):
        network = data.draw(networks())
        rng = np.random.default_rng(0)
        model = make_model(
            [*network.nodes, helper.make_node("Identity", [network.value], ["y"])],
            {"x": ["n", *network.input_shape]},
            {"y": ["n", 3]},
            network.tensors,
            opset=data.draw(st.sampled_from([13, 17, 18, 21])),
        )
        feeds = {"x": np.float32(rng.standard_normal((4, *network.input_shape)))}
        return Drawn(dataclasses.replace(network), model, feeds, rng.integers(0, 3, (4, 1)))

    return draw
