"""Reshape and Flatten: where the batch lies afterwards, and a target that follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis.state import MOST_AXES, Along, Extent, Sizes, State, Unprovable
from onnxscape.graph.batch_axis.step import normalized, product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.graph.batch_axis.step import Step

    Entries = tuple[Extent | None, ...]


def flatten(step: Step) -> Sequence[State]:
    """Flatten: two axes, the batch in one of them.

    Args:
        step: The node.

    Returns:
        What is known of the output.

    Raises:
        Unprovable: If the batch is merged with axes of unknown size.
    """
    state, shape = step.tracked(0)
    axis = step.integer("axis", 1)
    axis = len(shape) if axis == len(shape) else normalized(axis, len(shape))
    sizes = (product(shape[:axis]), product(shape[axis:]))
    if state.along is None:
        return [State(sizes, zero=state.zero)]
    start, end = (0, axis) if state.along.axis < axis else (axis, len(shape))
    outer = product(shape[start : state.along.axis])
    inner = product(shape[state.along.axis + 1 : end])
    if outer is None or inner is None:
        raise Unprovable("merges the batch with an axis of unknown size")
    place = 0 if state.along.axis < axis else 1
    along = Along(place, outer * state.along.outer, state.along.inner * inner)
    return [State(sizes, along)]


def reshape(step: Step) -> Sequence[State]:
    """Reshape: elements keep their order, so the batch can be found again.

    Args:
        step: The node; where its target holds the batch size, it gets another.

    Returns:
        What is known of the output.

    Raises:
        Unprovable: If the target tears samples apart, or is not known well enough.
    """
    state, shape = step.tracked(0)
    numbers = step.state(1).numbers
    if numbers is not None and numbers.size > MOST_AXES:
        raise Unprovable(f"makes a value of more than {MOST_AXES} axes")
    if state.along is None:
        if step.state(1).sized:
            raise Unprovable("brings a constant into a shape with the batch size")
        entries = None if numbers is None else tuple(numbers.flat)
        known = None if entries is None else _resolved(step, shape, entries)
        return [State(known, zero=state.zero)]
    if numbers is None:
        raise Unprovable(f"takes its target from {step.name_of(1)}, which is no constant")
    entries = tuple(numbers.flat)
    sizes = _resolved(step, shape, entries)
    along = _found_again(step, state, shape, entries, sizes)
    if not _follows(state.along, along, entries):
        target = _following(step, state.along, along, entries, sizes)

        def edit() -> None:
            step.node.replace_input_with(1, step.edits.integers(target))
            step.node.attributes.pop("allowzero", None)  # a 0 of the new target copies

        step.edits.add(edit)
    return [State(sizes, along)]


def _resolved(step: Step, shape: Sizes, entries: Entries) -> Sizes:
    """Return the sizes that a target gives at the exported batch size.

    Raises:
        Unprovable: If it makes an empty tensor, or names more axes than there are.
    """
    sizes: list[int | None] = []
    for axis, entry in enumerate(entries):
        size = None if entry is None else entry.at(step.batch)
        if size == 0:
            if step.integer("allowzero", 0) or axis >= len(shape):
                raise Unprovable("has an empty result")
            size = shape[axis]
        sizes.append(size)
    if -1 in sizes:
        place = sizes.index(-1)
        rest = product((*sizes[:place], *sizes[place + 1 :]))
        total = product(shape)
        known = rest is not None and total is not None and rest > 0
        sizes[place] = total // rest if known and total and rest else None
    if any(size is not None and size < 1 for size in sizes):
        raise Unprovable("has an empty result")
    return tuple(sizes)


def _found_again(
    step: Step, state: State, shape: Sizes, entries: Entries, sizes: Sizes
) -> Along:
    """Return where the batch lies after a Reshape.

    Flattened, the input runs over [before, batch, behind]. An axis of size o * batch * i holds
    the batch if the axes in front of it have before / o elements; those behind it then have
    behind / i. With a batch of one, several axes may do: each gives right results if nothing
    later mixes samples, so the most usual is tried first.

    Raises:
        Unprovable: If no axis does.
    """
    batch = state.along or Along(0)
    same = 0
    unknown = product(shape[: batch.axis]) is None
    while unknown and same < min(batch.axis, len(sizes)) and _kept(shape, entries, same):
        same += 1
    before = product(shape[same : batch.axis])
    if before is None:
        raise Unprovable("moves the batch across an axis of unknown size")
    before *= batch.outer
    found = []
    for axis in range(same, len(sizes)):
        size, front = sizes[axis], product(sizes[same:axis])
        if front is None:
            break
        outer, left = divmod(before, front)
        if left or outer == 0 or size is None or size % (outer * step.batch):
            continue
        found.append(Along(axis, outer, size // (outer * step.batch)))
    if not found:
        raise Unprovable(f"tears samples apart: {_text(shape)} becomes {_text(sizes)}")

    def unusual(along: Along) -> tuple[bool, ...]:
        entry = entries[along.axis]
        return (
            not (entry is not None and entry.per_sample),
            not along.plain,
            along.axis == len(sizes) - 1,
            not _follows(batch, along, entries),
            along.axis != batch.axis,
        )

    return sorted(found, key=unusual)[step.choices.among(len(found))]


def _kept(shape: Sizes, entries: Entries, axis: int) -> bool:
    """Return whether an axis in front of the batch is left as it is."""
    entry = entries[axis]
    if entry is None or entry.per_sample:
        return False
    return entry.fixed == 0 or (shape[axis] is not None and entry.fixed == shape[axis])


def _follows(before: Along, after: Along, entries: Entries) -> bool:
    """Return whether a target is right for every batch size as it is."""
    for axis, entry in enumerate(entries):
        if axis == after.axis:
            if entry is None:
                return False
            copied = entry == Extent(0) and before == after
            computed = entry == Extent(0, after.outer * after.inner)
            if not (copied or computed or entry == Extent(-1)):
                return False
        elif entry is not None and (
            entry.per_sample or (entry == Extent(0) and axis == before.axis)
        ):
            return False
    return True


def _following(
    step: Step, before: Along, after: Along, entries: Entries, sizes: Sizes
) -> list[int]:
    """Return a target that is right for every batch size.

    Raises:
        Unprovable: If too many sizes are not known.
    """
    target = [size or 0 for size in sizes]
    target[after.axis] = -1
    unknown = [
        axis
        for axis, size in enumerate(sizes)
        if size is None and (entries[axis] != Extent(0) or step.integer("allowzero", 0))
    ]
    if not unknown:
        return target
    if len(unknown) > 1 or before != after:
        raise Unprovable("has the batch size in a target whose other sizes are not known")
    target[after.axis], target[unknown[0]] = 0, -1
    return target


def _text(shape: Sizes) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
