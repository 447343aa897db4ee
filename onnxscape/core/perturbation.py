"""The step itself: theta + alpha * delta + beta * eta."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def displaced(
    theta: NDArray[np.floating],
    delta: NDArray[np.floating] | None,
    eta: NDArray[np.floating] | None,
    alpha: float,
    beta: float,
) -> NDArray[np.floating]:
    """Move one tensor; always from the center, so that no error accumulates.

    Args:
        theta: Trained values.
        delta: Direction of alpha, shaped like theta; None if it leaves this tensor alone.
        eta: Direction of beta, likewise.
        alpha: Step along delta.
        beta: Step along eta.

    Returns:
        The moved tensor, computed in float64 and rounded once to theta's type.
    """
    moved = theta.astype(np.float64)
    for step, direction in ((alpha, delta), (beta, eta)):
        if direction is not None and step != 0.0:
            moved += np.multiply(direction, step, dtype=np.float64)
    # Far steps may leave the range of float32: then infinity is the honest value.
    with np.errstate(over="ignore"):
        return moved.astype(theta.dtype)
