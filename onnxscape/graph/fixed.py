"""Fixed tensors: values that show they were computed by a formula, not trained.

Operators do not tell a Fourier basis from the filters of a convolution, nor a mask from a
bias. Their values do: no training ends in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIN_FREQUENCIES = 8
_MIN_LENGTH = 32
_MIN_ROWS = 8
_TOLERANCE = 1e-3
_HIDDEN = -1e4
"""Added to a score by a mask: so low that its softmax is zero."""
_GLANCE = 4096
"""Elements looked at before all are."""


def fixed_filters(filters: NDArray[np.floating]) -> str | None:
    """Recognize the filters of a spectrum.

    Args:
        filters: A weight as its operator uses it [filters, elements].

    Returns:
        `a Fourier basis`, `a mel filter bank`, or None.
    """
    if filters.shape[0] < _MIN_FREQUENCIES or filters.shape[1] < _MIN_LENGTH:
        return None
    if not np.isfinite(filters).all():
        return None
    if _is_fourier(filters):
        return "a Fourier basis"
    return "a mel filter bank" if _is_filter_bank(filters) else None


def fixed_table(table: NDArray[np.floating]) -> str | None:
    """Recognize a table that is added to, or multiplied with, what the model computes.

    Args:
        table: Its values.

    Returns:
        `a mask`, `sines and cosines of the position`, or None.
    """
    if table.size < 2 or np.isnan(table).any():
        return None
    if table.min() <= _HIDDEN or len(_few_values(table)) == 2:
        return "a mask"
    return _sines(table)


def fixed_rows(rows: NDArray[np.floating]) -> str | None:
    """Recognize a table whose rows are looked up, where embeddings stand.

    An embedding may have been trained to two values. Those of a mask show what it is for: it
    hides by a factor of zero, or by what it adds.

    Args:
        rows: Its values.

    Returns:
        `a mask`, `sines and cosines of the position`, or None.
    """
    if rows.size < 2 or np.isnan(rows).any():
        return None
    values = _few_values(rows)
    if len(values) == 2 and (
        list(values) == [0, 1] or (values[0] <= _HIDDEN and not values[1])
    ):
        return "a mask"
    return _sines(rows)


def _few_values(table: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the values that occur in a table, the smallest first; none if they are many."""
    if len(np.unique(table.ravel()[:_GLANCE])) > 2:
        return table[:0].ravel()
    return np.unique(table)


def _sines(table: NDArray[np.floating]) -> str | None:
    wide = [size for size in table.shape if size > 1]
    if len(wide) == 2 and _is_sinusoidal(table.reshape(wide)):
        return "sines and cosines of the position"
    return None


def _is_fourier(filters: NDArray[np.floating]) -> bool:
    """Return whether the filters are sines and cosines of frequencies one step apart.

    Windows, and zeros around them, widen a peak but do not move it. The frequencies stand
    once (cosines or sines), twice (first all cosines, then all sines) or in turn.
    """
    count, length = filters.shape
    sizes = {length, 1 << (length - 1).bit_length()}
    for order in (
        np.arange(count),
        np.tile(np.arange(count // 2), 2),
        np.repeat(np.arange(count // 2), 2),
    ):
        if len(order) != count or order.max() < _MIN_FREQUENCIES - 1:
            continue
        for size in sizes:
            expected = order * (length / size)
            if 2 * order.max() > size:
                continue
            some = np.linspace(0, count - 1, 6).astype(int)  # most weights are done with these
            if _peak_at(filters[some], expected[some]) and _peak_at(filters, expected):
                return True
    return False


def _peak_at(filters: NDArray[np.floating], frequencies: NDArray[np.float64]) -> bool:
    """Return whether the energy of every filter lies around a frequency, in bins."""
    energy = np.abs(np.fft.rfft(filters.astype(np.float64), axis=1)) ** 2
    total = energy.sum(axis=1)
    if not total.any():
        return False
    loud = total > _TOLERANCE * total.max()  # the sine of frequency 0 is silent
    bins = np.arange(energy.shape[1])
    window = np.count_nonzero(filters.any(axis=0))
    near = np.abs(bins - frequencies[:, None]) <= 3 * filters.shape[1] / window
    return bool(((energy * near).sum(axis=1) >= 0.9 * total)[loud].all())


def _is_filter_bank(filters: NDArray[np.floating]) -> bool:
    """Return whether the filters are bumps without holes, each behind the one before."""
    if (filters < 0).any() or np.count_nonzero(filters) > 0.5 * filters.size:
        return False
    on = filters > 0
    widths = on.sum(axis=1)
    firsts = on.argmax(axis=1)
    lasts = on.shape[1] - 1 - on[:, ::-1].argmax(axis=1)
    used = widths > 0
    solid = (lasts - firsts + 1 == widths)[used].all()
    onwards = (np.diff(firsts[used]) >= 0).all() and (np.diff(lasts[used]) >= 0).all()
    return bool(solid and onwards and np.count_nonzero(widths >= 3) >= 0.5 * len(filters))


def _is_sinusoidal(table: NDArray[np.floating]) -> bool:
    """Return whether every column goes like a sine of the row's number.

    Of any frequency and phase: sin(a(t+1) + b) + sin(a(t-1) + b) = 2 cos(a) sin(at + b).
    """
    if len(table) < _MIN_ROWS or np.abs(table).max() > 1 + _TOLERANCE:
        return False
    for rows in (table[: 4 * _MIN_ROWS], table):  # most tables are done with the first
        columns = rows.astype(np.float64)
        around, middle = columns[2:] + columns[:-2], columns[1:-1]
        squares = (middle * middle).sum(axis=0)
        factors = (around * middle).sum(axis=0) / np.where(squares == 0, 1.0, squares)
        if np.abs(around - factors * middle).max() > _TOLERANCE:
            return False
    return bool(np.ptp(table, axis=0).max() > 0.5)
