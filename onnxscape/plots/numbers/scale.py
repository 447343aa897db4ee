"""The scale of a figure: linear or logarithmic, its ends, contour levels and ticks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

SCALES = ("auto", "linear", "log")
"""What `scale` may be."""

LOG_RATIO = 50.0
"""From this ratio of largest to smallest value on, small ones vanish on a linear axis."""

REFERENCE_LEVELS = tuple(round(0.1 + 0.5 * k, 1) for k in range(20))
"""Contour levels of the reference implementation: `numpy.arange(0.1, 10, 0.5)`."""

LARGEST = 1e40
"""No step and no value is drawn as larger, none but zero as smaller than its inverse.

float32 ends before; far beyond, matplotlib's arithmetic overflows.
"""

MAX_LEVELS = 200
"""More contour lines than this are a blot."""

_MANTISSAS = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
)
"""Levels within a decade, coarse to fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How values become heights and colors.

    Attributes:
        log: Whether the scale is logarithmic; then `low` is above 0.
        low: Value at the lower end.
        high: Value at the upper end, above `low`.
        flat: Whether all values are equal, or none is finite: there is nothing to contour.
        below: Whether some values lie under `low` and are drawn as if at `low`.
        above: Whether some values lie over `high` and are drawn as if at `high`.
    """

    log: bool
    low: float
    high: float
    flat: bool = False
    below: bool = False
    above: bool = False


def choose_scale(
    values: NDArray[np.float64],
    *,
    wanted: str = "auto",
    vmin: float | None = None,
    vmax: float | None = None,
    percent: bool = False,
) -> Scale:
    """Decide how values are drawn.

    `auto` is logarithmic if all finite values are positive and the largest is more than
    `LOG_RATIO` times the smallest, except for percentages and where the contour levels of
    the reference implementation fit. Where a logarithm is impossible and a few values dwarf
    all others, the scale is linear and ends below them.

    Args:
        values: Any shape; values that are not finite do not count.
        wanted: One of `SCALES`.
        vmin: Lower end, if not the smallest value.
        vmax: Upper end, if not the largest value.
        percent: Whether the values are percentages.

    Returns:
        The scale.

    Raises:
        UsageError: If `wanted` is unknown, a logarithm is wanted of values that are not
            positive, or the ends leave no range.
    """
    if wanted not in SCALES:
        raise UsageError(f"scale must be one of {', '.join(SCALES)}, got {wanted!r}")
    _check_end("vmin", vmin)
    _check_end("vmax", vmax)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if wanted == "log" and finite.size:
        _check_logarithm(finite, vmin, vmax)
    log = finite.size > 0 and (
        wanted == "log"
        or (wanted == "auto" and not percent and _asks_for_log(low, high, vmin, vmax))
    )
    flat = not finite.size or _too_close(low, high)
    bottom, top = low, high
    if wanted == "auto" and not log and not percent:
        top = _robust_end(finite, top)
    bottom = bottom if vmin is None else float(vmin)
    top = top if vmax is None else float(vmax)
    if flat and _too_close(bottom, top):
        bottom, top = _widen(bottom, top, vmin=vmin, vmax=vmax, log=log)
    if _too_close(bottom, top):
        raise UsageError(
            f"vmin must be below vmax, got {bottom:g} and {top:g}; "
            f"the values run from {low:g} to {high:g}"
        )
    return Scale(
        log=log,
        low=bottom,
        high=top,
        flat=flat,
        below=bool(finite.size) and low < bottom,
        above=bool(finite.size) and high > top,
    )


def choose_levels(
    scale: Scale, wanted: int | Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Return the values at which contour lines are drawn.

    Args:
        scale: Of the values.
        wanted: About how many levels, or the levels themselves; by default those of the
            reference implementation where they fit, else round numbers, evenly spaced on
            the scale.

    Returns:
        Levels [n], strictly increasing, between the ends of the scale; none if all values
        are equal.

    Raises:
        UsageError: If the levels wanted are too few, too many or not increasing.
    """
    if isinstance(wanted, int) and not 1 <= wanted <= MAX_LEVELS:
        raise UsageError(f"levels must be from 1 to {MAX_LEVELS}, got {wanted}")
    if wanted is not None and not isinstance(wanted, int):
        given = _check_levels(wanted)
        return np.empty(0) if scale.flat else _inside(given, scale)
    if scale.flat:
        return np.empty(0)
    if wanted is None and not scale.log and reference_levels_fit(scale.low, scale.high):
        return _inside(np.asarray(REFERENCE_LEVELS), scale)
    return round_values(scale, 14 if wanted is None else wanted)


