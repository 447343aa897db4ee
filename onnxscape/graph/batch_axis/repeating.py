"""Operators that repeat elements along axes, or make up new ones between and around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis.elementwise import common_axis
from onnxscape.graph.batch_axis.rearranging import not_along
from onnxscape.graph.batch_axis.state import Along, Extent, Sizes, State, Unprovable
from onnxscape.graph.batch_axis.step import normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.graph.batch_axis.step import Step


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
            not_along(state, axis)
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
            not_along(state, axis)
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
