"""What a request says about evaluating less, as fields of the spec."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from onnxscape.evaluation.request import EvalRequest

DEFAULT_TOLERANCE = 0.05
"""Relative error of interpolated losses where nothing is said."""


def approximation(request: EvalRequest) -> dict[str, Any]:
    """Return the fields of the spec that say which evaluations are saved.

    Args:
        request: The request.

    Returns:
        Field to value; none where everything is evaluated.

    Raises:
        UsageError: If the options contradict one another, or a number is out of range.
    """
    if not request.adaptive:
        if request.tolerance is not None:
            raise UsageError(
                f"--tolerance {request.tolerance:g} says how well --adaptive interpolates; "
                "add --adaptive, or leave it out"
            )
        return {}
    tolerance = DEFAULT_TOLERANCE if request.tolerance is None else request.tolerance
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise UsageError(
            f"expected --tolerance as a relative error above 0 such as 0.05, got {tolerance:g}"
        )
    return {"tolerance": float(tolerance)}
