"""Statistics of per-sample results: means, totals, and the standard error of the loss."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Over(StrEnum):
    """What the per-sample values of a result are put together over."""

    SAMPLES = "samples"
    """The mean over samples."""
    POSITIONS = "positions"
    """Values are sums over positions; the mean over all positions that count."""
    TOTAL = "total"
    """The plain sum, of counts."""


_FEW = 500
"""Values up to which `math.fsum` is the faster way."""

_PIECE = 2**13
"""Values at a time: what is computed of them stays in the processor's caches."""


def exact_sum(values: NDArray[np.float64]) -> float:
    """Return a sum rounded once: what `math.fsum` gives, in a fraction of its time.

    Values are whole multiples of a power of two, the same for all of one exponent. Cut into
    halves of 27 and 26 bits, those of one exponent are added up without any rounding, and
    `math.fsum` adds what is left: two numbers for each exponent.

    Args:
        values: [n], finite.

    Returns:
        The sum.

    Raises:
        OverflowError: If it leaves float64.
    """
    if values.size <= _FEW:
        return math.fsum(values.tolist())
    if (
        float(np.abs(values).max()) * values.size < 2.0**53
        and (np.floor(values) == values).all()
    ):
        return float(values.sum())  # whole numbers, of hits for instance: nothing is rounded
    pieces = np.split(values, range(_PIECE, values.size, _PIECE))
    terms = np.concatenate([_by_exponent(piece) for piece in pieces])
    if not np.isfinite(terms).all():
        raise OverflowError("the sum leaves float64")
    return math.fsum(terms.tolist())


def _by_exponent(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a few numbers that add up to some values exactly; infinite if they are too large.

    Sums of up to 2^26 halves of 27 bits are whole numbers that float64 holds.
    """
    mantissas, exponents = np.frexp(values)
    mantissas *= 2.0**27
    high = np.floor(mantissas)
    low = (mantissas - high) * 2.0**26
    least = int(exponents.min())
    bins = exponents.astype(np.intp) - least
    highs, lows = (np.bincount(bins, weights=part) for part in (high, low))
    powers = np.arange(len(highs), dtype=np.int64) + least - 53
    with np.errstate(over="ignore"):
        return np.concatenate([np.ldexp(highs, powers + 26), np.ldexp(lows, powers)])


def exact_mean(
    values: NDArray[np.float64], shares: NDArray[np.float64] | None = None
) -> float:
    """Return a mean whose sum is rounded once.

    The sum is exact (`exact_sum`), hence the same for any order and any batch size. A value
    that is not finite makes the mean not finite, as IEEE arithmetic has it.

    Args:
        values: [n], n at least 1.
        shares: [n], what each value is a sum of, so that the mean is sum(values) divided by
            sum(shares); None if each is one.

    Returns:
        The mean.
    """
    size = values.size if shares is None else exact_sum(shares)
    if not np.isfinite(values).all():
        with np.errstate(invalid="ignore", over="ignore"):
            return float(values.sum() / size)
    try:
        return exact_sum(values) / size
    except OverflowError:
        # The sum leaves float64, the mean does not; powers of two divide exactly.
        scaled, exponent = _scaled(values)
        return math.ldexp(exact_sum(scaled) / size, exponent)


def standard_error(
    losses: NDArray[np.float64],
    population: int,
    shares: NDArray[np.float64] | None = None,
    *,
    mean: float | None = None,
) -> float:
    """Return the standard error of the mean of a subset drawn without replacement.

    s / sqrt(n) * sqrt(1 - n/N), s with ddof = 1 (Cochran, "Sampling Techniques", eq. 2.20).
    With shares the mean is a ratio of two sums, and s that of the residuals
    losses - mean * shares, divided by the mean share (ibid., eq. 6.13).

    Args:
        losses: Per-sample losses [n].
        population: N, the number of samples they were drawn from.
        shares: As for `exact_mean`.
        mean: Their `exact_mean`, if it is known.

    Returns:
        The standard error; 0 if all N were used, NaN if n < 2 or a loss is not finite.
    """
    n = losses.size
    if n < 2 or not np.isfinite(losses).all():
        return math.nan
    scaled, exponent = _scaled(losses)
    middle = exact_mean(losses, shares) if mean is None else mean
    middle = math.ldexp(middle, -exponent)
    residuals = scaled - (middle if shares is None else middle * shares)
    variance = exact_sum(residuals**2) / (n - 1)
    error = math.sqrt(variance / n * (1.0 - n / population))
    if shares is not None:
        error /= exact_mean(shares)
    return math.ldexp(error, exponent)


def _scaled(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return values / 2^e, none above 1 in magnitude, and e: their squares are finite."""
    exponent = math.frexp(float(np.abs(values).max()))[1]
    return np.ldexp(values, -exponent), exponent


def summarize(
    results: dict[str, tuple[NDArray[np.float64], Over]],
    population: int,
    *,
    weights: NDArray[np.float64] | None = None,
    counted: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """Reduce per-sample results to the metrics of one point.

    Args:
        results: Name, `loss` among them, to values [n] and what they are put together over.
        population: Number of samples the n were drawn from.
        weights: Weight of each sample [n]; None if all are 1. A sample of weight 0 does not
            count, whatever its values.
        counted: Number of positions of each sample that count [n]; None if each is one.

    Returns:
        Each result's mean or total, and `loss_stderr`.
    """
    metrics = {}
    for name, (values, over) in results.items():
        if over is Over.TOTAL:
            metrics[name] = math.fsum(values.tolist())
            continue
        shares = counted if over is Over.POSITIONS else None
        if weights is not None:
            shares = weights if shares is None else weights * shares
            with np.errstate(invalid="ignore"):
                values = np.where(weights == 0.0, 0.0, values * weights)  # noqa: PLW2901
        metrics[name] = exact_mean(values, shares)
        if name == "loss":
            metrics["loss_stderr"] = standard_error(
                values, population, shares, mean=metrics[name]
            )
    return metrics
