"""Whatever the chain of operators: a model that is freed from its batch is right for any."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from onnxscape.graph.batch_axis import free_batch
from onnxscape.graph.canonical import canonical


@dataclass
class Chain:
    """A model while it is drawn: of its values the shapes at the exported batch size."""

    shapes: dict[str, tuple[int, ...]]
    last: str = "x"
    nodes: list[Any] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self):
        return self.shapes[self.last]

    def constant(self, array):
        name = f"c{len(self.tensors)}"
        self.tensors[name] = array
        return name

    def integers(self, *values):
        return self.constant(np.array(values, dtype=np.int64))

    def floats(self, shape):
        rng = np.random.default_rng(len(self.tensors))
        return self.constant(np.float32(rng.uniform(0.2, 1.0, shape)))

    def add(self, op, shape, *others, first=None, **attributes):
        output = f"v{len(self.nodes)}"
        inputs = [first or self.last, *others]
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        self.shapes[output] = tuple(int(size) for size in shape)
        self.last = output


def axis_of(draw, chain):
    return draw(st.integers(0, len(chain.shape) - 1))


def other(shape, axis, size):
    return (*shape[:axis], size, *shape[axis + 1 :])


def transpose(draw, chain):
    order = draw(st.permutations(range(len(chain.shape))))
    chain.add("Transpose", [chain.shape[axis] for axis in order], perm=order)


def merge(draw, chain):
    axis = axis_of(draw, chain)
    if axis:
        size = chain.shape[axis - 1] * chain.shape[axis]
        shape = (*chain.shape[: axis - 1], size, *chain.shape[axis + 1 :])
        chain.add("Reshape", shape, target(draw, chain, shape))


def divide(draw, chain):
    axis = axis_of(draw, chain)
    size = chain.shape[axis]
    part = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    shape = (*chain.shape[:axis], part, size // part, *chain.shape[axis + 1 :])
    chain.add("Reshape", shape, target(draw, chain, shape))


def target(draw, chain, shape):
    entries = list(shape)
    if draw(st.booleans()):
        entries[draw(st.integers(0, len(entries) - 1))] = -1
    same = [i for i, n in enumerate(entries[: len(chain.shape)]) if n == chain.shape[i]]
    if same and draw(st.booleans()):
        entries[draw(st.sampled_from(same))] = 0
    return chain.integers(*entries)


def flatten(draw, chain):
    axis = axis_of(draw, chain)
    shape = math.prod(chain.shape[:axis]), math.prod(chain.shape[axis:])
    chain.add("Flatten", shape, axis=axis)


def unsqueeze(draw, chain):
    axis = draw(st.integers(0, len(chain.shape)))
    shape = (*chain.shape[:axis], 1, *chain.shape[axis:])
    chain.add("Unsqueeze", shape, chain.integers(axis))


def squeeze(draw, chain):
    ones = [axis for axis, size in enumerate(chain.shape) if size == 1]
    if ones and len(chain.shape) > 1:
        axis = draw(st.sampled_from(ones))
        shape = (*chain.shape[:axis], *chain.shape[axis + 1 :])
        chain.add("Squeeze", shape, chain.integers(axis))


def normalize(draw, chain):
    chain.add("Softmax", chain.shape, axis=axis_of(draw, chain))


def reduce(draw, chain):
    axis = axis_of(draw, chain)
    keep = len(chain.shape) == 1 or draw(st.booleans())
    kept = (1,) if keep else ()
    shape = (*chain.shape[:axis], *kept, *chain.shape[axis + 1 :])
    chain.add("ReduceMean", shape, axes=[axis], keepdims=int(keep))


def shift(draw, chain):
    shape = [draw(st.sampled_from([1, size])) for size in chain.shape]
    shape = shape[draw(st.integers(0, len(shape) - 1)) :]
    chain.add(draw(st.sampled_from(["Add", "Mul"])), chain.shape, chain.floats(shape))


def multiply(draw, chain):
    units = draw(st.integers(1, 3))
    shape = (*chain.shape[:-1], units)
    if len(chain.shape) == 2 and draw(st.booleans()):
        bias = chain.floats(draw(st.sampled_from([(units,), (1, units), (chain.shape[0], 1)])))
        chain.add("Gemm", shape, chain.floats((chain.shape[1], units)), bias)
    elif len(chain.shape) > 1:
        chain.add("MatMul", shape, chain.floats((chain.shape[-1], units)))


def cut(draw, chain):
    axis = axis_of(draw, chain)
    end = draw(st.integers(1, chain.shape[axis]))
    bounds = [chain.integers(n) for n in (0, end, axis)]
    chain.add("Slice", other(chain.shape, axis, end), *bounds)


def pick(draw, chain):
    axis = axis_of(draw, chain)
    if len(chain.shape) > 1:
        place = chain.constant(np.array(chain.shape[axis] - 1))
        shape = (*chain.shape[:axis], *chain.shape[axis + 1 :])
        chain.add("Gather", shape, place, axis=axis)


def join(draw, chain):
    axis = axis_of(draw, chain)
    part = chain.floats(other(chain.shape, axis, 1))
    chain.add("Concat", other(chain.shape, axis, chain.shape[axis] + 1), part, axis=axis)


def combine(draw, chain):
    before = draw(st.sampled_from(sorted(chain.shapes)))
    try:
        shape = np.broadcast_shapes(chain.shape, chain.shapes[before])
    except ValueError:
        return
    chain.add(draw(st.sampled_from(["Add", "Sub", "Max"])), shape, before)


def attend(draw, chain):
    shape = chain.shape
    if len(shape) > 1:
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        value = chain.last
        chain.add("Transpose", [shape[axis] for axis in order], perm=order)
        chain.add("MatMul", (*shape[:-1], shape[-2]), chain.last, first=value)


def convolve(draw, chain):
    if len(chain.shape) == 3:
        filters = draw(st.integers(1, 3))
        kernel = chain.floats((filters, chain.shape[1], 3))
        chain.add("Conv", other(chain.shape, 1, filters), kernel, pads=[1, 1])


def scale(_draw, chain):
    if len(chain.shape) > 1:
        factors = [chain.floats((chain.shape[1],)) for _ in range(4)]
        chain.add("BatchNormalization", chain.shape, *factors)


def by_shape(_draw, chain):
    value, shape = chain.last, chain.shape
    chain.add("Shape", (1,), end=1)
    rows = chain.last
    chain.add("Concat", (2,), chain.integers(-1), axis=0)
    sizes = chain.last
    chain.add("Reshape", (shape[0], math.prod(shape[1:])), sizes, first=value)
    for whole_numbers in (rows, sizes):  # nothing is to be combined with these
        del chain.shapes[whole_numbers]


STEPS = st.sampled_from(
    [
        *[transpose, merge, divide, flatten, unsqueeze, squeeze, normalize, reduce, shift],
        *[multiply, cut, pick, join, combine, attend, convolve, scale, by_shape],
    ]
)


@st.composite
def chains(draw, batch):
    """Draw a chain that ends with as many rows as the batch has, wherever they come from."""
    shape = (batch, *draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    chain = Chain({"x": shape})
    for step in draw(st.lists(STEPS, min_size=1, max_size=7)):
        if math.prod(chain.shape) < 2000:
            step(draw, chain)
    if math.prod(chain.shape) % batch == 0 and draw(st.booleans()):
        end = (batch, math.prod(chain.shape) // batch)
        chain.add("Reshape", end, chain.integers(*end))
    return chain


def test_a_freed_chain_gives_what_the_file_gives_in_pieces(make_model, run_model):
    freed = {True: 0, False: 0}

    @settings(max_examples=250)
    @given(data=st.data(), batch=st.sampled_from([1, 1, 2, 3]))
    def check(data, batch):
        chain = data.draw(chains(batch))
        shape = chain.shapes["x"]
        file = make_model(
            [*chain.nodes, helper.make_node("Identity", [chain.last], ["y"])],
            {"x": list(shape)},
            {"y": None},
            chain.tensors,
        )
        model = canonical(file).model
        found = free_batch(model)
        freed[found.dynamic] += 1
        if not found.dynamic:
            return
        count = 6
        x = np.float32(np.random.default_rng(7).standard_normal((count, *shape[1:])))
        pieces = [
            run_model(file, {"x": x[i : i + batch]}, ["y"])[0] for i in range(0, count, batch)
        ]
        truth = np.concatenate(pieces)
        proto = ir.to_proto(model)
        for size in (1, 5, 6):
            ours = run_model(proto, {"x": x[:size]}, ["y"])[0]
            np.testing.assert_allclose(ours, truth[:size], rtol=1e-4, atol=1e-4)

    check()
    assert min(freed.values()) > 30  # neither is rare, or this proves nothing
