"""Statistics of per-sample losses: mean, accuracy, standard error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def exact_mean(values: NDArray[np.float64]) -> float:
    """Return the mean of a sum that is rounded once.

    The sum is exact (`math.fsum`), hence the same for any order and any batch size. A value
    that is not finite makes the mean not finite, as IEEE arithmetic has it.

    Args:
        values: [n], n at least 1.

    Returns:
        The mean.
    """
    if not np.isfinite(values).all():
        with np.errstate(invalid="ignore", over="ignore"):
            return float(values.sum() / values.size)
    try:
        return math.fsum(values.tolist()) / values.size
    except OverflowError:
        # The sum leaves float64, the mean does not; powers of two divide exactly.
        scaled, exponent = _scaled(values)
        return math.ldexp(math.fsum(scaled.tolist()) / values.size, exponent)


def standard_error(losses: NDArray[np.float64], population: int) -> float:
    """Return the standard error of the mean of a subset drawn without replacement.

    s / sqrt(n) * sqrt(1 - n/N), s with ddof = 1 (Cochran, "Sampling Techniques", eq. 2.20).

    Args:
        losses: Per-sample losses [n].
        population: N, the number of samples they were drawn from.

    Returns:
        The standard error; 0 if all N were used, NaN if n < 2 or a loss is not finite.
    """
    n = losses.size
    if n < 2 or not np.isfinite(losses).all():
        return math.nan
    scaled, exponent = _scaled(losses)
    mean = exact_mean(scaled)
    variance = math.fsum(((scaled - mean) ** 2).tolist()) / (n - 1)
    return math.ldexp(math.sqrt(variance / n * (1.0 - n / population)), exponent)


def _scaled(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return values / 2^e, none above 1 in magnitude, and e: their squares are finite."""
    exponent = math.frexp(float(np.abs(values).max()))[1]
    return np.ldexp(values, -exponent), exponent


def summarize(
    losses: NDArray[np.float64], hits: NDArray[np.bool_] | None, population: int
) -> dict[str, float]:
    """Reduce per-sample results to the metrics of one point.

    Args:
        losses: Per-sample losses [n].
        hits: Whether each sample was classified right [n]; None if that has no meaning.
        population: Number of samples the n were drawn from.

    Returns:
        `loss`, `loss_stderr`, and `accuracy` if there are hits. A sample whose loss is not
        finite counts as wrong: an arg-max over NaN hits by accident.
    """
    metrics = {
        "loss": exact_mean(losses),
        "loss_stderr": standard_error(losses, population),
    }
    if hits is not None:
        metrics["accuracy"] = float(np.count_nonzero(hits & np.isfinite(losses))) / losses.size
    return metrics
