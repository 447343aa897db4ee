"""Two levels of samples: all points on a few, a coarse grid on all, and the difference.

The loss on all samples is that on the first few plus a difference, which is smooth where
neighbouring points share their samples: L(p) ~ L_few(p) + interpolated(L_all - L_few)(p). A
control variate with the cheap level everywhere and the expensive one where it takes it (Giles,
"Multilevel Monte Carlo methods", Acta Numerica 2015, section 1; here the correction is
interpolated on a grid, not averaged).

Where losses are positive, the same may be done with their logarithms: L_few(p) times an
interpolated ratio. A difference that is small on a slope is large in the basin beside it,
where the loss is a thousandth of that; a ratio is not. Which way to go, the coarse grid tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.interpolation import CUBIC, NestedGrids
from onnxscape.core.refinement import FIRST_LEVEL, floor_of, held_out_points, relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.grid import Grid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwoLevels:
    """Which points of a grid are evaluated on all samples.

    Attributes:
        nested: The grids of bisection.
        coarse: Where the difference is known before it is interpolated: the points of the
            first levels, 9 along an axis that has so many [n_beta, n_alpha].
        held_out: Where it is interpolated first, to see the error: chosen at random, the same
            in every run [n_beta, n_alpha].
        whole: All of them, and the center if the grid holds it [n_beta, n_alpha].
    """

    nested: NestedGrids
    coarse: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    whole: NDArray[np.bool_]

    @classmethod
    def of(cls, grid: Grid) -> TwoLevels:
        """Return the points of a grid; no loss has a say.

        Args:
            grid: A plane or a line.
        """
        nested = NestedGrids(grid)
        coarse = nested.levels <= FIRST_LEVEL
        whole = coarse.copy()
        center = grid.center()
        if center.row >= 0:
            whole[center.row, center.column] = True
        held_out = held_out_points(np.flatnonzero(~whole), 0, nested.shape)
        return cls(nested=nested, coarse=coarse, held_out=held_out, whole=whole | held_out)

    def corrected(
        self,
        on_all: NDArray[np.float64],
        on_few: NDArray[np.float64],
        width: int = CUBIC,
        *,
        log: bool = False,
        known: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        """Estimate what all samples give from what a few of them do.

        Args:
            on_all: [n_beta, n_alpha], of which only the coarse points are looked at.
            on_few: [n_beta, n_alpha], all points.
            width: Nodes of the polynomials that the difference is interpolated by.
            log: Whether it is the difference of logarithms; all values must be positive.
            known: Another coarse grid, of a level [n_beta, n_alpha].

        Returns:
            [n_beta, n_alpha]; not finite where one of its values is not.
        """
        at = self.coarse if known is None else known
        difference = np.zeros(self.nested.shape)
        with np.errstate(invalid="ignore", over="ignore"):
            if log:
                difference[at] = np.log(on_all[at]) - np.log(on_few[at])
            else:
                difference[at] = on_all[at] - on_few[at]
            difference[~np.isfinite(difference)] = np.nan
            filled = self.nested.fill(difference, at, width)
            return np.asarray(on_few * np.exp(filled) if log else on_few + filled)

    def takes_logarithms(
        self, on_all: NDArray[np.float64], on_few: NDArray[np.float64]
    ) -> bool:
        """Return whether logarithms of the loss are to be corrected, not the loss.

        The last level of the coarse grid is predicted in both ways from the one below it; the
        way with the smaller largest error is taken.

        Args:
            on_all: [n_beta, n_alpha], of which only the coarse points are looked at.
            on_few: [n_beta, n_alpha], all points.

        Returns:
            False also where a loss is not positive, or there is nothing to tell from.
        """
        last = min(FIRST_LEVEL, self.nested.finest)
        seen = self.coarse & (self.nested.levels == last) & np.isfinite(on_all)
        if last == 0 or not seen.any() or (on_all[self.coarse] <= 0).any():
            return False
        if (on_few <= 0).any():
            return False
        floor, below = floor_of(on_all[self.coarse]), self.nested.levels < last
        errors = []
        for log in (False, True):
            predicted = self.corrected(on_all, on_few, log=log, known=below)
            found = relative_error(predicted[seen], on_all[seen], floor)
            errors.append(float(found[np.isfinite(found)].max(initial=0.0)))
        return errors[1] < errors[0]

    def beyond_correction(self, losses: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return where no difference can be interpolated [n_beta, n_alpha].

        Args:
            losses: On all samples [n_beta, n_alpha], of which only the coarse points are
                looked at.

        Returns:
            True around coarse points whose loss is not finite.
        """
        zero = np.zeros(self.nested.shape)
        finite = np.where(np.isfinite(losses), 0.0, np.nan)
        return np.isnan(self.corrected(finite, zero))