def reference_levels_fit(low: float, high: float) -> bool:
    """Return whether the reference's levels show values from `low` to `high` well.

    Args:
        low: Smallest value.
        high: Largest value.

    Returns:
        True if at least 5 levels lie between, and none is missing at either end.
    """
    inside = sum(low < level < high for level in REFERENCE_LEVELS)
    return inside >= 5 and low >= 0.0 and high <= REFERENCE_LEVELS[-1] + 0.5


def round_values(scale: Scale, about: int) -> NDArray[np.float64]:
    """Return round numbers strictly inside a scale.

    Args:
        scale: Linear or logarithmic.
        about: Roughly how many, at least 1; never more than about twice as many.

    Returns:
        Values [n], strictly increasing, evenly spaced on the scale as far as round numbers
        are.
    """
    if scale.log:
        values = _round_logarithmic(scale.low, scale.high, about)
        if values.size >= min(about, 4):
            return values
    return _round_linear(scale.low, scale.high, about)


def ticks(scale: Scale, about: int = 6) -> tuple[NDArray[np.float64], list[str]]:
    """Return the ticks of an axis or color bar.

    Args:
        scale: Of the axis.
        about: Roughly how many.

    Returns:
        Positions [n] inside the scale or on its ends, and their labels.
    """
    slack = 1e-9 * (scale.high - scale.low)
    low = scale.low * (1 - 1e-9) if scale.log else scale.low - slack
    high = scale.high * (1 + 1e-9) if scale.log else scale.high + slack
    positions = round_values(Scale(log=scale.log, low=low, high=high), about)
    return positions, format_values(positions)


def format_values(values: NDArray[np.float64]) -> list[str]:
    r"""Write values with just as many digits as tell neighbours apart.

    Args:
        values: [n], increasing.

    Returns:
        One text per value: `0.25`, `1200`, or mathtext such as `$2{\times}10^{5}$`.
    """
    numbers = values.tolist()
    gaps = [b - a for a, b in itertools.pairwise(numbers)]
    texts = []
    for k, value in enumerate(numbers):
        near = gaps[max(k - 1, 0) : k + 1]
        texts.append(format_value(value, min(near, default=0.0)))
    return texts


def format_value(value: float, step: float = 0.0) -> str:
    """Write one value, resolved to `step`.

    Args:
        value: Any finite number.
        step: Distance to the nearest value to be told apart; 0 for four digits.

    Returns:
        Plain digits between 0.001 and 10000 or where there are many (with a true minus
        sign), else mathtext with a power of ten.
    """
    if value == 0.0 or abs(value) < 1e-6 * step:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-12)
    resolved = exponent - 3 if step <= 0 else math.floor(math.log10(step) + 1e-12) - 1
    digits = max(exponent - resolved, 0)
    # Many digits are read more easily without a power of ten.
    if -3 <= exponent < (4 if digits <= 4 else 12):
        return _strip(f"{value:.{max(-resolved, 0)}f}").replace("-", "−")
    mantissa = _strip(f"{value / 10.0**exponent:.{digits}f}")
    sign, mantissa = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    if mantissa == "1":
        return f"${sign}10^{{{exponent}}}$"
    return f"${sign}{mantissa}{{\\times}}10^{{{exponent}}}$"


