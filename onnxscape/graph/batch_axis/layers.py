"""Layers: convolutions, pools, products of matrices and recurrent layers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis.elementwise import broadcast
from onnxscape.graph.batch_axis.rearranging import repeat_constant
from onnxscape.graph.batch_axis.reductions import only_first
from onnxscape.graph.batch_axis.state import Along, Sizes, State, Unprovable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.graph.batch_axis.step import Step


def convolution(step: Step) -> Sequence[State]:
    """Conv and FusedConv: samples on the first axis, constant weights."""
    state, shape = step.tracked(0)
    _, weight = step.tracked(1)
    step.constant(1, 2)
    only_first(state)
    result = State((shape[0], weight[0], *_window(step, shape, weight[2:])), state.along)
    if step.has(3) and step.state(3).along != state.along:  # FusedConv adds it
        raise Unprovable("adds a constant, or samples on another axis")
    return [result]


def transposed_convolution(step: Step) -> Sequence[State]:
    """ConvTranspose: samples on the first axis, constant weights."""
    state, shape = step.tracked(0)
    _, weight = step.tracked(1)
    step.constant(1, 2)
    only_first(state)
    filters = None if weight[1] is None else weight[1] * step.integer("group", 1)
    return [State((shape[0], filters, *[None] * (len(shape) - 2)), state.along)]


def pool(step: Step) -> Sequence[State]:
    """MaxPool, AveragePool and LpPool: windows within each channel of each sample."""
    state, shape = step.tracked(0)
    only_first(state)
    if len(step.node.outputs) > 1 and step.node.outputs[1].name:
        raise Unprovable("counts the places of its maxima through all samples")
    kernel = tuple(step.integers("kernel_shape") or ())
    return [State((*shape[:2], *_window(step, shape, kernel)), state.along)]


def global_pool(step: Step) -> Sequence[State]:
    """Global pools: one number per channel and sample."""
    state, shape = step.tracked(0)
    only_first(state)
    return [State((*shape[:2], *[1] * (len(shape) - 2)), state.along)]


def _window(step: Step, shape: Sizes, kernel: Sizes) -> list[int | None]:
    """Return the sizes that sliding a window gives; None where rounding is not plain."""
    count = len(shape) - 2
    strides = step.integers("strides") or [1] * count
    dilations = step.integers("dilations") or [1] * count
    pads = step.integers("pads") or [0] * (2 * count)
    plain = step.text("auto_pad", "NOTSET") == "NOTSET" and not step.integer("ceil_mode", 0)
    sizes: list[int | None] = []
    for axis, (size, width) in enumerate(zip(shape[2:], kernel, strict=True)):
        if size is None or width is None or not plain:
            sizes.append(None)
            continue
        covered = dilations[axis] * (width - 1) + 1
        free = size + pads[axis] + pads[axis + count] - covered
        sizes.append(free // strides[axis] + 1)
    return sizes


def gemm(step: Step) -> Sequence[State]:
    """Gemm and FusedGemm: samples are rows of A, or columns of B."""
    (a, shape_a), (b, shape_b) = step.tracked(0), step.tracked(1)
    rows = 1 if step.integer("transA", 0) else 0
    columns = 0 if step.integer("transB", 0) else 1
    along = None
    if a.along is not None and b.along is not None:
        raise Unprovable("multiplies samples with samples")
    for state, kept, place in ((a, rows, 0), (b, columns, 1)):
        if state.along is not None:
            if state.along.axis != kept:
                raise Unprovable("sums over the batch axis")
            along = dataclasses.replace(state.along, axis=place)
    product = State((shape_a[rows], shape_b[columns]), along)
    if not step.has(2):
        return [product]
    if step.state(2).along is not None and along is None:
        raise Unprovable("adds samples to constants")
    return [broadcast([product, step.state(2)])]


def matmul(step: Step) -> Sequence[State]:
    """MatMul: samples are rows of the left, columns of the right, or matrices of their own."""
    return [_product(step.tracked(0), step.tracked(1))]


def fused_matmul(step: Step) -> Sequence[State]:
    """FusedMatMul: a MatMul of matrices that may be transposed."""
    if step.integer("transBatchA", 0) or step.integer("transBatchB", 0):
        raise Unprovable("moves the batch axis, which is not followed")
    sides = []
    for slot, name in enumerate(("transA", "transB")):
        state, shape = step.tracked(slot)
        if step.integer(name, 0) and len(shape) > 1:
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            along = state.along
            if along is not None:
                along = dataclasses.replace(along, axis=order.index(along.axis))
            state = State(tuple(shape[axis] for axis in order), along)
        sides.append((state, state.shape or ()))
    return [_product(*sides)]


def _product(left: tuple[State, Sizes], right: tuple[State, Sizes]) -> State:
    """Return the product of matrices, leading axes broadcast as numpy does.

    Raises:
        Unprovable: If it sums over samples, or multiplies samples with others.
    """
    (a, shape_a), (b, shape_b) = left, right
    vectors = len(shape_a) == 1, len(shape_b) == 1
    if vectors[0]:
        a, shape_a = _with_axis(a, (1, *shape_a), 1)
    if vectors[1]:
        b, shape_b = _with_axis(b, (*shape_b, 1), 0)
    for state, summed in ((a, len(shape_a) - 1), (b, len(shape_b) - 2)):
        if state.along is not None and state.along.axis == summed:
            raise Unprovable("sums over the batch axis")
    # As far as samples go, the result is that of broadcasting rows against columns.
    rows = State((*shape_a[:-1], 1), a.along)
    columns = State((*shape_b[:-2], 1, shape_b[-1]), b.along)
    result = broadcast([rows, columns])
    shape, along = result.shape or (), result.along
    last = len(shape) - 1
    for axis, vector in ((last, vectors[1]), (last - 1, vectors[0])):
        if vector:
            shape = tuple(size for place, size in enumerate(shape) if place != axis)
            if along is not None and along.axis > axis:
                along = dataclasses.replace(along, axis=along.axis - 1)
    return State(shape, along)


def _with_axis(state: State, shape: Sizes, shift: int) -> tuple[State, Sizes]:
    along = state.along
    if along is not None:
        along = dataclasses.replace(along, axis=along.axis + shift)
    return State(shape, along), shape


def einsum(step: Step) -> Sequence[State]:
    """Einsum: the batch has one letter, that of every operand which holds samples alone."""
    equation = step.text("equation", "").replace(" ", "")
    if "." in equation or "->" not in equation:
        raise Unprovable(f"has the equation {equation}, which is not followed")
    left, result = equation.split("->")
    sizes: dict[str, int | None] = {}
    letters: dict[str, Along] = {}
    terms = left.split(",")
    for slot, term in enumerate(terms):
        state, shape = step.tracked(slot)
        if state.along is not None:
            letters[term[state.along.axis]] = state.along
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = size if sizes.get(letter) in {None, 1} else sizes[letter]
    if not letters:
        return [State(tuple(sizes[letter] for letter in result))]
    if len(letters) > 1:
        raise Unprovable("multiplies samples with samples")
    ((letter, along),) = letters.items()
    for slot, term in enumerate(terms):
        if term.count(letter) != int(step.state(slot).along is not None):
            raise Unprovable("has a constant that differs between the samples")
        if (held := step.state(slot).along) and (held.outer, held.inner) != (
            along.outer,
            along.inner,
        ):
            raise Unprovable("combines samples with other samples")
    if letter not in result:
        raise Unprovable("sums over the batch axis")
    along = dataclasses.replace(along, axis=result.index(letter))
    return [State(tuple(sizes[letter] for letter in result), along)]


def recurrent(step: Step) -> Sequence[State]:
    """LSTM, GRU and RNN: [time, batch, features], states [directions, batch, hidden]."""
    state, shape = step.tracked(0)
    if step.integer("layout", 0):
        raise Unprovable("has the batch in front of the time, which is not followed")
    along = state.along
    if along is None or along.axis != 1:
        raise Unprovable("takes the batch axis for another one")
    step.constant(1, 2, 3, 7)
    _recurrent_input(step, 4, dataclasses.replace(along, axis=0))
    for slot in (5, 6):
        _recurrent_input(step, slot, along)
    _, weight = step.tracked(2)
    hidden = weight[2]
    last = State((weight[0], shape[1], hidden), along)
    outputs = State(
        (shape[0], weight[0], shape[1], hidden), dataclasses.replace(along, axis=2)
    )
    return [outputs, last, last]


def _recurrent_input(step: Step, slot: int, along: Along) -> None:
    """Let lengths or an initial state follow the batch.

    Raises:
        Unprovable: If it holds values for a number of samples.
    """
    if not step.has(slot):
        return
    state, shape = step.tracked(slot)
    if state.along is not None:
        if state.along != along:
            raise Unprovable("starts from other samples' states")
        return
    if state.zero and len(shape) == 3:  # which is what it starts from without
        step.edits.add(lambda: step.node.replace_input_with(slot, None))
        return
    repeat_constant(step, slot, along, like=0)


def grid_sample(step: Step) -> Sequence[State]:
    """GridSample: each sample at places of its own."""
    (state, shape), (places, grid) = step.tracked(0), step.tracked(1)
    only_first(state)
    if state.along != places.along:
        raise Unprovable("samples a constant, or at constant places")
    return [State((*shape[:2], *grid[1:-1]), state.along)]
