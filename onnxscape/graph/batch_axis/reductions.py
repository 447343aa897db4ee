"""Operators that reduce, normalize or search along axes: never along the batch's."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis.state import Along, Sizes, State, Unprovable
from onnxscape.graph.batch_axis.step import normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.graph.batch_axis.step import Rule, Step

_NAMES = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
REDUCTIONS = frozenset(_NAMES.split())


def reduction(step: Step) -> Sequence[State]:
    """Reduce*: over other axes than the batch's."""
    state, shape = step.tracked(0)
    axes = step.integers("axes", 1)
    if not axes and step.integer("noop_with_empty_axes", 0):
        return [State(shape, state.along)]
    gone = {normalized(axis, len(shape)) for axis in axes or range(len(shape))}
    return [_reduced(step, state, shape, gone)]


def search(step: Step) -> Sequence[State]:
    """ArgMax and ArgMin: along another axis, which is the first by default."""
    state, shape = step.tracked(0)
    return [_reduced(step, state, shape, {normalized(step.integer("axis", 0), len(shape))})]


def _reduced(step: Step, state: State, shape: Sizes, gone: set[int]) -> State:
    if state.along is not None and state.along.axis in gone:
        raise Unprovable("reduces over the batch axis")
    if step.integer("keepdims", 1):
        sizes: Sizes = tuple(1 if axis in gone else size for axis, size in enumerate(shape))
        return State(sizes, state.along)
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    along = state.along
    if along is not None:
        along = dataclasses.replace(along, axis=kept.index(along.axis))
    return State(tuple(shape[axis] for axis in kept), along)


def softmax(step: Step) -> Sequence[State]:
    """Softmax and its like: along one axis, before operator set 13 along all from one on."""
    state, shape = step.tracked(0)
    axis = normalized(step.integer("axis", -1 if step.opset >= 13 else 1), len(shape))
    if state.along is not None and (
        state.along.axis == axis or (step.opset < 13 and state.along.axis > axis)
    ):
        raise Unprovable("normalizes along the batch axis")
    return [State(shape, state.along)]


def along_one_axis(default: int) -> Rule:
    """Return the rule of operators that work along one axis and keep the shape."""

    def rule(step: Step) -> Sequence[State]:
        state, shape = step.tracked(0)
        _apart(state, normalized(step.integer("axis", default), len(shape)))
        return [State(shape, state.along)]

    return rule


def cumulative_sum(step: Step) -> Sequence[State]:
    """CumSum: the axis is an input."""
    state, shape = step.tracked(0)
    axes = step.integers("axis", 1) or [0]
    _apart(state, normalized(axes[0], len(shape)))
    return [State(shape, state.along)]


def top(step: Step) -> Sequence[State]:
    """TopK: along another axis."""
    state, shape = step.tracked(0)
    axis = normalized(step.integer("axis", -1), len(shape))
    _apart(state, axis)
    counts = step.integers("k", 1)
    count = counts[0] if counts else None
    return [State((*shape[:axis], count, *shape[axis + 1 :]), state.along)]


def layer_normalization(step: Step) -> Sequence[State]:
    """LayerNormalization and RMSNormalization: over all axes from one on."""
    state, shape = step.tracked(0)
    axis = normalized(step.integer("axis", -1), len(shape))
    return _normalized_from(step, state, shape, axis, constants=(1, 2))


def skip_layer_normalization(step: Step) -> Sequence[State]:
    """SkipLayerNormalization: of the sum of two values, over the last axis."""
    state, shape = step.tracked(0)
    skip, other = step.tracked(1)
    if skip.along != state.along or len(other) != len(shape):
        raise Unprovable("adds values that do not both hold the batch")
    states = _normalized_from(step, state, shape, len(shape) - 1, constants=(2, 3, 4))
    return [states[0], *states[1:], State(shape, state.along)][: len(step.node.outputs)]


def _normalized_from(
    step: Step, state: State, shape: Sizes, axis: int, *, constants: tuple[int, ...]
) -> list[State]:
    step.constant(*constants)
    if state.along is None:
        return [State(shape)]
    if state.along.axis >= axis:
        raise Unprovable("normalizes along the batch axis")
    for slot in constants:
        if step.has(slot):
            _, factors = step.tracked(slot)
            place = state.along.axis - len(shape) + len(factors)
            if place >= 0 and factors[place] != 1:
                raise Unprovable("has a constant that differs between the samples")
    statistics = State((*shape[:axis], *[1] * (len(shape) - axis)), state.along)
    return [State(shape, state.along), statistics, statistics]


def mean_variance(step: Step) -> Sequence[State]:
    """MeanVarianceNormalization: over axes that include the first by default."""
    state, shape = step.tracked(0)
    axes = step.integers("axes") or [0, 2, 3]
    for axis in axes:
        _apart(state, normalized(axis, len(shape)))
    return [State(shape, state.along)]


def quantization(step: Step) -> Sequence[State]:
    """QuantizeLinear and DequantizeLinear with constant scales."""
    state, shape = step.tracked(0)
    step.constant(1, 2)
    _, scales = step.tracked(1)
    if len(scales) > 1 and state.along is not None:
        raise Unprovable("has scales for blocks")
    if len(scales) == 1:
        _apart(state, normalized(step.integer("axis", 1), max(len(shape), 2)))
    return [State(shape, state.along)]


def channel_normalization(step: Step) -> Sequence[State]:
    """BatchNormalization: constants per channel, which axis 1 counts."""
    state, shape = step.tracked(0)
    step.constant(1, 2, 3, 4)
    if step.integer("training_mode", 0):
        raise Unprovable("takes its statistics from the batch")
    _apart(state, 1)
    return [State(shape, state.along)]


def of_first_axis(step: Step) -> Sequence[State]:
    """Operators that keep the shape and treat the first axis as the batch."""
    state, shape = step.tracked(0)
    step.constant(*range(1, len(step.states)))
    only_first(state)
    return [State(shape, state.along)]


def only_first(state: State) -> None:
    """Refuse a batch on any other axis than the first.

    Raises:
        Unprovable: If it lies there.
    """
    along: Along | None = state.along
    if along is not None and along.axis != 0:
        raise Unprovable("takes the batch axis for another one")


def _apart(state: State, axis: int) -> None:
    if state.along is not None and state.along.axis == axis:
        raise Unprovable("works along the batch axis")
