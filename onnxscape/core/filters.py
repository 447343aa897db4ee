"""Filters: the view of a weight tensor as a matrix with one filter per row.

Normalization, noise and signs all work on that matrix, so no other code needs to know where
an operator keeps its output channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reshape:
    """One step of a view: the same elements in C order under another shape.

    Attributes:
        shape: The new shape, no -1.
    """

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Transpose:
    """One step of a view: axes in another order.

    Attributes:
        permutation: For each new axis the old one, as `numpy.transpose` takes it.
    """

    permutation: tuple[int, ...]


Step = Reshape | Transpose


def rearranged(tensor: NDArray[Any], steps: tuple[Step, ...]) -> NDArray[Any]:
    """Return a tensor's elements after some steps; a view where possible."""
    for step in steps:
        if isinstance(step, Reshape):
            tensor = tensor.reshape(step.shape)
        else:
            tensor = tensor.transpose(step.permutation)
    return tensor


@dataclass(frozen=True, slots=True)
class FilterLayout:
    """How a tensor's elements are arranged into filters.

    Attributes:
        shape: Shape of the tensor.
        steps: Reshapes and transposes that lead to a matrix [filters, elements per filter].
            They only rearrange elements, so the way back is exact.
    """

    shape: tuple[int, ...]
    steps: tuple[Step, ...]

    @classmethod
    def along(cls, shape: tuple[int, ...], axes: tuple[int, ...]) -> Self:
        """Arrange a tensor whose filters are counted by the given axes.

        Args:
            shape: Shape of the tensor.
            axes: Axes that count filters, the slowest first; negative ones count from the end.

        Returns:
            The layout; within a filter the remaining axes keep their order.
        """
        first = tuple(axis % len(shape) for axis in axes)
        rest = tuple(axis for axis in range(len(shape)) if axis not in first)
        filters = math.prod(shape[axis] for axis in first)
        matrix = (filters, math.prod(shape[axis] for axis in rest))
        return cls(shape, (Transpose(first + rest), Reshape(matrix)))

    def behind(self, shape: tuple[int, ...], view: tuple[Step, ...]) -> FilterLayout:
        """Express this layout on a tensor that reaches the operator through a view.

        Args:
            shape: Shape of the source tensor.
            view: Steps that turn the source into the tensor this layout describes.

        Returns:
            The layout of the source.
        """
        return FilterLayout(shape, view + self.steps)

    @property
    def filters(self) -> int:
        """Number of filters."""
        return self._shapes()[-1][0]

    @property
    def elements(self) -> int:
        """Number of elements in each filter."""
        return self._shapes()[-1][1]

    def to_filters(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the tensor as a matrix [filters, elements]; a view where possible."""
        return rearranged(tensor, self.steps)

    def from_filters(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return the tensor of a matrix [filters, elements]: the inverse of `to_filters`."""
        shapes = self._shapes()
        for step, before in zip(reversed(self.steps), reversed(shapes[:-1]), strict=True):
            if isinstance(step, Reshape):
                matrix = matrix.reshape(before)
            else:
                matrix = matrix.transpose(np.argsort(step.permutation))
        return matrix

    def _shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes before, between and after the steps."""
        shapes = [self.shape]
        for step in self.steps:
            if isinstance(step, Reshape):
                shapes.append(step.shape)
            else:
                shapes.append(tuple(shapes[-1][axis] for axis in step.permutation))
        return shapes
