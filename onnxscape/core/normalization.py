"""Normalization: giving a direction the scale of the weights.

Source: Li et al., "Visualizing the Loss Landscape of Neural Nets" (NeurIPS 2018), section 4,
and its reference implementation for the variants and the 1e-10 in the denominators.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPSILON = 1e-10
"""Added to a filter's norm by the reference implementation, so that zero filters stay zero."""


class Normalization(StrEnum):
    """How a direction d is scaled by the weights w; j counts filters."""

    FILTER = "filter"
    """d_j |w_j| / |d_j|: every filter gets the norm of the weights' filter."""
    LAYER = "layer"
    """d |w| / |d|: every tensor gets the norm of the weights' tensor."""
    WEIGHT = "weight"
    """d w, element by element."""
    DFILTER = "dfilter"
    """d_j / |d_j|: every filter gets norm 1."""
    DLAYER = "dlayer"
    """d / |d|: every tensor gets norm 1."""
    NONE = "none"
    """d as drawn."""


def normalize(
    direction: NDArray[np.floating],
    weights: NDArray[np.floating],
    normalization: Normalization,
) -> NDArray[np.float64]:
    """Scale a direction by the weights.

    Args:
        direction: Noise [filters, elements].
        weights: Trained values [filters, elements].
        normalization: The rule.

    Returns:
        The scaled direction, float64 [filters, elements].
    """
    d = direction.astype(np.float64)
    w = weights.astype(np.float64)
    match normalization:
        case Normalization.FILTER:
            return d * (_row_norms(w) / (_row_norms(d) + _EPSILON))
        case Normalization.LAYER:
            return d * (np.linalg.norm(w) / _norm_or_one(d))
        case Normalization.WEIGHT:
            return d * w
        case Normalization.DFILTER:
            return d / (_row_norms(d) + _EPSILON)
        case Normalization.DLAYER:
            return d / _norm_or_one(d)
        case Normalization.NONE:
            return d


def _row_norms(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.linalg.norm(matrix, axis=1, keepdims=True)
    return norms


def _norm_or_one(matrix: NDArray[np.float64]) -> float:
    # Noise of zeros has no direction to keep: it stays zero.
    return float(np.linalg.norm(matrix)) or 1.0
