"""Operators that move, join, cut or pick elements along axes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis.elementwise import common_axis
from onnxscape.graph.batch_axis.state import Along, State, Unprovable
from onnxscape.graph.batch_axis.step import normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.graph.batch_axis.step import Step

_ALL = 2**31 - 1
"""Exporters write an end at least this large where they mean the whole axis."""


def transpose(step: Step) -> Sequence[State]:
    """Transpose: the batch goes where its axis goes."""
    state, shape = step.tracked(0)
    order = step.integers("perm") or list(range(len(shape)))[::-1]
    along = state.along
    if along is not None:
        along = dataclasses.replace(along, axis=order.index(along.axis))
    return [State(tuple(shape[axis] for axis in order), along, zero=state.zero)]


def unsqueeze(step: Step) -> Sequence[State]:
    """Unsqueeze: new axes push the batch's axis back."""
    state, shape = step.tracked(0)
    axes = step.integers("axes", 1) or []
    rank = len(shape) + len(axes)
    new = {normalized(axis, rank) for axis in axes}
    old = [axis for axis in range(rank) if axis not in new]
    sizes: list[int | None] = [1] * rank
    for axis, size in zip(old, shape, strict=True):
        sizes[axis] = size
    along = state.along
    if along is not None:
        along = dataclasses.replace(along, axis=old[along.axis])
    return [State(tuple(sizes), along, zero=state.zero)]


def squeeze(step: Step) -> Sequence[State]:
    """Squeeze: the batch's axis must stay, also when the batch has one sample."""
    state, shape = step.tracked(0)
    axes = step.integers("axes", 1)
    if axes is None:
        if None in shape:
            raise Unprovable("drops the axes of size one among axes of unknown size")
        gone = {axis for axis, size in enumerate(shape) if size == 1}
    else:
        gone = {normalized(axis, len(shape)) for axis in axes}
    along = state.along
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    if along is not None:
        if along.axis in gone:
            raise Unprovable("drops the batch axis")
        if axes is None:  # a last batch of one sample would lose its axis
            step.set_integers("axes", 1, sorted(gone))
        along = dataclasses.replace(along, axis=kept.index(along.axis))
    return [State(tuple(shape[axis] for axis in kept), along, zero=state.zero)]


def concat(step: Step) -> Sequence[State]:
    """Concat: along another axis, of values that hold the batch on the same one.

    A constant among them that is the same for all samples, say a class token, follows them.
    """
    shapes = [step.tracked(slot)[1] for slot in range(len(step.states))]
    rank = len(shapes[0])
    axis = normalized(step.integer("axis", 0), rank)
    along = common_axis(step.given, rank)
    if along is not None:
        if along.axis == axis:
            raise Unprovable("joins values along the batch axis")
        for slot, state in enumerate(step.given):
            if state.along is None:
                repeat_constant(step, slot, along)
    sizes = list(shapes[0])
    along_axis = [shape[axis] for shape in shapes]
    known = [size for size in along_axis if size is not None]
    sizes[axis] = sum(known) if len(known) == len(along_axis) else None
    return [State(tuple(sizes), along, zero=all(state.zero for state in step.given))]


def repeat_constant(step: Step, slot: int, along: Along, like: int | None = None) -> None:
    """Let a constant that is the same for all samples follow the batch.

    Args:
        step: The node.
        slot: Input with the constant.
        along: Where it must hold the batch.
        like: Input that holds the batch; None for the first one that does.

    Raises:
        Unprovable: If the constant may differ between samples.
    """
    state, shape = step.tracked(slot)
    same = step.batch == 1 or along.axis in state.repeated
    if not same or shape[along.axis] != step.batch or not along.plain:
        raise Unprovable(
            f"has a constant with the batch size in its shape, {step.name_of(slot)}"
        )
    if like is None:
        like = next(i for i, s in enumerate(step.states) if s is not None and s.along)
    source, held = step.node.inputs[like], step.state(like).along
    constant = step.node.inputs[slot]
    if source is None or held is None or constant is None:
        raise Unprovable("lacks an input")

    def edit() -> None:
        ones = [1] * len(shape)
        target = step.edits.sizes(step.node, (source, held.axis), ones, along.axis)
        one = constant
        if step.batch > 1:
            first = [constant, step.edits.integers([0])]
            one = step.edits.insert(step.node, "Gather", first, {"axis": along.axis})
        expanded = step.edits.insert(step.node, "Expand", [one, target])
        step.node.replace_input_with(slot, expanded)

    step.edits.add(edit)


