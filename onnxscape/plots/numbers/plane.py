"""The numbers of a picture of a plane: cells, heights, holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.plots.numbers.captions import is_percent
from onnxscape.plots.numbers.gaps import interpolate_gaps, nearest_evaluated, thin
from onnxscape.plots.numbers.scale import LARGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.landscape import Landscape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaneNumbers:
    """One metric on a plane, thinned to what a picture can show.

    Attributes:
        alphas: Steps along delta [n_alpha].
        betas: Steps along eta [n_beta].
        values: [n_beta, n_alpha], percent for fractions; NaN where not finite or missing.
        evaluated: [n_beta, n_alpha]; interpolated points of a finished landscape as well.
        points: Number of points of the whole plane.
        missing: Number of those not evaluated.
        non_finite: Number of those evaluated, with a value that is not finite.
    """

    alphas: NDArray[np.float64]
    betas: NDArray[np.float64]
    values: NDArray[np.float64]
    evaluated: NDArray[np.bool_]
    points: int
    missing: int
    non_finite: int

    @property
    def holes(self) -> NDArray[np.bool_]:
        """Where a value was evaluated and is not finite [n_beta, n_alpha]."""
        return self.evaluated & np.isnan(self.values)

    @property
    def x_edges(self) -> NDArray[np.float64]:
        """Borders of the cells around the alphas [n_alpha + 1]."""
        return cell_edges(self.alphas)

    @property
    def y_edges(self) -> NDArray[np.float64]:
        """Borders of the cells around the betas [n_beta + 1]."""
        return cell_edges(self.betas)

    def ends(self, *, cells: bool) -> tuple[float, float, float, float]:
        """Return where a picture ends.

        Args:
            cells: Whether whole cells around the points are shown.

        Returns:
            Least and largest alpha, least and largest beta.
        """
        x, y = (self.x_edges, self.y_edges) if cells else (self.alphas, self.betas)
        return float(x[0]), float(x[-1]), float(y[0]), float(y[-1])

    @property
    def shows_center(self) -> bool:
        """Whether alpha = beta = 0 lies within the plane."""
        return bool(
            self.alphas[0] <= 0 <= self.alphas[-1] and self.betas[0] <= 0 <= self.betas[-1]
        )

    def cells(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return what each cell of a heat map shows.

        Returns:
            Values [n_beta, n_alpha], a missing one from the nearest evaluated point, NaN
            where that is not finite; and where that is so [n_beta, n_alpha].
        """
        if not self.missing or not self.evaluated.any():
            return self.values, self.holes
        nearest = nearest_evaluated(self.evaluated, self.alphas, self.betas)
        return self.values.ravel()[nearest], self.holes.ravel()[nearest]

    def heights(self, *, log: bool) -> NDArray[np.float64]:
        """Return a surface without gaps, as far as neighbours tell.

        Args:
            log: Whether to interpolate logarithms.

        Returns:
            Values [n_beta, n_alpha]; missing ones are interpolated between evaluated ones,
            NaN where there is none around or one of them is not finite.
        """
        if not self.missing:
            return self.values
        values = np.log(self.values) if log else self.values
        filled = interpolate_gaps(values, self.evaluated, self.alphas, self.betas)
        if log:
            filled = np.exp(filled)
        return np.where(self.evaluated, self.values, filled)

    def quad_holes(
        self, heights: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which quadrangles between four points cannot be drawn, and why.

        Args:
            heights: [n_beta, n_alpha], as `heights` returned them.

        Returns:
            Where a corner is evaluated and not finite, and where else a corner is unknown
            [n_beta - 1, n_alpha - 1].
        """
        not_finite = any_corner(self.holes)
        return not_finite, any_corner(np.isnan(heights)) & ~not_finite


def plane_numbers(landscape: Landscape, metric: str, limit: int) -> PlaneNumbers:
    """Take the numbers of a picture from a plane.

    Args:
        landscape: On a plane.
        metric: Name of one of its surfaces.
        limit: Most points along each axis; of more, some are left out.

    Returns:
        The numbers.
    """
    alphas, betas = landscape.alphas, landscape.betas
    assert alphas is not None  # noqa: S101 - the caller has a plane
    assert betas is not None  # noqa: S101
    evaluated = np.asarray(landscape.known, dtype=np.bool_)
    values = display_values(landscape, metric)
    rows, columns = thin(evaluated, limit), thin(evaluated.T, limit)
    return PlaneNumbers(
        alphas=alphas[columns],
        betas=betas[rows],
        values=values[np.ix_(rows, columns)],
        evaluated=evaluated[np.ix_(rows, columns)],
        points=evaluated.size,
        missing=int(np.count_nonzero(~evaluated)),
        non_finite=int(np.count_nonzero(evaluated & np.isnan(values))),
    )


def display_values(landscape: Landscape, metric: str) -> NDArray[np.float64]:
    """Return a surface as people read it.

    Args:
        landscape: Any.
        metric: Name of one of its surfaces.

    Returns:
        A copy shaped like the surface: fractions in percent, NaN where a value is not
        finite or is not known.
    """
    values = drawable_values(landscape.surfaces[metric], percent=is_percent(metric))
    values[~landscape.known] = np.nan
    return values


def center_value(landscape: Landscape, metric: str) -> NDArray[np.float64]:
    """Return the value at the center as people read it.

    Args:
        landscape: Any.
        metric: Name of a metric.

    Returns:
        One value [1], in percent for fractions; NaN if it is not known or not finite.
    """
    value = np.array([landscape.center.get(metric, np.nan)], dtype=np.float64)
    return drawable_values(value, percent=is_percent(metric))


def drawable_values(values: NDArray[np.float64], *, percent: bool) -> NDArray[np.float64]:
    """Return values that the arithmetic of a picture can bear.

    Args:
        values: Any shape.
        percent: Whether the values are fractions, wanted in percent.

    Returns:
        A copy: NaN where not finite; above 1e40 in magnitude 1e40, below 1e-40 zero.
    """
    finite = np.isfinite(values)
    drawable = np.clip(np.where(finite, values, 0.0), -LARGEST, LARGEST)
    drawable[np.abs(drawable) < 1.0 / LARGEST] = 0.0
    drawable[~finite] = np.nan
    return drawable * 100.0 if percent else drawable


def cell_edges(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the borders half way between coordinates, and as far outside the ends.

    Args:
        coordinates: [n], increasing, n at least 2.

    Returns:
        [n + 1]: coordinate k lies in the cell from k to k + 1.
    """
    middles = (coordinates[:-1] + coordinates[1:]) / 2
    first = coordinates[0] - (middles[0] - coordinates[0])
    last = coordinates[-1] + (coordinates[-1] - middles[-1])
    return np.concatenate(([first], middles, [last]))


def any_corner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which quadrangles have a marked corner.

    Args:
        mask: [n, m].

    Returns:
        [n - 1, m - 1].
    """
    return mask[:-1, :-1] | mask[:-1, 1:] | mask[1:, :-1] | mask[1:, 1:]


def rectangles(
    mask: NDArray[np.bool_], x_edges: NDArray[np.float64], y_edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return few rectangles that cover the marked cells.

    Args:
        mask: [n, m].
        x_edges: [m + 1].
        y_edges: [n + 1].

    Returns:
        [k, 4]: left, bottom, right, top; each a run of neighbours in one row.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    changes = np.diff(padded, axis=1)
    rows, starts = np.nonzero(changes == 1)
    stops = np.nonzero(changes == -1)[1]
    return np.stack(
        [x_edges[starts], y_edges[rows], x_edges[stops], y_edges[rows + 1]], axis=1
    )
