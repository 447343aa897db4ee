"""Operators that work element by element, with broadcasting."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from onnxscape.graph.batch_axis.state import Along, Sizes, State, Unprovable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.graph.batch_axis.step import Step

_NAMES = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor Cast Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater "
    "GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log "
    "Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid "
    "Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where "
    "Xor"
)
OPERATORS = frozenset(_NAMES.split())
"""Those of the default domain."""

CONTRIB = frozenset({"BiasGelu", "FastGelu", "Gelu", "QuickGelu"})
"""Those of com.microsoft."""


def elementwise(step: Step) -> Sequence[State]:
    """Any operator of `OPERATORS`: samples stay apart if no constant differs between them.

    Args:
        step: The node.

    Returns:
        What is known of every output.
    """
    return [broadcast(step.given)]


def like_first(step: Step) -> Sequence[State]:
    """CastLike: only the type of the second input matters.

    Args:
        step: The node.

    Returns:
        What is known of the output.
    """
    return [dataclasses.replace(step.state(0), numbers=None, zero=False)]


def broadcast(states: Sequence[State]) -> State:
    """Return what is known of values broadcast against each other.

    Args:
        states: The operands.

    Returns:
        The result: the batch lies on the axis where every operand that holds it has it.

    Raises:
        Unprovable: If they have it on different axes, or another operand differs along it.
    """
    shapes = [state.shape for state in states if state.shape is not None]
    if len(shapes) < len(states):
        if any(state.along is not None for state in states):
            raise Unprovable("has a constant of unknown shape")
        return State(None)
    rank = max((len(shape) for shape in shapes), default=0)
    along = common_axis(states, rank)
    if along is not None:
        for state, shape in zip(states, shapes, strict=True):
            axis = along.axis - rank + len(shape)
            if state.along is None and axis >= 0 and shape[axis] != 1:
                raise Unprovable(
                    f"has a constant {_text(shape)} that differs between the samples"
                )
    sizes: list[int | None] = []
    for axis in range(rank):
        meeting = [
            shape[axis - rank + len(shape)]
            for shape in shapes
            if axis - rank + len(shape) >= 0
        ]
        # a size that is known and not one wins; one that is not known may be one
        large = [size for size in meeting if size not in {1, None}]
        sizes.append(large[0] if large else None if None in meeting else 1)
    return State(tuple(sizes), along)


def common_axis(states: Sequence[State], rank: int) -> Along | None:
    """Return where operands have the batch once they are aligned at their last axes.

    Args:
        states: The operands; their ranks are known where they hold the batch.
        rank: The rank they are brought to.

    Returns:
        The common place; None if no operand holds the batch.

    Raises:
        Unprovable: If there is more than one.
    """
    found: set[Along] = set()
    for state in states:
        if state.along is not None and state.shape is not None:
            axis = state.along.axis + rank - len(state.shape)
            found.add(dataclasses.replace(state.along, axis=axis))
    if len(found) > 1:
        raise Unprovable(
            "combines samples with other samples: its operands hold them on different axes"
        )
    return next(iter(found), None)


def _text(shape: Sizes) -> str:
    return str(["?" if size is None else size for size in shape]).replace("'", "")