def split(step: Step) -> Sequence[State]:
    """Split: along another axis than the batch's."""
    state, shape = step.tracked(0)
    axis = normalized(step.integer("axis", 0), len(shape))
    not_along(state, axis)
    parts = step.integers("split", 1)
    count = len(step.node.outputs)
    size = shape[axis]
    sizes: list[int | None] = [None] * count
    if parts is not None:
        sizes = list(parts)
    elif size is not None and size % count == 0:
        sizes = [size // count] * count
    return [State((*shape[:axis], part, *shape[axis + 1 :]), state.along) for part in sizes]


def split_to_sequence(step: Step) -> Sequence[State]:
    """SplitToSequence: along another axis; every part has the shape of any other."""
    state, shape = step.tracked(0)
    step.constant(1)
    axis = normalized(step.integer("axis", 0), len(shape))
    not_along(state, axis)
    if not step.has(1) and not step.integer("keepdims", 1):
        raise Unprovable("drops an axis, which is not followed")
    return [State((*shape[:axis], None, *shape[axis + 1 :]), state.along)]


def sequence_at(step: Step) -> Sequence[State]:
    """SequenceAt: a part that SplitToSequence made."""
    step.constant(1)
    return [step.state(0)]


def slice_(step: Step) -> Sequence[State]:
    """Slice: the batch's axis may only be taken whole."""
    state, shape = step.tracked(0)
    starts, ends = step.integers("starts", 1), step.integers("ends", 2)
    if starts is None or ends is None:
        raise Unprovable("lacks an input")
    axes = step.integers("axes", 3)
    steps = step.integers("steps", 4) or [1] * len(starts)
    axes = list(range(len(starts))) if axes is None else axes
    sizes = list(shape)
    for start, end, axis_, stride in zip(starts, ends, axes, steps, strict=True):
        axis = normalized(axis_, len(shape))
        if state.along is not None and axis == state.along.axis:
            if start != 0 or stride != 1 or end < _ALL:
                raise Unprovable("takes some of the samples only")
            continue
        size = sizes[axis]
        if size is not None:
            sizes[axis] = len(range(*slice(start, end, stride).indices(size)))
    if 0 in sizes:
        raise Unprovable("has an empty result")
    return [State(tuple(sizes), state.along, zero=state.zero)]


def gather(step: Step) -> Sequence[State]:
    """Gather: rows of a table chosen by samples, or fixed places of every sample."""
    (data, table), (indices, places) = step.tracked(0), step.tracked(1)
    axis = normalized(step.integer("axis", 0), len(table))
    sizes = (*table[:axis], *places, *table[axis + 1 :])
    if data.along is not None and indices.along is not None:
        raise Unprovable("picks from samples by samples")
    along = indices.along
    if along is not None:
        along = dataclasses.replace(along, axis=along.axis + axis)
    elif data.along is not None:
        not_along(data, axis)
        behind = data.along.axis > axis
        moved = data.along.axis + (len(places) - 1 if behind else 0)
        along = dataclasses.replace(data.along, axis=moved)
    return [State(sizes, along)]


def gather_elements(step: Step) -> Sequence[State]:
    """GatherElements: within each sample."""
    (data, shape), (indices, places) = step.tracked(0), step.tracked(1)
    axis = normalized(step.integer("axis", 0), len(shape))
    if data.along != indices.along:
        raise Unprovable("picks elements of constants and samples by one another")
    not_along(data, axis)
    return [State(places, indices.along)]


def not_along(state: State, axis: int) -> None:
    """Refuse work along the batch's axis.

    Raises:
        Unprovable: If the axis is that.
    """
    if state.along is not None and state.along.axis == axis:
        raise Unprovable("works along the batch axis")


def range_(step: Step) -> Sequence[State]:
    """Range: places of a sequence, the same for all samples."""
    step.constant(0, 1, 2)
    return [State((None,))]


def space_depth(step: Step) -> Sequence[State]:
    """DepthToSpace and SpaceToDepth: within each sample."""
    state, shape = step.tracked(0)
    _first(state)
    return [State((shape[0], None, None, None), state.along)]


def _first(state: State) -> None:
    if state.along is not None and state.along.axis != 0:
        raise Unprovable("takes the batch for another axis")


def one_hot(step: Step) -> Sequence[State]:
    """OneHot: a new axis beside those of the indices."""
    state, shape = step.tracked(0)
    step.constant(1, 2)
    rank = len(shape) + 1
    axis = normalized(step.integer("axis", -1), rank)
    along = state.along
    if along is not None:
        along = dataclasses.replace(along, axis=along.axis + int(along.axis >= axis))
    return [State((*shape[:axis], None, *shape[axis:]), along)]


def trilu(step: Step) -> Sequence[State]:
    """Trilu: of the matrices in the last two axes."""
    state, shape = step.tracked(0)
    step.constant(1)
    if state.along is not None and state.along.axis >= len(shape) - 2:
        raise Unprovable("takes the batch axis for one of a matrix")
    return [State(shape, state.along)]