def _check_end(name: str, value: float | None) -> None:
    if value is not None and not abs(value) <= LARGEST:
        raise UsageError(f"{name} must be a number up to {LARGEST:g}, got {value:g}")


def _check_logarithm(
    finite: NDArray[np.float64], vmin: float | None, vmax: float | None
) -> None:
    bad = int(np.count_nonzero(finite <= 0))
    if bad:
        raise UsageError(
            f"a log scale needs positive values, but {bad} of {finite.size} are not "
            f"(smallest {float(finite.min()):g}); use scale linear"
        )
    for name, value in (("vmin", vmin), ("vmax", vmax)):
        if value is not None and value <= 0:
            raise UsageError(f"a log scale needs a positive {name}, got {value:g}")


def _asks_for_log(low: float, high: float, vmin: float | None, vmax: float | None) -> bool:
    bottom = low if vmin is None else vmin
    top = high if vmax is None else vmax
    if low <= 0 or bottom <= 0 or top <= bottom or reference_levels_fit(bottom, top):
        return False
    return math.log10(top) - math.log10(bottom) > math.log10(LOG_RATIO)


def _robust_end(finite: NDArray[np.float64], top: float) -> float:
    """Return where a linear scale ends so that the lower half of the values is seen well."""
    if not finite.size or finite.min() > 0:
        return top
    low, middle = (float(q) for q in np.quantile(finite, (0.0, 0.5)))
    half = middle - low
    if not 0.0 < LOG_RATIO * half < top - low:
        return top
    return float(f"{middle + 4.0 * half:.1e}")


def _too_close(bottom: float, top: float) -> bool:
    return top - bottom <= 1e-9 * max(abs(bottom), abs(top))


def _widen(
    bottom: float, top: float, *, vmin: float | None, vmax: float | None, log: bool
) -> tuple[float, float]:
    """Return ends around a constant, unless the user's own ends contradict each other."""
    if vmin is not None and vmax is not None:
        return bottom, top
    pad = 0.05 * max(abs(bottom), abs(top)) or 0.05
    if vmax is None:
        top = max(bottom, top) + pad
    if vmin is None:
        bottom = min(bottom, top)
        bottom = bottom / 1.05 if log else bottom - pad
    return bottom, top


def _check_levels(wanted: Iterable[float]) -> NDArray[np.float64]:
    levels = np.asarray(list(wanted), dtype=np.float64)
    if not 1 <= levels.size <= MAX_LEVELS:
        raise UsageError(f"expected from 1 to {MAX_LEVELS} levels, got {levels.size}")
    if not (np.isfinite(levels).all() and (np.diff(levels) > 0).all()):
        raise UsageError(
            f"levels must be finite and increasing, got {', '.join(f'{v:g}' for v in levels)}"
        )
    return levels


def _inside(levels: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    return levels[(levels > scale.low) & (levels < scale.high)]


def _round_linear(low: float, high: float, about: int) -> NDArray[np.float64]:
    raw = (high - low) / (about + 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if m * power >= raw * 0.99)
    first, last = math.ceil(low / step), math.floor(high / step)
    # Multiples of the step, rounded to its own digits: 0.30000000000000004 is no round number.
    digits = 1 - math.floor(math.log10(step))
    values = [round(k * step, digits) for k in range(first, last + 1)]
    return np.asarray([v for v in values if low < v < high], dtype=np.float64)


def _round_logarithmic(low: float, high: float, about: int) -> NDArray[np.float64]:
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    best = np.empty(0)
    decades = last - math.ceil(math.log10(low)) + 1
    every = max(1, math.ceil(decades / about))
    for mantissas in _MANTISSAS if every == 1 else _MANTISSAS[:1]:
        values = [
            float(f"{m:g}e{e}")
            for e in range(first - first % every, last + 1, every)
            for m in mantissas
        ]
        inside = np.asarray([v for v in values if low < v < high], dtype=np.float64)
        if best.size and inside.size > about:
            break
        best = inside
    return best


def _strip(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
