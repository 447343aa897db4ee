"""Fewer evaluations for the same surface: coarse to fine, and only where it takes them.

The grids of bisection are walked from coarse to fine. Each is predicted from the one before,
by cubic interpolation; where new points were evaluated, how far the prediction was off (their
*hierarchical surplus*; Bungartz and Griebel, "Sparse grids", Acta Numerica 2004) says whether
the next, finer points around are evaluated as well, or taken from the prediction.

Nothing here evaluates: a generator says which points it needs and is told their losses. Its
questions follow from the answers alone, so that an interrupted run that is asked again answers
from what it kept, and goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from onnxscape.core.interpolation import CUBIC, NestedGrids

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from onnxscape.core.grid import Grid

    _Result = TypeVar("_Result")
    Questions = Generator[NDArray[np.int64], NDArray[np.float64], _Result]

FIRST_LEVEL = 2
"""All points up to this level are evaluated: 9 along an axis that has so many."""

LEAST_HELD_OUT = 20
"""Interpolated points that are evaluated in the end to see their error, at least."""

SHARE_HELD_OUT = 0.02
"""Share of the interpolated points that are, if that is more."""

FLOOR = 0.001
"""Losses below this share of the median are as good as 0: see `Refined.floor`."""

FASTEST = 1 / 16
"""Factor by which the error of cubic interpolation goes down as steps are halved (order 4)."""

SAFETY = 1.5
"""Refinement goes on until this many times the expected error is within the tolerance."""

_HELD_OUT_STREAM = 2
"""Tells the stream of the held-out points apart from that of the directions (1)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refined:
    """A surface that is refined as far as its tolerance takes.

    Attributes:
        loss: [n_beta, n_alpha], evaluated or interpolated; the held-out points evaluated.
        predicted: The same before the held-out points were evaluated [n_beta, n_alpha].
        evaluated: Where it was evaluated [n_beta, n_alpha].
        held_out: Where it was interpolated first and evaluated then, to see the error: the
            last ones, all of them within the tolerance [n_beta, n_alpha].
        largest_error: The largest error at those; 0 if there are none.
        floor: Error is relative to the loss, but to no less than this. A relative error says
            nothing where the loss is almost 0, as in the middle of a well-trained model's
            basin; at a thousandth of the landscape's median, an error of 5 % is 0.005 % of
            the median. The median, because a landscape's largest loss may be astronomic.
        log: Whether logarithms were interpolated: all losses that are finite are positive.
        rounds: How often points were held out.
    """

    loss: NDArray[np.float64]
    predicted: NDArray[np.float64]
    evaluated: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    largest_error: float
    floor: float
    log: bool
    rounds: int


def refine(grid: Grid, tolerance: float) -> Questions[Refined]:
    """Ask for the losses that it takes to know all within a tolerance.

    Args:
        grid: A plane or a line.
        tolerance: Largest error of an interpolated loss, relative to the loss.

    Yields:
        Flat indices of points [k] into [n_beta, n_alpha], none twice; their losses [k] are
        to be sent back.

    Returns:
        The surface. What it says of its error is what was seen at points chosen at random
        after the last refinement; it is no bound for the others.
    """
    state = _State(NestedGrids(grid), tolerance)
    first = state.nested.levels <= FIRST_LEVEL
    center = grid.center()
    if center.row >= 0:
        first[center.row, center.column] = True
    yield from state.ask(first)
    state.settle_floor()
    rounds = 0
    while True:
        loss = yield from state.walk()
        interpolated = ~state.known
        candidates = np.flatnonzero(interpolated)
        if not candidates.size:
            held_out = np.zeros_like(interpolated)
            return state.result(loss, held_out, 0.0, rounds)
        held_out = held_out_points(candidates, rounds, interpolated.shape)
        yield from state.ask(held_out)
        rounds += 1
        errors = state.errors(loss, held_out)
        if errors.max() <= tolerance:
            return state.result(loss, held_out, float(errors.max()), rounds)
        state.force(held_out, errors)


