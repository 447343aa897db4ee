"""Schedules: which points a run evaluates, and what becomes of those that it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from onnxscape.core.grid import Point
from onnxscape.core.interpolation import LINEAR, Interpolation, NestedGrids
from onnxscape.core.loss import is_fraction
from onnxscape.core.refinement import Refined, refine
from onnxscape.evaluation.two_level import TwoLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from onnxscape.core.grid import Grid
    from onnxscape.core.landscape import Landscape
    from onnxscape.core.spec import EvalSpec
    from onnxscape.evaluation.progress import Progress


class Schedule(Protocol):
    """Says which points to evaluate, in rounds.

    Attributes:
        total: Points of all rounds, as far as they are known, with what is there already.
    """

    total: int

    def rounds(self, progress: Progress) -> Iterator[Iterable[Point]]:
        """Yield points, round by round; before the next round all of them must be there.

        Args:
            progress: Where the losses of finished points appear. What is in it before it was
                asked for is looked at only when it is, so that a run which goes on asks for
                the same points as one that was never interrupted.

        Yields:
            Points in the order in which they are wanted, the center first; each round may be
            gone through more than once.
        """

    def finished(self, landscape: Landscape) -> Landscape:
        """Return the landscape after the last round, with nothing missing.

        Args:
            landscape: The evaluated points.
        """


def make_schedule(spec: EvalSpec) -> Schedule:
    """Return the schedule that a spec asks for.

    Args:
        spec: What defines the numbers.
    """
    if spec.two_level is not None:
        return TwoLevel(spec)
    return Everything(spec.grid) if spec.tolerance is None else Adaptive(spec)


class Everything:
    """All points in one round: the center, then the grid from coarse to fine."""

    def __init__(self, grid: Grid) -> None:
        """Take the grid."""
        self._grid = grid
        self.total = grid.size + (grid.center().row < 0)

    def rounds(self, progress: Progress) -> Iterator[Iterable[Point]]:
        """Yield the only round.

        Args:
            progress: Not needed.
        """
        del progress
        yield self

    def finished(self, landscape: Landscape) -> Landscape:
        """Return the landscape as it is.

        Args:
            landscape: Any.
        """
        return landscape

    def __iter__(self) -> Iterator[Point]:
        """Yield the points."""
        center = self._grid.center()
        yield center
        for point in self._grid.points():
            if (point.row, point.column) != (center.row, center.column):
                yield point


class Adaptive:
    """Points from coarse to fine, where interpolation is not within the tolerance."""

    def __init__(self, spec: EvalSpec) -> None:
        """Take grid and tolerance.

        Args:
            spec: With a tolerance.
        """
        assert spec.tolerance is not None  # noqa: S101 - the caller has looked
        self._grid, self._tolerance = spec.grid, spec.tolerance
        self._refined: Refined | None = None
        self.total = 1

    def rounds(self, progress: Progress) -> Iterator[Iterable[Point]]:
        """Yield the center, then what the refinement asks for.

        Args:
            progress: The losses of the rounds before must be in it.
        """
        yield [self._grid.center()]
        nested = NestedGrids(self._grid)
        questions = refine(self._grid, self._tolerance)
        wanted = next(questions)
        while True:
            rows, columns = np.unravel_index(wanted, nested.shape)
            places = list(zip(rows.tolist(), columns.tolist(), strict=True))
            self.total = progress.count + sum(not progress.has(*place) for place in places)
            yield [
                Point(row, column, float(nested.alphas[column]), float(nested.betas[row]))
                for row, column in places
            ]
            losses = np.array([progress.loss(*place) for place in places])
            try:
                wanted = questions.send(losses)
            except StopIteration as end:
                self._refined = end.value
                return

    def finished(self, landscape: Landscape) -> Landscape:
        """Return the landscape with the interpolated points filled in.

        Args:
            landscape: The evaluated points.
        """
        assert self._refined is not None  # noqa: S101 - all rounds are over
        refined, shape = self._refined, landscape.grid.shape
        surfaces, errors = _others(landscape, refined)
        surfaces["loss"] = refined.loss.reshape(shape)
        return replace(
            landscape,
            surfaces=surfaces,
            evaluated=refined.evaluated.reshape(shape),  # whatever else a store may hold
            interpolation=Interpolation(
                method="adaptive",
                scale="log" if refined.log else "linear",
                tolerance=self._tolerance,
                floor=refined.floor,
                evaluated=int(refined.evaluated.sum()),
                interpolated=int((~refined.evaluated).sum()),
                held_out=int(refined.held_out.sum()),
                largest_error=refined.largest_error,
                errors=errors,
                rounds=refined.rounds,
            ),
        )


def _others(
    landscape: Landscape, refined: Refined
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Interpolate all metrics but the loss, linearly: they may have steps.

    Returns:
        All surfaces, and the largest absolute error of each metric at the held-out points.
    """
    nested = NestedGrids(landscape.grid)
    before = refined.evaluated & ~refined.held_out
    surfaces: dict[str, NDArray[np.float64]] = {}
    errors: dict[str, float] = {}
    for name, surface in landscape.surfaces.items():
        values = surface.reshape(nested.shape)
        if name == "samples_used":
            values = np.where(refined.evaluated, values, 0.0)
        elif name != "loss":
            filled = nested.fill(values, before, LINEAR)
            if is_fraction(name):
                filled = np.clip(filled, 0.0, 1.0)  # rounding may leave it
            off = np.abs(filled - values)[refined.held_out]
            errors[name] = float(off.max(initial=0.0))
            values = np.where(refined.evaluated, values, filled)
        surfaces[name] = values.reshape(surface.shape)
    return surfaces, errors
