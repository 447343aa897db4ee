"""What a request says about evaluating less, as fields of the spec."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from onnxscape.core.samples import SUBSET, Growth
from onnxscape.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.core.loss import Loss
    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.request import EvalRequest

DEFAULT_TOLERANCE = 0.05
"""Relative error of interpolated losses where nothing is said."""


AUTO = "auto"
"""What `samples` is where each point takes as many as its standard error asks for."""


def growth(request: EvalRequest) -> Growth | None:
    """Return how many samples a point takes.

    Args:
        request: The request.

    Returns:
        None where every point takes all that are used.

    Raises:
        UsageError: If `samples` and `stderr` contradict one another, or the error is out of
            range.
    """
    if request.samples != AUTO:
        if request.stderr is not None:
            raise UsageError(
                f"--stderr {request.stderr:g} says how many samples a point takes with "
                f"--samples auto, got --samples {request.samples or 'default'}; use both"
            )
        return None
    stderr = request.stderr
    if stderr is None or not (math.isfinite(stderr) and stderr > 0):
        found = "nothing" if stderr is None else f"{stderr:g}"
        raise UsageError(
            "--samples auto needs --stderr, the standard error of the loss to reach, above 0 "
            f"such as 0.01; got {found}"
        )
    return Growth(float(stderr))


def check_growth(wanted: Growth | None, loss: Loss) -> None:
    """Refuse to wait for the standard error of a loss that has none.

    Args:
        wanted: How many samples a point takes.
        loss: The loss.

    Raises:
        UsageError: If it is one number for a whole batch.
    """
    if wanted is not None and loss.per_batch:
        raise UsageError(
            "--samples auto needs a loss for each sample to know its standard error, got one "
            "for a whole batch; give a number of samples"
        )


def check_two_level(samples: Samples, loss: Loss, metrics: Sequence[str]) -> None:
    """Refuse a subset that is none, or that has no metrics of its own.

    Args:
        samples: All samples of the run, with their subset.
        loss: The loss.
        metrics: Names of the further metrics.

    Raises:
        UsageError: If the subset is not smaller than the whole, if none of it counts, if the
            loss is one number for a whole batch, or if a metric's name is taken.
    """
    few = samples.subset
    if few is None:
        return
    if not 1 <= few < len(samples):
        raise UsageError(
            f"expected --two-level as a number of samples from 1 to {len(samples) - 1}, fewer "
            f"than the {len(samples)} of this run, got {few}; a tenth of them is a good start"
        )
    if loss.per_batch:
        raise UsageError(
            "--two-level needs a loss for each sample, got one for a whole batch; leave it out"
        )
    if not samples.counts(few, loss):
        raise UsageError(
            f"expected --two-level as a number of samples of which one counts, got {few}, all "
            "of weight 0 or without a label that counts; give more"
        )
    taken = [name for name in metrics if name.startswith(SUBSET)]
    if taken:
        raise UsageError(
            f"with --two-level the surface holds metrics of the subset, called {SUBSET}...; "
            f"got the metric {taken[0]!r}; rename its file"
        )


def two_level(request: EvalRequest) -> int | None:
    """Return on how many of the samples most points are evaluated.

    Args:
        request: The request.

    Returns:
        None where all points take all.

    Raises:
        UsageError: If it is no number of samples, or another way to save evaluations is asked
            for as well.
    """
    if request.two_level is None:
        return None
    try:
        few = operator.index(request.two_level)
    except TypeError:
        raise UsageError(
            f"expected --two-level as a number of samples such as 100, got "
            f"{request.two_level!r}"
        ) from None
    others = {"--adaptive": request.adaptive, "--samples auto": request.samples == AUTO}
    for name, wanted in others.items():
        if wanted:
            raise UsageError(
                f"expected one of --two-level and {name}, got both: the correction needs the "
                "same samples at all points, and few samples at most; leave out one of them"
            )
    return few


def approximation(request: EvalRequest) -> dict[str, Any]:
    """Return the fields of the spec that say which evaluations are saved.

    Args:
        request: The request.

    Returns:
        Field to value; none where all samples are evaluated at all points.

    Raises:
        UsageError: If the options contradict one another, or a number is out of range.
    """
    samples = growth(request)
    fields: dict[str, Any] = {} if samples is None else {"stderr": samples.stderr}
    few = two_level(request)
    if few is not None:
        fields |= {"two_level": few}
    if not request.adaptive:
        if request.tolerance is not None:
            raise UsageError(
                f"--tolerance {request.tolerance:g} says how well --adaptive interpolates; "
                "add --adaptive, or leave it out"
            )
        return fields
    tolerance = DEFAULT_TOLERANCE if request.tolerance is None else request.tolerance
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise UsageError(
            f"expected --tolerance as a relative error above 0 such as 0.05, got {tolerance:g}"
        )
    return fields | {"tolerance": float(tolerance)}
