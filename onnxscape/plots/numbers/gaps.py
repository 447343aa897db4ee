"""What to show between the points of an unfinished plane, and which points to leave out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nearest_evaluated(
    evaluated: NDArray[np.bool_],
    alphas: NDArray[np.float64],
    betas: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return for each point of a plane the nearest one that was evaluated.

    Jump flooding (Rong and Tan, I3D 2006): work grows with the number of points times the
    logarithm of the longer axis; a point can be given one that is barely not the nearest.

    Args:
        evaluated: [n_beta, n_alpha].
        alphas: Steps along delta [n_alpha].
        betas: Steps along eta [n_beta].

    Returns:
        Flat indices [n_beta, n_alpha]; -1 everywhere if no point was evaluated.
    """
    rows, columns = evaluated.shape
    flat = np.arange(evaluated.size).reshape(evaluated.shape)
    nearest = np.where(evaluated, flat, -1)
    x, y = np.meshgrid(alphas, betas)

    def distance(candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        squared = (alphas[candidates % columns] - x) ** 2
        squared += (betas[candidates // columns] - y) ** 2
        return np.where(candidates < 0, np.inf, squared)

    best = distance(nearest)
    step = 1 << max(rows - 1, columns - 1, 1).bit_length()
    # The last two rounds with step 1 mend most of what jump flooding gets wrong.
    while step := step // 2:
        for down, right in ((d, r) for d in (-step, 0, step) for r in (-step, 0, step)):
            moved = _moved(nearest, down, right)
            squared = distance(moved)
            closer = squared < best
            nearest = np.where(closer, moved, nearest)
            best = np.where(closer, squared, best)
    return nearest


def interpolate_gaps(
    values: NDArray[np.float64],
    evaluated: NDArray[np.bool_],
    alphas: NDArray[np.float64],
    betas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fill points not evaluated, linearly between evaluated ones, first along rows.

    The coarse-to-fine order evaluates whole rows and columns of a coarser grid first; there
    this is bilinear interpolation. Nothing is extrapolated, and nothing is made up next to
    a value that is not finite.

    Args:
        values: [n_beta, n_alpha], NaN where not finite.
        evaluated: [n_beta, n_alpha].
        alphas: Steps along delta [n_alpha].
        betas: Steps along eta [n_beta].

    Returns:
        Values [n_beta, n_alpha], NaN where there is nothing to show.
    """
    filled = values.copy()
    known = evaluated.copy()
    for coordinates, lines, marks in (
        (alphas, filled, known),
        (betas, filled.T, known.T),
    ):
        for line, mark in zip(lines, marks, strict=True):
            if mark.any() and not mark.all():
                have = np.flatnonzero(mark)
                inner = np.arange(have[0], have[-1] + 1)
                inner = inner[~mark[inner]]
                line[inner] = np.interp(coordinates[inner], coordinates[have], line[have])
                mark[inner] = True
    return filled


def thin(evaluated: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
    """Choose at most `limit` positions along the first axis, the ends among them.

    Args:
        evaluated: [n] or [n, m]; positions with more evaluated points are preferred.
        limit: At least 2.

    Returns:
        Increasing indices.
    """
    n = len(evaluated)
    if n <= limit:
        return np.arange(n)
    counts = evaluated.reshape(n, -1).sum(axis=1)
    bounds = np.linspace(0, n, limit + 1).astype(np.int64)
    chosen = [
        low + int(counts[low:high].argmax())
        for low, high in itertools.pairwise(bounds.tolist())
    ]
    chosen[0], chosen[-1] = 0, n - 1
    return np.asarray(chosen, dtype=np.int64)


def _moved(values: NDArray[np.int64], down: int, right: int) -> NDArray[np.int64]:
    """Return values shifted over the plane, -1 where nothing came from."""
    moved = np.full_like(values, -1)
    rows, columns = values.shape
    if abs(down) < rows and abs(right) < columns:
        target = (_span(down, rows), _span(right, columns))
        source = (_span(-down, rows), _span(-right, columns))
        moved[target] = values[source]
    return moved


def _span(shift: int, size: int) -> slice:
    return slice(max(shift, 0), size + min(shift, 0))
