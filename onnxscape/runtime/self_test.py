"""The self-test: our evaluation must equal the user's own file, at the center and off it.

It catches at the start whatever could make a surface silently wrong: a pass that changed the
graph, a weight that did not arrive, an optimization that kept an old value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.perturbation import displaced
from onnxscape.errors import SelfTestError
from onnxscape.graph.prepared import rebuilt
from onnxscape.runtime.evaluator import filled_up
from onnxscape.runtime.sessions import open_session, run, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.parameter import Parameter
    from onnxscape.graph.model_file import ModelFile
    from onnxscape.runtime.devices import Device
    from onnxscape.runtime.evaluator import PointEvaluator

TOLERANCE = 1e-4
"""Largest difference, as a fraction of the largest output."""

PERTURBED = (0.25, -0.125)
"""The point off the center: far enough that a weight left behind would show."""


def user_outputs(
    file: ModelFile,
    feeds: Mapping[str, NDArray[np.generic]],
    *,
    device: Device,
    threads: int,
    pieces: int | None = None,
    model: bytes | None = None,
) -> NDArray[Any]:
    """Run the user's file as it is, or one rebuilt from it.

    Args:
        file: The model.
        feeds: Arrays by input name, without labels.
        device: Where it runs.
        threads: Threads within one operator.
        pieces: Samples that the file takes at once; None for any number.
        model: Bytes to run instead of the file's own.

    Returns:
        Its first output [samples, ...].
    """
    if model is None:
        model = file.proto.SerializeToString() if file.external else file.content
    session = open_session(model, device, session_options(threads))
    outputs = [file.outputs[0].name]
    if pieces is None:
        return run(session, outputs, feeds)[0]
    samples = min(len(array) for array in feeds.values())
    results = []
    for start in range(0, samples, pieces):
        piece = {name: array[start : start + pieces] for name, array in feeds.items()}
        results.append(run(session, outputs, filled_up(piece, pieces))[0])
    if results[0].ndim == 0:
        return results[0]
    return np.concatenate(results)[:samples]


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
    file: ModelFile,
    parameters: Sequence[Parameter],
    delta: Direction | None,
    eta: Direction | None,
    feeds: Mapping[str, NDArray[np.generic]],
    center: NDArray[Any],
    *,
    device: Device,
    threads: int,
    pieces: int | None = None,
) -> None:
    """Compare the evaluator with the user's file at the center and at a perturbed point.

    Args:
        evaluator: What will compute the surface.
        file: The user's model.
        parameters: Its parameters.
        delta: Direction of alpha.
        eta: Direction of beta.
        feeds: The first batch, or the first samples of it, by input name, without labels.
        center: What the user's file makes of it.
        device: Where both run.
        threads: Threads within one operator.
        pieces: Samples that the user's file takes at once; None for any number.

    Raises:
        SelfTestError: If an output differs by more than `TOLERANCE` of the largest, or another
            one is not finite.
    """
    samples = slice(min(len(array) for array in feeds.values()))
    compare(evaluator.outputs(0.0, 0.0)[samples], center, "at the center")
    alpha, beta = PERTURBED
    moved = moved_parameters(parameters, delta, eta, alpha, beta)
    model = rebuilt(file, moved)
    expected = user_outputs(
        file, feeds, device=device, threads=threads, pieces=pieces, model=model
    )
    where = f"at alpha = {alpha:g}, beta = {beta:g}"
    compare(evaluator.outputs(alpha, beta)[samples], expected, where)


def compare(ours: NDArray[Any], expected: NDArray[Any], where: str) -> None:
    """Compare two outputs.

    Args:
        ours: From the prepared model.
        expected: From the user's file, same shape.
        where: The point, for the message.

    Raises:
        SelfTestError: If they differ.
    """
    ours, expected = ours.astype(np.float64), expected.astype(np.float64)
    advice = "please report this with the model; --strategy overriding may work"
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
    if difference > TOLERANCE * largest:
        raise SelfTestError(
            f"self-test failed {where}: outputs differ from the user's model by "
            f"{difference:.3g}, more than {TOLERANCE:g} of the largest ({largest:.3g}); "
            f"{advice}"
        )
