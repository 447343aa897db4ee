"""Interpolation on nested grids: from the points of a coarser grid to those of a finer one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from onnxscape.errors import SurfaceFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.core.grid import Grid

CUBIC = 4
"""Nodes that a cubic polynomial goes through."""

LINEAR = 2
"""Nodes that a straight line goes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolation:
    """How the points of a landscape that were not evaluated got their values.

    Attributes:
        method: `adaptive`: refined where a coarser grid could not be interpolated; or
            `two-level`: evaluated on a few samples everywhere, and corrected by what all
            samples add to that on a coarse grid, interpolated.
        scale: `log` if logarithms of the loss were interpolated, else `linear`.
        tolerance: Largest error that was asked for, relative to the loss; None if none was.
        floor: Losses of smaller magnitude count as this large where an error is relative.
        evaluated: Points of the grid that were evaluated on all samples, those held out among
            them.
        interpolated: Points of the grid that were not.
        held_out: Points that were interpolated first and evaluated then, to see the error.
        largest_error: Largest error of the loss at those, |interpolated - evaluated| /
            max(|evaluated|, floor); 0 if no point was interpolated, infinite if one of those
            is not finite.
        errors: Further metrics to their largest error there, absolute.
        rounds: How often points were held out: every time the error was above the tolerance,
            more points were evaluated there and others held out.
        samples: Samples that the interpolated points were evaluated on; None for none at all,
            and then left out of the JSON.
    """

    method: str
    scale: str
    tolerance: float | None
    floor: float
    evaluated: int
    interpolated: int
    held_out: int
    largest_error: float
    errors: Mapping[str, float]
    rounds: int
    samples: int | None = None

    def __str__(self) -> str:
        """Return what was saved and what is known of the error, for people."""
        if not self.interpolated:
            return f"all {self.evaluated} evaluated"
        done = f"{self.evaluated} evaluated, {self.interpolated} interpolated"
        if self.samples is not None:
            done = (
                f"{self.evaluated} on all samples, {self.interpolated} estimated from "
                f"{self.samples}"
            )
        return (
            f"{done}; largest error {self.largest_error:.2%} at {self.held_out} held-out "
            "points"
        ).replace("%", " %")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; an error that is not known is null."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["errors"] = {
            name: error if math.isfinite(error) else None
            for name, error in self.errors.items()
        }
        if not math.isfinite(self.largest_error):
            values["largest_error"] = None
        if self.samples is None:
            del values["samples"]
        return values

    def to_json(self) -> str:
        """Return the canonical text: sorted keys, no spaces."""
        return json.dumps(
            self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Args:
            values: Plain JSON values.

        Returns:
            The same.

        Raises:
            SurfaceFileError: If a field is missing, unknown or of another type.
        """
        try:
            fields = dict(values)
            errors = {
                str(name): math.nan if error is None else float(error)
                for name, error in fields.pop("errors").items()
            }
            largest = fields.pop("largest_error")
            largest = math.inf if largest is None else largest
            read = cls(errors=errors, largest_error=largest, **fields)
            for name in ("method", "scale"):
                _check(name, getattr(read, name), str)
            for name in ("evaluated", "interpolated", "held_out", "rounds"):
                _check(name, getattr(read, name), int)
            for name in ("floor", "largest_error"):
                _check(name, getattr(read, name), (int, float))
            _check("tolerance", read.tolerance, (int, float, NoneType))
            _check("samples", read.samples, (int, NoneType))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SurfaceFileError(
                f"the stored interpolation is not one this version can read ({error}); "
                "use --restart to compute anew"
            ) from error
        return read


def _check(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}")


class NestedGrids:
    """The grids that a grid's order from coarse to fine goes through.

    Attributes:
        alphas: Steps along delta [n_alpha]; one step on a line along eta.
        betas: Steps along eta [n_beta]; one step on a line along delta.
        levels: For each point the first level whose grid holds it [n_beta, n_alpha].
        finest: The level whose grid holds all.
    """

    def __init__(self, grid: Grid) -> None:
        """Take the levels of a grid.

        Args:
            grid: A plane or a line.
        """
        self.alphas = np.zeros(1) if grid.alphas is None else grid.alphas
        self.betas = np.zeros(1) if grid.betas is None else grid.betas
        self._by_row, self._by_column = grid.levels()
        self.levels = np.maximum.outer(self._by_row, self._by_column)
        self.finest = int(self.levels.max())

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of betas and of alphas."""
        return self.betas.size, self.alphas.size

    def nodes(self, level: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows and columns of the grid of a level, increasing.

        Args:
            level: From 0.
        """
        return np.flatnonzero(self._by_row <= level), np.flatnonzero(self._by_column <= level)

    def predict(
        self, values: NDArray[np.float64], level: int, width: int
    ) -> NDArray[np.float64]:
        """Interpolate the grid of a level from that of the level below it.

        Polynomials through the `width` nearest nodes (Lagrange), along alpha and then along
        beta, on the true coordinates; nothing is extrapolated. A node that is not finite makes
        what is interpolated through it not finite.

        Args:
            values: [n_beta, n_alpha], of which only the nodes of level - 1 are looked at.
            level: From 1.
            width: Nodes of a polynomial, `LINEAR` or `CUBIC`; fewer where there are fewer.

        Returns:
            [rows, columns] of the level's grid; nodes of level - 1 have their own values.
        """
        rows, columns = self.nodes(level)
        coarse_rows, coarse_columns = self.nodes(level - 1)
        coarse = values[np.ix_(coarse_rows, coarse_columns)]
        wide = _along_last(coarse, self.alphas, coarse_columns, columns, width)
        return _along_last(wide.T, self.betas, coarse_rows, rows, width).T

    def fill(
        self, values: NDArray[np.float64], known: NDArray[np.bool_], width: int
    ) -> NDArray[np.float64]:
        """Interpolate all points that are not known, level by level.

        Args:
            values: [n_beta, n_alpha].
            known: [n_beta, n_alpha]; all of level 0 must be.
            width: As for `predict`.

        Returns:
            [n_beta, n_alpha], the known values as they were.
        """
        filled = values.copy()
        for level in range(1, self.finest + 1):
            places = np.ix_(*self.nodes(level))
            predicted = self.predict(filled, level, width)
            taken = known[places] | (self.levels[places] < level)
            filled[places] = np.where(taken, filled[places], predicted)
        return filled


def _along_last(
    values: NDArray[np.float64],
    coordinates: NDArray[np.float64],
    nodes: NDArray[np.int64],
    targets: NDArray[np.int64],
    width: int,
) -> NDArray[np.float64]:
    """Interpolate along the last axis.

    Args:
        values: [k, nodes].
        coordinates: Of the whole axis [n].
        nodes: Increasing indices into the coordinates.
        targets: Increasing indices, the nodes among them.
        width: Nodes of a polynomial.

    Returns:
        [k, targets].
    """
    result = np.empty((len(values), targets.size))
    own = np.isin(targets, nodes)
    result[:, own] = values
    between = targets[~own]
    if not between.size:
        return result
    width = min(width, nodes.size)
    first = np.searchsorted(nodes, between) - width // 2
    first = np.clip(first, 0, nodes.size - width)
    stencil = first[:, None] + np.arange(width)  # [between, width]
    x, at = coordinates[nodes][stencil], coordinates[between]
    total = np.zeros((len(values), between.size))
    # Values that are not finite are meant to spread.
    with np.errstate(invalid="ignore", over="ignore"):
        for k in range(width):
            weight = np.ones(between.size)
            for other in range(width):
                if other != k:
                    weight *= (at - x[:, other]) / (x[:, k] - x[:, other])
            total += weight * values[:, stencil[:, k]]
    result[:, ~own] = total
    return result
