"""Progress: which points of a grid are finished, in memory that does not grow with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnxscape.core.grid import Grid, Point


class Progress:
    """The finished points of a grid, and their losses.

    Attributes:
        count: Number of finished points, a center off the grid included.
    """

    def __init__(self, grid: Grid) -> None:
        """Start with none.

        Args:
            grid: The grid.
        """
        rows, columns = (1 if axis is None else axis.num for axis in (grid.y, grid.x))
        # Row and column -1 are the center's where it is not on the grid.
        self._finished = np.zeros((rows + 1, columns + 1), dtype=np.bool_)
        self._losses = np.full((rows + 1, columns + 1), np.nan)
        self.count = 0

    def add(self, row: int, column: int, loss: float) -> None:
        """Take a finished point.

        Args:
            row: Index into beta; -1 for the center off the grid.
            column: Index into alpha; likewise.
            loss: Its loss.
        """
        self.count += not self._finished[row, column]
        self._finished[row, column] = True
        self._losses[row, column] = loss

    def has(self, row: int, column: int) -> bool:
        """Return whether a point is finished.

        Args:
            row: Index into beta.
            column: Index into alpha.
        """
        return bool(self._finished[row, column])

    def loss(self, row: int, column: int) -> float:
        """Return the loss of a finished point.

        Args:
            row: Index into beta.
            column: Index into alpha.
        """
        return float(self._losses[row, column])

    def missing(self, points: Iterable[Point]) -> Iterable[Point]:
        """Return the points that are not finished when their turn comes.

        Args:
            points: Any.
        """
        return (point for point in points if not self.has(point.row, point.column))
