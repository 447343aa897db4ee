"""What is known of a value while the batch is followed through a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

Sizes: TypeAlias = tuple[int | None, ...]
"""One entry per axis, None where it is not known; never None for want of the batch size."""

MOST_AXES = 64
"""Axes of a value; numpy knows no more, and rules may double them."""

MOST_SIZE = 2**63 - 1
"""Largest size of an axis, that of an int64; rules may multiply them."""


class Unprovable(Exception):  # noqa: N818 - no error: it ends a proof, and carries why
    """A node might let samples see each other; the text goes on after the node's name."""


@dataclass(frozen=True, slots=True)
class Along:
    """The axis that holds the batch: it runs over [outer, batch, inner], flattened.

    Attributes:
        axis: The axis.
        outer: Elements that go before the samples, e.g. time in [time * batch, features].
        inner: Elements of one sample, e.g. heads in [batch * heads, ...].
    """

    axis: int
    outer: int = 1
    inner: int = 1

    @property
    def plain(self) -> bool:
        """Whether the axis holds the samples and nothing else."""
        return self.outer == self.inner == 1


@dataclass(frozen=True, slots=True)
class Extent:
    """A whole number computed from shapes: `fixed + per_sample * batch`."""

    fixed: int
    per_sample: int = 0

    def at(self, batch: int) -> int:
        """Return the number for a size of the batch."""
        return self.fixed + self.per_sample * batch


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What is known of a value.

    A value with `along` holds, for every size of the batch, the slices that the model makes of
    each sample on its own. A value without is the same for all samples and batch sizes, except
    for the numbers in it that say otherwise.

    Attributes:
        shape: Its sizes at the batch size that the model was exported for; None if not even
            their number is known, which only happens without `along`.
        along: Where the batch lies; None if the value holds none.
        numbers: Of a small tensor of whole numbers: its elements, each an `Extent`, or None
            where it is the same for every batch size but not known. None for other values.
        zero: Whether all its elements are known to be zero.
        repeated: Axes along which it was made by repeating one slice.
    """

    shape: Sizes | None
    along: Along | None = None
    numbers: NDArray[Any] | None = None
    zero: bool = False
    repeated: frozenset[int] = frozenset()

    @property
    def sized(self) -> bool:
        """Whether its numbers depend on the size of the batch."""
        return self.numbers is not None and any(
            number is not None and number.per_sample for number in self.numbers.flat
        )
