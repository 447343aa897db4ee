"""The self-test: our evaluation must equal the user's own file, at the center and off it.

It catches at the start whatever could make a surface silently wrong: a pass that changed the
graph, a weight that did not arrive, an optimization that kept an old value.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.perturbation import displaced
from onnxscape.errors import SelfTestError, UnsupportedModelError
from onnxscape.graph.canonical import canonical_of
from onnxscape.graph.prepared import rebuilt
from onnxscape.runtime.sessions import open_session, run, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnxruntime as ort
    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.parameter import Parameter
    from onnxscape.graph.model_file import ModelFile
    from onnxscape.runtime.devices import Device
    from onnxscape.runtime.evaluator import PointEvaluator

TOLERANCE = 1e-4
"""Largest difference, as a fraction of the largest output."""

LOOSENED = {"float16": 2e-2, "bfloat16": 5e-2, "quantized": 5e-2}
"""The same at the center where the file rounds otherwise than its canonical form: half floats
after every operator, quantized operators where their integer kernels saturate."""

PERTURBED = (0.25, -0.125)
"""The point off the center: far enough that a weight left behind would show."""


def user_outputs(
    file: ModelFile,
    feeds: Mapping[str, NDArray[np.generic]],
    *,
    device: Device,
    threads: int,
    precision: str = "fp32",
    model: bytes | None = None,
) -> NDArray[Any]:
    """Run the user's file as it is (but for training mode), or one rebuilt from it.

    Args:
        file: The model.
        feeds: Arrays by input name, without labels; floats are cast to what the model wants.
        device: Where it runs.
        threads: Threads within one operator.
        precision: Arithmetic of the forward pass.
        model: Bytes to run instead of the file's own.

    Returns:
        Its first output [batch, ...].
    """
    loosened = canonical_of(file, precision).loosened
    if model is None:
        training = "training" in loosened
        model = rebuilt(file, {}, precision=precision) if training else file.runnable()
    session = _session(model, device, threads, exact_integers="quantized" in loosened)
    wanted = {value.name: _FLOATS.get(value.type) for value in session.get_inputs()}
    cast = {
        name: array.astype(dtype) if (dtype := wanted.get(name)) is not None else array
        for name, array in feeds.items()
    }
    return run(session, [file.outputs[0].name], cast)[0]


def _session(
    model: bytes, device: Device, threads: int, *, exact_integers: bool
) -> ort.InferenceSession:
    """Return a session; on x86-64 without VNNI, sums of 8-bit products saturate by default."""
    if exact_integers:
        options = session_options(threads)
        options.add_session_config_entry("session.x64quantprecision", "1")
        # Some operators have no kernel that is exact.
        with contextlib.suppress(UnsupportedModelError):
            return open_session(model, device, options)
    return open_session(model, device, session_options(threads))


_FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
"""What the same input is of in the user's file and in its canonical form."""


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
    precision: str = "fp32",
) -> None:
    """Compare the evaluator with the user's file at the center and at a perturbed point.

    Args:
        evaluator: What will compute the surface.
        file: The user's model.
        parameters: Its parameters.
        delta: Direction of alpha.
        eta: Direction of beta.
        feeds: The first batch, by input name, without labels.
        center: What the user's file makes of it.
        device: Where both run.
        threads: Threads within one operator.
        precision: Arithmetic of the forward pass.

    Raises:
        SelfTestError: If an output differs by more than the tolerance, or another one is not
            finite.
    """
    loosened = canonical_of(file, precision).loosened
    tolerance = max([TOLERANCE, *(LOOSENED.get(why, TOLERANCE) for why in loosened)])
    compare(evaluator.outputs(0.0, 0.0), center, "at the center", tolerance)
    alpha, beta = PERTURBED
    moved = moved_parameters(parameters, delta, eta, alpha, beta)
    model = rebuilt(file, moved, precision=precision)
    expected = user_outputs(file, feeds, device=device, threads=threads, model=model)
    where = f"at alpha = {alpha:g}, beta = {beta:g}"
    # The rebuilt file rounds like ours, unless half floats do.
    halves = precision == "native" and loosened & {"float16"}
    compare(
        evaluator.outputs(alpha, beta), expected, where, tolerance if halves else TOLERANCE
    )


def compare(
    ours: NDArray[Any],
    expected: NDArray[Any],
    where: str,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare two outputs.

    Args:
        ours: From the prepared model.
        expected: From the user's file, same shape.
        where: The point, for the message.
        tolerance: Largest difference, as a fraction of the largest output.

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
    if difference > tolerance * largest:
        raise SelfTestError(
            f"self-test failed {where}: outputs differ from the user's model by "
            f"{difference:.3g}, more than {tolerance:g} of the largest ({largest:.3g}); "
            f"{advice}"
        )