def relative_error(
    found: NDArray[np.float64], true: NDArray[np.float64], floor: float
) -> NDArray[np.float64]:
    """Return |found - true| / max(|true|, floor); infinite where either is not finite.

    Args:
        found: Interpolated losses, any shape.
        true: Evaluated losses, of the same shape.
        floor: Above 0.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(found - true) / np.maximum(np.abs(true), floor)
    return np.where(np.isfinite(found) & np.isfinite(true), errors, math.inf)


def floor_of(losses: NDArray[np.float64]) -> float:
    """Return the magnitude that no loss counts less than where an error is relative.

    Args:
        losses: Those that are known first, any shape.

    Returns:
        `FLOOR` times the median of the magnitudes; above 0. See `Refined.floor`.
    """
    found = np.abs(losses[np.isfinite(losses)])
    typical = float(np.median(found)) if found.size else 0.0
    # Half of the losses may be 0; then what is not counts.
    if typical == 0.0 and found.any():
        typical = float(np.median(found[found > 0]))
    return max(FLOOR * typical, float(np.finfo(np.float64).tiny))


def held_out_points(
    candidates: NDArray[np.int64], done: int, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return points chosen at random: others in every round, the same in every run.

    Args:
        candidates: Flat indices of the points to choose from [k].
        done: Rounds so far.
        shape: Of the grid, [n_beta, n_alpha].

    Returns:
        True at `SHARE_HELD_OUT` of the candidates, or `LEAST_HELD_OUT` if that is more, or
        all if there are not so many [n_beta, n_alpha].
    """
    count = max(LEAST_HELD_OUT, math.ceil(SHARE_HELD_OUT * candidates.size))
    stream = np.random.Philox(np.random.SeedSequence([_HELD_OUT_STREAM, done]))
    chosen = np.random.Generator(stream).permutation(candidates)[:count]
    mask = np.zeros(shape, dtype=np.bool_)
    mask.flat[chosen] = True
    return mask


