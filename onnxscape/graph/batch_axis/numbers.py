"""Arithmetic on shapes: what a graph computes from the sizes of its values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir as ir

from onnxscape.graph.batch_axis.state import Extent, State, Unprovable
from onnxscape.graph.batch_axis.step import normalized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from onnxscape.graph.batch_axis.step import Step

    Numbers: TypeAlias = NDArray[Any]

MOST = 256
"""Elements of the largest tensor that is taken for numbers of a shape."""

MOST_BITS = 63
"""Bits of a number: what does not fit into an int64 is none of a shape."""

WHOLE = frozenset({ir.DataType.INT64, ir.DataType.INT32})
"""Element types of numbers of a shape."""


def of_constant(array: NDArray[np.generic]) -> Numbers | None:
    """Return the numbers of an initializer; None if it is no small tensor of whole numbers."""
    if array.dtype not in {np.dtype(np.int64), np.dtype(np.int32)} or array.size > MOST:
        return None
    return filled(array.shape, [Extent(int(number)) for number in array.flat])


def filled(shape: tuple[int, ...], extents: list[Extent | None]) -> Numbers:
    """Return an array of numbers.

    Args:
        shape: Its shape.
        extents: Its elements in C order.

    Returns:
        The array.
    """
    numbers = np.empty(len(extents), dtype=object)
    numbers[:] = extents
    return numbers.reshape(shape)


def shape_of(step: Step) -> Numbers | None:
    """Shape: sizes are numbers, that of the batch's axis follows the batch.

    Args:
        step: The node.

    Returns:
        The sizes; None if not even their number is known.
    """
    state = step.state(0)
    if state.shape is None or len(state.shape) > MOST:
        return None
    extents = [None if size is None else Extent(size) for size in state.shape]
    if state.along is not None:
        extents[state.along.axis] = Extent(0, state.along.outer * state.along.inner)
    rank = len(extents)
    start, end = step.integer("start", 0), step.integer("end", rank)
    kept = extents[slice(*slice(start, end).indices(rank))]
    return filled((len(kept),), kept)


def _held(fixed: int, per_sample: int) -> Extent | None:
    """Return a sum or product; None if it does not fit and is the same for every batch.

    Raises:
        Unprovable: If it does not fit, and depends on the batch size.
    """
    if max(fixed.bit_length(), per_sample.bit_length()) <= MOST_BITS:
        return Extent(fixed, per_sample)
    if per_sample:
        raise _too_hard()
    return None


def _plus(a: Extent | None, b: Extent | None, sign: int = 1) -> Extent | None:
    if a is None or b is None:
        return _unknown(a, b)
    return _held(a.fixed + sign * b.fixed, a.per_sample + sign * b.per_sample)


def _minus(a: Extent | None, b: Extent | None) -> Extent | None:
    return _plus(a, b, -1)


def _times(a: Extent | None, b: Extent | None) -> Extent | None:
    if a is None or b is None:
        return _unknown(a, b)
    if a.per_sample and b.per_sample:
        raise _too_hard()
    return _held(a.fixed * b.fixed, a.fixed * b.per_sample + a.per_sample * b.fixed)


def _over(a: Extent | None, b: Extent | None) -> Extent | None:
    if a is None or b is None:
        return _unknown(a, b)
    if b.per_sample or b.fixed <= 0 or a.fixed < 0:
        if a.per_sample or b.per_sample:
            raise _too_hard()
        return None
    if a.per_sample and (a.per_sample % b.fixed or a.fixed % b.fixed):
        raise _too_hard()
    return Extent(a.fixed // b.fixed, a.per_sample // b.fixed)


def _remainder(a: Extent | None, b: Extent | None) -> Extent | None:
    if a is None or b is None:
        return _unknown(a, b)
    if a.per_sample or b.per_sample:
        raise _too_hard()
    return Extent(a.fixed % b.fixed) if a.fixed >= 0 and b.fixed > 0 else None


def _equal(a: Extent | None, b: Extent | None) -> Extent | None:
    if a is None or b is None:
        return _unknown(a, b)
    if a.per_sample == b.per_sample:
        return Extent(int(a.fixed == b.fixed))
    difference, step = b.fixed - a.fixed, a.per_sample - b.per_sample
    if difference % step == 0 and difference // step > 0:
        raise _too_hard()  # they are equal for one size of the batch
    return Extent(0)


def _chosen(which: Extent | None, a: Extent | None, b: Extent | None) -> Extent | None:
    if which is None:
        return a if a == b else _unknown(a, b)
    if which.per_sample:
        raise _too_hard()
    return a if which.fixed else b


def _unknown(*extents: Extent | None) -> Extent | None:
    """What is unknown does not depend on the batch size, unless something known does."""
    if any(extent is not None and extent.per_sample for extent in extents):
        raise _too_hard()
    return None


def _too_hard() -> Unprovable:
    return Unprovable("computes with the batch size in a way that cannot be followed")


def _each(
    function: Callable[..., Extent | None], count: int
) -> Callable[[Step], Numbers | None]:
    apply = np.frompyfunc(function, count, 1)

    def rule(step: Step) -> Numbers | None:
        numbers = [step.state(slot).numbers for slot in range(count)]
        shapes = [array.shape for array in numbers if array is not None]
        if math.prod(np.broadcast_shapes(*shapes)) > MOST:
            return None
        return filled_like(apply(*numbers))

    return rule


def filled_like(result: Any) -> Numbers:
    """Return what numpy made of arrays of numbers as an array, be it of rank 0."""
    if isinstance(result, np.ndarray):
        return result
    return filled((), [result])


def _same(step: Step) -> Numbers | None:
    return step.state(0).numbers


def _cast(step: Step) -> Numbers | None:
    return step.state(0).numbers if ir.DataType(step.integer("to", 0)) in WHOLE else None


def _concat(step: Step) -> Numbers | None:
    parts = [s.numbers for s in step.given if s.numbers is not None]
    if sum(part.size for part in parts) > MOST:
        return None
    return np.concatenate(parts, axis=step.integer("axis", 0))


def _gather(step: Step) -> Numbers | None:
    numbers, indices = step.state(0).numbers, step.state(1).numbers
    if numbers is None or indices is None or numbers.ndim != 1:
        return None
    if any(index is None or index.per_sample for index in indices.flat):
        return None
    return filled_like(numbers[np.vectorize(lambda i: i.fixed, otypes=[int])(indices)])


def _slice(step: Step) -> Numbers | None:
    numbers = step.state(0).numbers
    bounds = [step.integers(name, slot) for slot, name in enumerate(_BOUNDS, start=1)]
    starts, ends, axes, steps = bounds
    if numbers is None or numbers.ndim != 1 or not starts or not ends or axes not in _FIRST:
        return None
    return numbers[slice(starts[0], _bound(ends[0]), steps[0] if steps else 1)]


_BOUNDS = ("starts", "ends", "axes", "steps")
_FIRST: tuple[list[int] | None, ...] = (None, [0], [-1])


def _bound(end: int) -> int | None:
    """Return an end that numpy takes: beyond the least means all, backwards."""
    return None if end < -(2**31) else end


def _squeeze(step: Step) -> Numbers | None:
    numbers = step.state(0).numbers
    return numbers.reshape(()) if numbers is not None and numbers.size == 1 else None


def _unsqueeze(step: Step) -> Numbers | None:
    numbers, axes = step.state(0).numbers, step.integers("axes", 1)
    if numbers is None or axes is None:
        return None
    rank = numbers.ndim + len(axes)
    return np.expand_dims(numbers, tuple(normalized(axis, rank) for axis in axes))


def _reshape(step: Step) -> Numbers | None:
    numbers, target = step.state(0).numbers, step.integers("shape", 1)
    if numbers is None or target is None or 0 in target:
        return None
    return numbers.reshape(target)


def _reduce_product(step: Step) -> Numbers | None:
    numbers = step.state(0).numbers
    if numbers is None or numbers.ndim != 1 or step.integers("axes", 1) not in _FIRST:
        return None
    total: Extent | None = Extent(1)
    for number in numbers:
        total = _times(total, number)
    return filled((1,) if step.integer("keepdims", 1) else (), [total])


def _constant_of_shape(step: Step) -> Numbers | None:
    if step.state(0).sized:
        return None
    sizes = step.integers("shape", 0)
    value = step.node.attributes.get("value")
    array = np.zeros(1, np.float32) if value is None else value.as_tensor().numpy()
    one = of_constant(array)
    if sizes is None or one is None or math.prod(sizes) > MOST:
        return None
    return filled(tuple(sizes), [one.flat[0]] * math.prod(sizes))


RULES: Mapping[str, Callable[[Step], Numbers | None]] = {
    "Add": _each(_plus, 2),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _each(_over, 2),
    "Equal": _each(_equal, 2),
    "Gather": _gather,
    "Identity": _same,
    "Mod": _each(_remainder, 2),
    "Mul": _each(_times, 2),
    "ReduceProd": _reduce_product,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _each(_minus, 2),
    "Unsqueeze": _unsqueeze,
    "Where": _each(_chosen, 3),
}
"""Operator to what it makes of numbers; None where that is not known."""


def of_outputs(step: Step) -> State | None:
    """Return what is known of a node's output if all its inputs are numbers.

    Args:
        step: The node.

    Returns:
        The numbers; None if its operator is followed otherwise.

    Raises:
        Unprovable: If it computes with the batch size in a way that cannot be followed.
    """
    rule = RULES.get(step.node.op_type) if step.node.domain == "" else None
    if rule is None or any(state.numbers is None for state in step.given):
        return None
    numbers = rule(step)
    return None if numbers is None else State(numbers.shape, numbers=numbers)
