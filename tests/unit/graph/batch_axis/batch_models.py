"""Models of a fixed batch size, case by case, for the tests that free them from it."""

from __future__ import annotations

import math

import numpy as np
from onnx import helper


def weight(*shape):
    return np.float32(np.random.default_rng(shape).standard_normal(shape) / 2)


def ints(*values):
    return np.array(values, dtype=np.int64)


def ramp(*shape):
    return np.arange(1, 1 + math.prod(shape), dtype=np.float32).reshape(shape)


def node(op, inputs, outputs="y", **attributes):
    """Return a node, called by its first output; an input `_` is left out."""
    outputs = outputs.split()
    inputs = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, inputs, outputs, name=f"make {outputs[0]}", **attributes)


def between(*nodes):
    """Return nodes one after the other: each takes the last one's output, in place of `_`."""
    made = []
    for place, (op, others, attributes) in enumerate(nodes):
        last = "x" if place == 0 else f"v{place - 1}"
        output = "y" if place + 1 == len(nodes) else f"v{place}"
        made.append(node(op, others.replace("_", last), output, **attributes))
    return made


W34, W4 = weight(3, 4), weight(4)
LSTM = {"W": weight(1, 8, 3), "R": weight(1, 8, 2), "B": weight(1, 16)}


def exported(case, batch, make_model):
    """Return the model of a case as exported for a batch size."""
    shapes, nodes, tensors, opset = case
    nodes = nodes(batch) if callable(nodes) else nodes
    tensors = tensors(batch) if callable(tensors) else tensors
    return make_model(
        nodes,
        {name: [batch, *shape] for name, shape in shapes.items()},
        {"y": None},
        tensors,
        opset=opset,
    )


def arrays(case, count):
    rng = np.random.default_rng(5)
    return {
        name: np.float32(rng.integers(0, 4, (count, *shape)) + rng.uniform(0, 0.9))
        if name == "x" and shape == (5,)
        else np.float32(rng.standard_normal((count, *shape)))
        for name, shape in case[0].items()
    }
