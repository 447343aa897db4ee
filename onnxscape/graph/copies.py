"""Copies: weights that an export wrote down twice, with the same values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.parameter import Role

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from onnxscape.core.parameter import Parameter

_MIN_ELEMENTS = 16
"""Fewer values are equal too easily."""


def copies_among(parameters: Sequence[Parameter]) -> list[list[str]]:
    """Find weights that hold the same values, some perhaps transposed.

    Args:
        parameters: The model's parameters.

    Returns:
        The names of those that belong together, two or more in each group.
    """
    candidates: dict[Hashable, list[Parameter]] = {}
    for parameter in parameters:
        if parameter.role is Role.WEIGHT and parameter.values.size >= _MIN_ELEMENTS:
            fingerprint = _fingerprint(parameter)
            if fingerprint is not None:
                candidates.setdefault(fingerprint, []).append(parameter)
    groups = []
    for alike in candidates.values():
        left = alike
        while left:
            first, *others = left
            same = [p for p in others if _equal(first, p)]
            if same:
                groups.append([first.name, *(p.name for p in same)])
            left = [p for p in others if p not in same]
    return groups


def _fingerprint(parameter: Parameter) -> Hashable | None:
    """Return what no transposition changes; None if all values are equal."""
    values = parameter.values
    low, high = values.min(), values.max()
    if low == high:
        return None
    shape = tuple(sorted(parameter.shape))
    return values.dtype, shape, low, high, np.count_nonzero(values > 0)


def _equal(one: Parameter, other: Parameter) -> bool:
    if one.shape == other.shape and np.array_equal(one.values, other.values):
        return True
    return one.shape == other.shape[::-1] and np.array_equal(one.values, other.values.T)
