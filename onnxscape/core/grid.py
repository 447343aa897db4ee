"""The grid: which (alpha, beta) are evaluated, and in which order."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAX_POINTS = 16_000_000
"""Most points a grid may have: 128 MB per surface."""

_SNAP = 1e-12
"""Coordinates smaller than this in magnitude are 0, so that the center is on the grid."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Evenly spaced steps along one direction.

    Attributes:
        start: First coordinate.
        stop: Last coordinate, above `start`.
        num: Number of coordinates, at least 2.

    Raises:
        GridError: If the range is empty or not finite, or has fewer than 2 points.
    """

    start: float
    stop: float
    num: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.stop)):
            raise GridError(f"an axis needs a finite range, got {self}; e.g. -1:1:25")
        if not math.isfinite(self.stop - self.start):
            raise GridError(f"an axis must not be wider than float64 holds, got {self}")
        if self.num < 2:
            raise GridError(f"an axis needs at least 2 points, got {self}; e.g. -1:1:25")
        if self.start >= self.stop:
            raise GridError(f"an axis needs MIN below MAX, got {self}; e.g. -1:1:25")
        if self.num > MAX_POINTS:
            raise GridError(f"an axis may have at most {MAX_POINTS} points, got {self}")

    def __str__(self) -> str:
        return f"{self.start:g}:{self.stop:g}:{self.num}"

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read `MIN:MAX:NUM`, as the reference implementation writes it.

        Args:
            text: For instance `-1:1:51`.

        Returns:
            The axis.

        Raises:
            GridError: If the text has another form or an empty range.
        """
        parts = text.split(":")
        try:
            start, stop, num = float(parts[0]), float(parts[1]), int(parts[2])
        except (ValueError, IndexError):
            parts = []
        if len(parts) != 3:
            raise GridError(f"expected MIN:MAX:NUM such as -1:1:25, got {text!r}")
        return cls(start, stop, num)

    def coordinates(self) -> NDArray[np.float64]:
        """Return the coordinates [num]; those below 1e-12 in magnitude are 0."""
        values = np.linspace(self.start, self.stop, self.num)
        values[np.abs(values) < _SNAP] = 0.0
        return values


@dataclass(frozen=True, slots=True)
class Point:
    """One step (alpha, beta) in the plane.

    Attributes:
        row: Index into beta; -1 for the center when it is not on the grid.
        column: Index into alpha; -1 likewise.
        alpha: Step along delta.
        beta: Step along eta.
        samples: How many of the first samples it is evaluated on; None for all that it takes.
    """

    row: int
    column: int
    alpha: float
    beta: float
    samples: int | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """The points of a landscape: a plane (both axes) or a line (one of them).

    Attributes:
        x: Steps alpha along delta, or None for a line along eta.
        y: Steps beta along eta, or None for a line along delta.

    Raises:
        GridError: If both axes are missing or there are too many points.
    """

    x: Axis | None
    y: Axis | None

    def __post_init__(self) -> None:
        if self.x is None and self.y is None:
            raise GridError("a grid needs at least one axis; e.g. --x -1:1:25")
        if self.size > MAX_POINTS:
            raise GridError(f"a grid may have at most {MAX_POINTS} points, got {self.size}")

    @classmethod
    def parse(cls, text: str, radius: float = 1.0) -> Grid:
        """Read `51x51` (a plane) or `51` (a line along delta) over [-radius, radius].

        Args:
            text: Numbers of points, alphas first.
            radius: Largest coordinate, positive.

        Returns:
            The grid.

        Raises:
            GridError: If the text has another form, or holds no points.
        """
        match = re.fullmatch(r"(\d{1,9})(?:[xX×](\d{1,9}))?", text.strip())
        if match is None:
            raise GridError(
                f"expected a grid such as 25x25 (plane) or 51 (line), got {text!r}"
            )
        if not (math.isfinite(radius) and radius > 0):
            raise GridError(f"the radius must be a positive number, got {radius:g}")
        columns, rows = match.groups()
        if int(columns) < 2 or (rows is not None and int(rows) < 2):
            raise GridError(
                f"a grid needs at least 2 points along each axis, got {text!r}; e.g. 25x25"
            )
        x = Axis(-radius, radius, int(columns))
        return cls(x, None if rows is None else Axis(-radius, radius, int(rows)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a surface: [n_beta, n_alpha], or [n] on a line."""
        return tuple(axis.num for axis in (self.y, self.x) if axis is not None)

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    @property
    def alphas(self) -> NDArray[np.float64] | None:
        """Steps along delta [n_alpha]; None on a line along eta."""
        return None if self.x is None else self.x.coordinates()

    @property
    def betas(self) -> NDArray[np.float64] | None:
        """Steps along eta [n_beta]; None on a line along delta."""
        return None if self.y is None else self.y.coordinates()

    def index(self, point: Point) -> tuple[int, ...]:
        """Return where a point of this grid stands in a surface.

        Args:
            point: One of `points()`.

        Returns:
            (row, column) on a plane, (position,) on a line.
        """
        if self.x is None:
            return (point.row,)
        if self.y is None:
            return (point.column,)
        return (point.row, point.column)

    def center(self) -> Point:
        """Return the center: the grid's own point if it has one, else one outside it."""
        column = _position_of_zero(self.alphas)
        row = _position_of_zero(self.betas)
        if row < 0 or column < 0:
            row = column = -1
        return Point(row, column, 0.0, 0.0)

    def levels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return in which round of bisection each row and each column is reached.

        Returns:
            [n_beta] and [n_alpha], from 0; the level of a point is the higher of its two. A
            line has one level 0 along the axis it does not have.
        """
        rows, columns = (1 if axis is None else axis.num for axis in (self.y, self.x))
        return _bisection_levels(rows), _bisection_levels(columns)

    def points(self) -> Iterator[Point]:
        """Yield every point once, coarse to fine.

        A run that stops anywhere has sampled the whole range: the ends and the middle of
        both axes come first, then the middles between them, and so on.

        Yields:
            The points.
        """
        alphas = np.zeros(1) if self.x is None else self.x.coordinates()
        betas = np.zeros(1) if self.y is None else self.y.coordinates()
        level = np.maximum.outer(*self.levels())
        for flat in np.argsort(level, axis=None, kind="stable"):
            row, column = divmod(int(flat), alphas.size)
            yield Point(row, column, float(alphas[column]), float(betas[row]))


def _position_of_zero(coordinates: NDArray[np.float64] | None) -> int:
    if coordinates is None:
        return 0
    found = np.flatnonzero(coordinates == 0.0)
    return int(found[0]) if found.size else -1


def _bisection_levels(n: int) -> NDArray[np.int64]:
    """Return for each of n indices the round of bisection in which it is reached [n]."""
    levels = np.full(n, -1, dtype=np.int64)
    levels[[0, n // 2, n - 1]] = 0
    gaps = [(0, n // 2), (n // 2, n - 1)]
    level = 0
    while gaps:
        level += 1
        finer = []
        for low, high in gaps:
            if high - low > 1:
                middle = (low + high) // 2
                levels[middle] = level
                finer += [(low, middle), (middle, high)]
        gaps = finer
    return levels
