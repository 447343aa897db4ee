"""Operators that move, join, cut or repeat elements along axes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis.elementwise import common_axis
from onnxscape.graph.batch_axis.state import Along, Extent, Sizes, State, Unprovable
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
    _not_along(state, axis)
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
    _not_along(state, axis)
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
        _not_along(data, axis)
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
    _not_along(data, axis)
    return [State(places, indices.along)]


def _not_along(state: State, axis: int) -> None:
    if state.along is not None and state.along.axis == axis:
        raise Unprovable("works along the batch axis")


def pad(step: Step) -> Sequence[State]:
    """Pad: not at the batch's axis."""
    state, shape = step.tracked(0)
    step.constant(2)
    pads = step.integers("pads", 1)
    if pads is None:
        raise Unprovable("lacks an input")
    axes = step.integers("axes", 3) or list(range(len(shape)))
    sizes = list(shape)
    for begin, end, axis_ in zip(pads[: len(axes)], pads[len(axes) :], axes, strict=True):
        axis = normalized(axis_, len(shape))
        if begin or end:
            _not_along(state, axis)
            size = sizes[axis]
            sizes[axis] = None if size is None else size + begin + end
    return [State(tuple(sizes), state.along)]


def tile(step: Step) -> Sequence[State]:
    """Tile: samples may be tiled, the batch not."""
    state, shape = step.tracked(0)
    repeats = step.integers("repeats", 1) or []
    sizes: list[int | None] = []
    for axis, (size, times) in enumerate(zip(shape, repeats, strict=True)):
        if times != 1:
            _not_along(state, axis)
        sizes.append(None if size is None else size * times)
    return [State(tuple(sizes), state.along, zero=state.zero)]


def expand(step: Step) -> Sequence[State]:
    """Expand: samples are repeated along other axes, or a constant for each sample."""
    state, shape = step.tracked(0)
    numbers = step.state(1).numbers
    if numbers is None:
        raise Unprovable(f"takes its shape from {step.name_of(1)}, which is no constant")
    entries: list[Extent | None] = list(numbers.flat)
    rank = max(len(shape), len(entries))
    target = [Extent(1)] * (rank - len(entries)) + entries
    start: Sizes = (*[1] * (rank - len(shape)), *shape)
    along = common_axis([state], rank)
    following = [axis for axis, entry in enumerate(target) if entry and entry.per_sample]
    if along is None and following:
        axis = following[0]
        if len(following) > 1 or start[axis] != 1 or target[axis] != Extent(0, 1):
            raise Unprovable("repeats a constant by the batch size and more")
        along = Along(axis)
    elif along is not None:
        _expand_samples(step, along, target, start)
    sizes: list[int | None] = []
    for entry, size in zip(target, start, strict=True):
        size_ = None if entry is None else entry.at(step.batch)
        if size == 0 or (size_ is not None and size_ < 1):
            raise Unprovable("has an empty result")
        sizes.append(size if size_ == 1 else size_ if size in {1, None} else size)
    repeated = frozenset(axis for axis, size in enumerate(start) if size == 1)
    return [State(tuple(sizes), along, zero=state.zero, repeated=repeated)]


def _expand_samples(
    step: Step, along: Along, target: list[Extent | None], start: Sizes
) -> None:
    """Check a shape that a value with the batch is expanded to; free it from the batch size.

    Raises:
        Unprovable: If it is expanded along the batch's axis.
    """
    per_sample = Extent(0, along.outer * along.inner)
    entry = target[along.axis]
    others = [extent for axis, extent in enumerate(target) if axis != along.axis]
    if any(extent is not None and extent.per_sample for extent in others):
        raise Unprovable("repeats samples by the batch size")
    if entry in {Extent(1), per_sample}:
        return
    if entry is None or entry.per_sample or entry.fixed != start[along.axis]:
        raise Unprovable("repeats elements along the batch axis")
    if None in others:
        raise Unprovable("has the batch size in a shape whose other sizes are not known")
    sizes = [1 if extent is None else extent.fixed for extent in target]
    sizes[along.axis] = 1
    step.edits.add(lambda: step.node.replace_input_with(1, step.edits.integers(sizes)))


def constant_of_shape(step: Step) -> Sequence[State]:
    """ConstantOfShape: equal elements, for each sample where the shape has the batch size."""
    numbers = step.state(0).numbers
    if numbers is None:
        return [State(None)]
    following = [axis for axis, entry in enumerate(numbers.flat) if entry and entry.per_sample]
    along = None
    if following:
        if len(following) > 1 or numbers.flat[following[0]] != Extent(0, 1):
            raise Unprovable("makes a constant from the batch size and more")
        along = Along(following[0])
    sizes = tuple(None if entry is None else entry.at(step.batch) for entry in numbers.flat)
    value = step.node.attributes.get("value")
    zero = value is None or not value.as_tensor().numpy().any()
    return [State(sizes, along, zero=zero, repeated=frozenset(range(len(sizes))))]


def resize(step: Step) -> Sequence[State]:
    """Resize: of other axes than the batch's, whose size the target must follow."""
    state, shape = step.tracked(0)
    step.constant(1, 2, 3)
    along = state.along
    if step.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise Unprovable("crops, which is not followed")
    axes = step.integers("axes")
    places = (
        list(range(len(shape)))
        if axes is None
        else [normalized(axis, len(shape)) for axis in axes]
    )
    sizes: list[int | None] = [None if axis in places else n for axis, n in enumerate(shape)]
    if along is not None:
        sizes[along.axis] = shape[along.axis]
    if step.has(3):
        _resize_to(step, along, places, shape, sizes)
    elif along is not None and along.axis in places:
        value = step.node.inputs[2] if step.has(2) else None
        scales = (
            None
            if value is None or value.const_value is None
            else (value.const_value.numpy().ravel())
        )
        if scales is None or scales[places.index(along.axis)] != 1:
            raise Unprovable("scales the batch axis, or might")
    return [State(tuple(sizes), along)]


def _resize_to(
    step: Step, along: Along | None, places: list[int], shape: Sizes, sizes: list[int | None]
) -> None:
    """Read the sizes that a Resize is given; let that of the batch follow it.

    Raises:
        Unprovable: If they are not known, or resize the batch.
    """
    numbers = step.state(3).numbers
    if numbers is None:
        raise Unprovable(f"takes its sizes from {step.name_of(3)}, which is no constant")
    entries: list[Extent | None] = list(numbers.flat)
    for axis, entry in zip(places, entries, strict=True):
        if along is not None and axis == along.axis:
            continue
        if entry is not None and entry.per_sample:
            raise Unprovable("resizes samples by the batch size")
        sizes[axis] = None if entry is None else entry.fixed
    if along is None or along.axis not in places:
        return
    place = places.index(along.axis)
    entry, source = entries[place], step.node.inputs[0]
    if entry == Extent(0, along.outer * along.inner):
        return
    if entry is None or entry.fixed != shape[along.axis] or entry.per_sample or not source:
        raise Unprovable("resizes the batch axis, or might")
    if None in entries[:place] or None in entries[place + 1 :]:
        raise Unprovable("has the batch size in sizes of which others are not known")
    fixed = [0 if extent is None else extent.fixed for extent in entries]

    def edit() -> None:
        target = step.edits.sizes(step.node, (source, along.axis), fixed, place)
        step.node.replace_input_with(3, target)

    step.edits.add(edit)


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
