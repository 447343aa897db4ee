"""Evaluation with weights that never leave the device: the way on a GPU.

theta, delta and eta lie there; a small session of its own computes the weights of a point into
the buffers that the model's session takes them from. With a CUDA graph the device repeats what
was recorded once, without being told each operation anew.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.graph.perturbation import (
    ALPHA,
    BETA,
    flat_inputs,
    moved_vectors,
    perturbation_model,
)
from onnxscape.runtime.bound_batches import BoundBatches, BoundEvaluator
from onnxscape.runtime.buffers import View, buffer, empty_buffer
from onnxscape.runtime.evaluator import WeightPath
from onnxscape.runtime.sessions import open_session, run_bound, session_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.perturbation import WeightStep
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device

_CAPTURE = {"enable_cuda_graph": "1"}

_NOT_CAPTURED = ("ConvActivationFusion", "ConvAddActivationFusion")
"""Optimizations whose fused convolution cannot be recorded in a CUDA graph."""


def resident_weights(
    prepared: PreparedModel,
    samples: Samples,
    delta: Direction | None,
    eta: Direction | None,
    *,
    device: Device,
    batch: int,
    threads: int,
    pad: bool = False,
    captured: bool = False,
) -> BoundEvaluator:
    """Return an evaluator whose weights are computed on the device.

    Args:
        prepared: The model.
        samples: The samples.
        delta: Direction of alpha.
        eta: Direction of beta.
        device: Where it runs.
        batch: Samples per forward pass.
        threads: Threads within one operator.
        pad: Whether every batch must be full.
        captured: Whether batches become CUDA graphs.
    """
    steps = WeightPath(prepared, delta, eta).steps
    mover = WeightMover(steps, device, threads)
    mover.move(0.0, 0.0)
    session = open_session(
        prepared.with_overridable_weights(),
        device,
        session_options(threads),
        settings=_CAPTURE if captured else {},
        disabled=_NOT_CAPTURED if captured else (),
    )
    runs = BoundBatches(
        session,
        prepared,
        samples,
        mover.weights,
        device=device,
        batch=batch,
        pad=pad,
        captured=captured,
    )
    return BoundEvaluator(runs, mover.move, prepared, samples)


captured_weights = partial(resident_weights, captured=True)
"""The same, each batch a CUDA graph."""


class WeightMover:
    """Writes the weights of a point into buffers on the device.

    Attributes:
        weights: Tensor to where it lies, a part of a vector of all of its type.
    """

    def __init__(self, steps: Sequence[WeightStep], device: Device, threads: int) -> None:
        """Copy theta and the directions to the device, and make room for the weights.

        Args:
            steps: How each tensor moves.
            device: Where they are.
            threads: Threads within one operator.
        """
        self._session = open_session(
            perturbation_model(steps), device, session_options(threads)
        )
        self._binding = self._session.io_binding()
        self._steps = [buffer(np.zeros(1), device) for _ in range(2)]
        # The binding does not keep what is bound to it.
        self._kept = {
            name: buffer(array, device) for name, array in flat_inputs(steps).items()
        }
        inputs = {ALPHA: self._steps[0], BETA: self._steps[1], **self._kept}
        for name, value in inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self.weights: dict[str, View] = {}
        for vector in moved_vectors(steps):
            whole = empty_buffer((vector.size,), vector.dtype, device)
            self._binding.bind_ortvalue_output(vector.name, whole)
            for step, start in zip(vector.steps, vector.starts, strict=True):
                self.weights[step.tensor] = View(whole, start, step.theta.shape, vector.dtype)

    def move(self, alpha: float, beta: float) -> None:
        """Write the weights of a point, and wait until they are there.

        Args:
            alpha: Step along delta.
            beta: Step along eta.
        """
        for value, step in zip(self._steps, (alpha, beta), strict=True):
            value.update_inplace(np.array([step]))
        run_bound(self._session, self._binding)
