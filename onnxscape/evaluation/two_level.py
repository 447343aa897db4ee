"""The schedule of two levels of samples: a coarse grid on all, the other points on a few."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.interpolation import CUBIC, LINEAR, Interpolation
from onnxscape.core.loss import CLAMPED, is_fraction
from onnxscape.core.refinement import floor_of, relative_error
from onnxscape.core.samples import SUBSET
from onnxscape.core.two_level import TwoLevels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from onnxscape.core.grid import Grid, Point
    from onnxscape.core.landscape import Landscape
    from onnxscape.core.spec import EvalSpec
    from onnxscape.evaluation.progress import Progress


class TwoLevel:
    """First the points that take all samples, then the others on the first few of them.

    Attributes:
        total: Number of points, the center included.
    """

    def __init__(self, spec: EvalSpec) -> None:
        """Take grid and numbers of samples.

        Args:
            spec: With two levels.
        """
        assert spec.two_level is not None  # noqa: S101 - the caller has looked
        self._grid, self._few, self._all = spec.grid, spec.two_level, spec.samples
        self._levels = TwoLevels.of(spec.grid)
        self.total = spec.grid.size + (spec.grid.center().row < 0)

    def rounds(self, progress: Progress) -> Iterator[Iterable[Point]]:
        """Yield the points on all samples, then the others.

        A point whose difference cannot be interpolated takes all samples in the second round:
        only then is it known, and still no sample is evaluated twice.

        Args:
            progress: The losses of the first round must be in it after that.
        """
        levels, nothing = self._levels, np.zeros_like(self._levels.whole)
        yield _Round(self._grid, levels.whole, nothing, self._few, center=True)
        losses = np.zeros(levels.nested.shape)
        for row, column in np.argwhere(levels.coarse).tolist():
            losses[row, column] = progress.loss(row, column)
        few = ~levels.whole & ~levels.beyond_correction(losses)
        yield _Round(self._grid, ~levels.whole, few, self._few, center=False)

    def finished(self, landscape: Landscape) -> Landscape:
        """Return the landscape with the points on a few samples corrected.

        The standard error of an estimate is not known, hence NaN: it has an error of
        interpolation, which is none of sampling.

        Args:
            landscape: All points; on a few samples alone are those not evaluated.
        """
        shape, levels = landscape.grid.shape, self._levels
        values = {n: s.reshape(levels.nested.shape) for n, s in landscape.surfaces.items()}
        evaluated = landscape.evaluated.reshape(levels.nested.shape)
        log = levels.takes_logarithms(values["loss"], values[SUBSET + "loss"])
        estimates = {
            name: self._estimate(name, values, evaluated, log=log and name == "loss")
            for name in values
            if SUBSET + name in values
        }
        surfaces = values | {
            name: np.where(evaluated, values[name], estimate)
            for name, estimate in estimates.items()
        }
        return dataclasses.replace(
            landscape,
            surfaces={name: s.reshape(shape) for name, s in surfaces.items()},
            interpolation=self._record(values, estimates, evaluated, log=log),
        )

    def _record(
        self,
        values: Mapping[str, NDArray[np.float64]],
        estimates: Mapping[str, NDArray[np.float64]],
        evaluated: NDArray[np.bool_],
        *,
        log: bool,
    ) -> Interpolation:
        """Return what was saved, and how far off the estimates at the held-out points are."""
        beyond = self._levels.beyond_correction(values["loss"])  # nothing is estimated there
        held_out = self._levels.held_out & ~beyond
        floor = floor_of(values["loss"][self._levels.coarse])
        off = relative_error(estimates["loss"][held_out], values["loss"][held_out], floor)
        with np.errstate(invalid="ignore"):
            errors = {
                name: float(np.abs(estimate - values[name])[held_out].max(initial=0.0))
                for name, estimate in estimates.items()
                if name != "loss"
            }
        return Interpolation(
            method="two-level",
            scale="log" if log else "linear",
            tolerance=None,
            floor=floor,
            evaluated=int(evaluated.sum()),
            interpolated=int((~evaluated).sum()),
            held_out=int(held_out.sum()),
            largest_error=float(off.max(initial=0.0)),
            errors=errors,
            rounds=1,
            samples=self._few,
        )

    def _estimate(
        self,
        name: str,
        values: Mapping[str, NDArray[np.float64]],
        evaluated: NDArray[np.bool_],
        *,
        log: bool,
    ) -> NDArray[np.float64]:
        """Return the estimates of one metric [n_beta, n_alpha].

        Metrics other than the loss are corrected linearly: they may have steps. An estimate
        keeps within what is known of the metric.
        """
        on_few = values[SUBSET + name]
        if name == CLAMPED:  # a number of samples
            on_few = on_few * (self._all / self._few)
        width = CUBIC if name == "loss" else LINEAR
        estimate = self._levels.corrected(values[name], on_few, width, log=log)
        if is_fraction(name):
            return np.clip(estimate, 0.0, 1.0)
        if name == CLAMPED:
            return np.clip(estimate, 0.0, self._all)
        seen = np.concatenate([on_few.ravel(), values[name][evaluated]])
        # A sum that cancels may fall below 0, where no loss was.
        return estimate if (seen < 0).any() else np.maximum(estimate, 0.0)


class _Round:
    """Points of a mask, coarse to fine, however often they are gone through."""

    def __init__(
        self,
        grid: Grid,
        wanted: NDArray[np.bool_],
        on_few: NDArray[np.bool_],
        few: int,
        *,
        center: bool,
    ) -> None:
        """Take what is asked for.

        Args:
            grid: The grid.
            wanted: Its points that are [n_beta, n_alpha].
            on_few: Those that are evaluated on a few samples only [n_beta, n_alpha].
            few: How many.
            center: Whether the center comes first, on the grid or not.
        """
        self._grid = grid
        self._wanted, self._on_few, self._few = wanted, on_few, few
        self._center = center

    def __iter__(self) -> Iterator[Point]:
        """Yield the points."""
        center = self._grid.center()
        if self._center:
            yield center
        for point in self._grid.points():
            place = point.row, point.column
            if self._wanted[place] and place != (center.row, center.column):
                yield (
                    dataclasses.replace(point, samples=self._few)
                    if self._on_few[place]
                    else point
                )
