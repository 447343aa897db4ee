"""The self-test: our evaluation must equal the user's own file, at the center and off it.

It catches at the start whatever could make a surface silently wrong: a pass that changed the
graph, a weight that did not arrive, an optimization that kept an old value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.perturbation import displaced
from onnxscape.errors import SelfTestError
from onnxscape.runtime.user_model import UserModel, sample_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.parameter import Parameter
    from onnxscape.runtime.bound_batches import BoundEvaluator
    from onnxscape.runtime.evaluator import PointEvaluator

TOLERANCE = 1e-4
"""Largest difference, as a fraction of the largest output."""

FLOOR = 1e-6
"""Difference that is never too large: what float32 leaves of sums of terms of about 1. Outputs
that are all below may be nothing but that noise."""

LOOSENED = {"float16": 2e-2, "bfloat16": 5e-2, "quantized": 5e-2}
"""The same at the center where the file rounds otherwise than its canonical form: half floats
after every operator, quantized operators where their integer kernels saturate."""

NARROW = {"tf32": 1e-2, "fp16": 2e-2, "bf16": 1e-1}
"""The same, at both points, where our evaluation rounds more than the user's file.

One rounding is off by up to u: 2^-11 in float16 and TF32, 2^-8 in bfloat16. A layer rounds its
weights, its input and its output (TF32 only the first two); independent roundings of d layers
add up to u sqrt(3 d). That of 100 layers, 0.0085 and 0.068 (TF32 0.0069), is rounded up.
"""

STEPS = 0.05
"""Share of whole numbers (classes found, truth values) that may be others: rounding may carry
a score over a step."""

_ADVICE = "please report this with the model; --strategy overriding may work"

_NARROW_ADVICE = (
    "use a more exact --precision (a float16 also reaches no further than 65504); if fp32 "
    "fails too, please report it with the model"
)

REPEATED = 1e-5
"""Largest difference of a batch that is run again: cuDNN may add up in another order."""

REPLAYED = 1e-2
"""Largest difference of losses between batches of different sizes on one device, or more where
`NARROW` allows for it: what far weights make of rounding. Weights left behind show at once."""

PERTURBED = (0.25, -0.125)
"""The point off the center: far enough that a weight left behind would show."""


def moved_parameters(
    parameters: Sequence[Parameter],
    delta: Direction | None,
    eta: Direction | None,
    alpha: float,
    beta: float,
) -> dict[str, NDArray[np.floating]]:
    """Return the user's own tensors at one point of the plane, those that move.

    Args:
        parameters: The model's parameters.
        delta: Direction of alpha.
        eta: Direction of beta.
        alpha: Step along delta.
        beta: Step along eta.

    Returns:
        Parameter name to values.
    """
    deltas = {} if delta is None else delta.tensors
    etas = {} if eta is None else eta.tensors
    return {
        p.name: displaced(p.values, deltas.get(p.name), etas.get(p.name), alpha, beta)
        for p in parameters
        if p.name in deltas or p.name in etas
    }


def self_test(
    evaluator: PointEvaluator,
    user: UserModel,
    parameters: Sequence[Parameter],
    delta: Direction | None,
    eta: Direction | None,
    feeds: Mapping[str, NDArray[np.generic]],
    *,
    elsewhere: bool = False,
) -> None:
    """Compare the evaluator with the user's file at the center and at a perturbed point.

    All outputs are compared that the evaluator says it computes results from.

    Args:
        evaluator: What will compute the surface.
        user: The user's file.
        parameters: Its parameters.
        delta: Direction of alpha.
        eta: Direction of beta.
        feeds: The first batch, or the first samples of it, by input name, without labels.
        elsewhere: Whether the evaluator runs on another device than the user's file: what is
            rounded to whole numbers then may fall to the other side.

    Raises:
        SelfTestError: If an output differs by more than the tolerance, or another one is not
            finite.
    """
    loosened = user.loosened
    narrow = NARROW.get(user.precision, TOLERANCE)
    tolerance = max([narrow, *(LOOSENED.get(why, TOLERANCE) for why in loosened)])
    advice = _NARROW_ADVICE if user.precision in NARROW else _ADVICE
    samples = sample_count(feeds)

    def ours(alpha: float, beta: float) -> dict[str, NDArray[Any]]:
        values = evaluator.outputs(alpha, beta)
        return {n: array[:samples] if array.ndim else array for n, array in values.items()}

    _compare_all(ours(0.0, 0.0), user.outputs(feeds), "at the center", tolerance, advice)
    alpha, beta = PERTURBED
    moved = moved_parameters(parameters, delta, eta, alpha, beta)
    expected = user.outputs_at(moved, feeds)
    where = f"at alpha = {alpha:g}, beta = {beta:g}"
    # The rebuilt file rounds like ours, unless half floats do.
    halves = user.precision == "native" and "float16" in loosened
    rounded = elsewhere and "quantized" in loosened
    looser = tolerance if halves or rounded else narrow
    _compare_all(ours(alpha, beta), expected, where, looser, advice)


def replay_test(
    evaluator: BoundEvaluator,
    tested: BoundEvaluator,
    *,
    precision: str = "fp32",
    mixing: bool = False,
) -> None:
    """Compare an evaluator, run as it will be, with one on fewer samples that was tested.

    A CUDA graph repeats what it recorded, so old weights would show only here: the first
    batch is run at the perturbed point, at the center, and there again; and without a graph.

    Args:
        evaluator: What will compute the surface.
        tested: The same on the first few samples; its self-test has passed.
        precision: Arithmetic of both.
        mixing: Whether results of a sample depend on the others in its batch, so that those
            of fewer samples are others.

    Raises:
        SelfTestError: If they differ.
    """
    where = f"at alpha = {PERTURBED[0]:g}, beta = {PERTURBED[1]:g}, in the batches of the run"
    tolerance = max(REPLAYED, NARROW.get(precision, 0.0))
    advice = _NARROW_ADVICE if precision in NARROW else _ADVICE
    points = (PERTURBED, (0.0, 0.0), PERTURBED)
    first, center, again = (evaluator.first_results(*point) for point in points)
    for result, repeated in zip(first, again, strict=True):
        compare(repeated, result, f"{where}, repeated", REPEATED)
    for point, results in ((PERTURBED, first), ((0.0, 0.0), center)):
        plain = evaluator.first_results(*point, plain=True)
        for ours, expected in zip(results, plain, strict=True):
            compare(ours, expected, f"{where}, repeated", REPEATED)
        for ours, expected in zip(results, tested.first_results(*point), strict=True):
            if len(ours) >= len(expected) > 1 and not mixing:  # 1: the loss of a whole batch
                compare(ours[: len(expected)], expected, where, tolerance, advice)


def _compare_all(
    ours: Mapping[str, NDArray[Any]],
    expected: Mapping[str, NDArray[Any]],
    where: str,
    tolerance: float,
    advice: str,
) -> None:
    """Compare each of our outputs with the user's; of whole numbers, their steps are allowed.

    Raises:
        SelfTestError: If one differs.
    """
    for name, values in ours.items():
        truth = expected[name]
        at = f"{where}, output {name!r}" if len(ours) > 1 else where
        if values.dtype.kind in "biu" and values.shape == truth.shape and values.size:
            _compare_steps(values, truth, at, advice)
        else:
            compare(values, truth, at, tolerance, advice)


def _compare_steps(
    ours: NDArray[Any], expected: NDArray[Any], where: str, advice: str
) -> None:
    """Compare whole numbers or truth values: where rounding decides, a few are others.

    Raises:
        SelfTestError: If more differ than that.
    """
    different = np.count_nonzero(ours != expected)
    if different > max(min(1, expected.size - 1), int(STEPS * expected.size)):
        raise SelfTestError(
            f"self-test failed {where}: {different} of {expected.size} whole numbers differ "
            f"from the user's model's; {advice}"
        )


def compare(
    ours: NDArray[Any],
    expected: NDArray[Any],
    where: str,
    tolerance: float = TOLERANCE,
    advice: str = "",
) -> None:
    """Compare two outputs.

    Args:
        ours: From the prepared model.
        expected: From the user's file, same shape.
        where: The point, for the message.
        tolerance: Largest difference, as a fraction of the largest output. Where all outputs
            are so small that this is less than `FLOOR`, that is allowed.
        advice: What to do if they differ; by default to report it.

    Raises:
        SelfTestError: If they differ.
    """
    advice = advice or _ADVICE
    ours, expected = ours.astype(np.float64), expected.astype(np.float64)
    if ours.shape != expected.shape:
        raise SelfTestError(
            f"self-test failed {where}: the model's output is {list(expected.shape)}, the "
            f"prepared one's {list(ours.shape)}; {advice}"
        )
    finite = np.isfinite(expected)
    if (finite != np.isfinite(ours)).any():
        raise SelfTestError(
            f"self-test failed {where}: {np.count_nonzero(finite != np.isfinite(ours))} "
            f"outputs are finite in only one of the user's model and ours; {advice}"
        )
    if not finite.any():
        return
    difference = float(np.abs(ours[finite] - expected[finite]).max())
    largest = float(np.abs(expected[finite]).max())
    if difference > max(tolerance * largest, FLOOR):
        raise SelfTestError(
            f"self-test failed {where}: outputs differ from the user's model by "
            f"{difference:.3g}, more than {tolerance:g} of the largest ({largest:.3g}); "
            f"{advice}"
        )