class _State:
    """What is known so far, and what follows from it."""

    def __init__(self, nested: NestedGrids, tolerance: float) -> None:
        self.nested = nested
        self.known = np.zeros(nested.shape, dtype=np.bool_)
        self.losses = np.full(nested.shape, np.nan)
        self._tolerance = tolerance
        self._forced = np.zeros(nested.shape, dtype=np.bool_)
        self._floor = math.nan
        self._log = True
        # Points from coarse to fine, as a run without refinement takes them.
        self._order = np.argsort(nested.levels, axis=None, kind="stable")

    def ask(self, wanted: NDArray[np.bool_]) -> Questions[None]:
        """Ask for the points of a mask that are not known.

        Yields:
            Their flat indices.
        """
        missing = (wanted & ~self.known).ravel()[self._order]
        flat = self._order[missing]
        if flat.size:
            self.losses.flat[flat] = yield flat
            self.known.flat[flat] = True

    def settle_floor(self) -> None:
        """Take the floor from the points that are known first."""
        self._floor = floor_of(self.losses[self.known])

    def walk(self) -> Questions[NDArray[np.float64]]:
        """Refine from coarse to fine.

        Yields:
            Flat indices of the points that it takes.

        Returns:
            The losses [n_beta, n_alpha].
        """
        while True:
            self._log = not self._any_below_zero()
            filled = self._scaled()
            cells: _Cells | None = None
            for level in range(1, self.nested.finest + 1):
                cells = yield from self._step(filled, level, cells)
                if self._log and self._any_below_zero():
                    break  # once more, without logarithms
            else:
                loss = np.exp(filled) if self._log else filled
                return np.where(self.known, self.losses, loss)

    def _step(
        self, filled: NDArray[np.float64], level: int, parents: _Cells | None
    ) -> Questions[_Cells]:
        """Fill in the new points of a level.

        Yields:
            Flat indices of those that are not predicted well enough.

        Returns:
            How far off the predictions were.
        """
        rows, columns = self.nested.nodes(level)
        places = np.ix_(rows, columns)
        predicted = filled.copy()
        with np.errstate(over="ignore"):
            predicted[places] = self.nested.predict(filled, level, CUBIC)
            losses = np.exp(predicted) if self._log else predicted
        new = np.zeros_like(self.known)
        new[places] = self.nested.levels[places] == level
        wanted = new & (self._forced | ~np.isfinite(losses))
        if parents is not None:
            wanted |= new & parents.expected_above(self._tolerance)
        cells = _Cells(self.nested, level - 1, parents)
        while True:
            yield from self.ask(wanted)
            seen = new & self.known
            cells.measure(seen, relative_error(losses[seen], self.losses[seen], self._floor))
            # An error at the border of what was evaluated reaches beyond it.
            wanted = new & cells.above(self._tolerance)
            if not (wanted & ~self.known).any():
                break
        filled[new] = np.where(self.known, self._scaled(), predicted)[new]
        return cells

    def errors(
        self, loss: NDArray[np.float64], held_out: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the errors at the points that were held out [k]."""
        return relative_error(loss[held_out], self.losses[held_out], self._floor)

    def force(self, held_out: NDArray[np.bool_], errors: NDArray[np.float64]) -> None:
        """Want all points around those with an error above the tolerance."""
        bad = np.zeros_like(held_out)
        bad[held_out] = errors > self._tolerance
        for level in np.unique(self.nested.levels[bad]):
            cells = _Cells(self.nested, int(level) - 1)
            here = bad & (self.nested.levels == level)
            cells.measure(here, np.full(int(here.sum()), math.inf))
            self._forced |= cells.above(self._tolerance)

    def result(
        self,
        loss: NDArray[np.float64],
        held_out: NDArray[np.bool_],
        largest_error: float,
        rounds: int,
    ) -> Refined:
        """Return what came out."""
        return Refined(
            loss=np.where(self.known, self.losses, loss),
            predicted=loss,
            evaluated=self.known,
            held_out=held_out,
            largest_error=largest_error,
            floor=self._floor,
            log=self._log,
            rounds=rounds,
        )

    def _any_below_zero(self) -> bool:
        """Return whether a loss has no logarithm."""
        return bool((self.losses[np.isfinite(self.losses)] <= 0).any())

    def _scaled(self) -> NDArray[np.float64]:
        """Return what is interpolated [n_beta, n_alpha], NaN where it is not finite."""
        finite = np.where(np.isfinite(self.losses), self.losses, np.nan)
        if not self._log:
            return finite
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.log(finite))


class _Cells:
    """Cells between the nodes of one level, and how far off predictions were in and around."""

    def __init__(self, nested: NestedGrids, level: int, parents: _Cells | None = None) -> None:
        nodes = nested.nodes(level)
        self._sides = [
            _sides(axis, size) for axis, size in zip(nodes, nested.shape, strict=True)
        ]
        self._firsts = [axis[: max(axis.size - 1, 1)] for axis in nodes]
        self._surplus = np.zeros([axis.size for axis in self._firsts])
        self._parents = parents

    def measure(self, points: NDArray[np.bool_], surplus: NDArray[np.float64]) -> None:
        """Give each cell the largest error in it, on its border, and in the cells around it.

        Args:
            points: Where errors are known [n_beta, n_alpha].
            surplus: The errors there [k].
        """
        rows, columns = np.nonzero(points)
        found = np.zeros_like(self._surplus)
        for row_side in self._sides[0]:
            for column_side in self._sides[1]:
                np.maximum.at(found, (row_side[rows], column_side[columns]), surplus)
        for axis in (0, 1):
            grown = np.moveaxis(found.copy(), axis, 0)
            own = np.moveaxis(found, axis, 0)
            grown[1:] = np.maximum(grown[1:], own[:-1])
            grown[:-1] = np.maximum(grown[:-1], own[1:])
            found = np.moveaxis(grown, 0, axis)
        self._surplus = found

    def above(self, tolerance: float) -> NDArray[np.bool_]:
        """Return the points of cells where predictions were off by more [n_beta, n_alpha]."""
        return self._spread(self._surplus > tolerance)

    def expected_above(self, tolerance: float) -> NDArray[np.bool_]:
        """Return the points of cells where the next prediction may be [n_beta, n_alpha].

        The error went down from the level before to this one by some factor, and is expected
        to do so again; but no faster than theory allows, and not to go up.
        """
        decay = np.ones_like(self._surplus)
        if self._parents is not None:
            before = self._parents.at(self._firsts)
            told = (before > 0) & np.isfinite(before)
            decay = np.divide(self._surplus, before, out=decay, where=told)
            decay = np.clip(decay, FASTEST, 1.0)
        expected = SAFETY * decay * self._surplus
        return self._spread(expected > tolerance)

    def at(self, firsts: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return the errors of the cells that hold others, given by their first nodes."""
        rows, columns = (
            sides[1][first] for sides, first in zip(self._sides, firsts, strict=True)
        )
        return self._surplus[np.ix_(rows, columns)]

    def _spread(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the points of the whole grid in marked cells [n_beta, n_alpha]."""
        found = np.zeros([sides[0].size for sides in self._sides], dtype=np.bool_)
        for row_side in self._sides[0]:
            for column_side in self._sides[1]:
                found |= marked[np.ix_(row_side, column_side)]
        return found


def _sides(nodes: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each index of an axis the first and the last cell that it is in [size]."""
    last = max(nodes.size - 2, 0)
    every = np.arange(size)
    before = np.clip(np.searchsorted(nodes, every, side="left") - 1, 0, last)
    after = np.clip(np.searchsorted(nodes, every, side="right") - 1, 0, last)
    return before, after
