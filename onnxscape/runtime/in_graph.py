"""Evaluation with one session that computes its own weights from the two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.graph.perturbation import ALPHA, BETA, flat_inputs, self_moving
from onnxscape.runtime.bound_batches import BoundBatches, BoundEvaluator
from onnxscape.runtime.buffers import buffer
from onnxscape.runtime.evaluator import WeightPath
from onnxscape.runtime.sessions import open_session, session_options

if TYPE_CHECKING:
    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device


def in_graph(
    prepared: PreparedModel,
    samples: Samples,
    delta: Direction | None,
    eta: Direction | None,
    *,
    device: Device,
    batch: int,
    threads: int,
    pad: bool = False,
) -> BoundEvaluator:
    """Return an evaluator that is given two numbers per point, and does all else in the graph.

    Every batch computes the weights anew: that pays where there are few batches.
    """
    steps = WeightPath(prepared, delta, eta).steps
    session = open_session(
        self_moving(prepared.proto, steps), device, session_options(threads)
    )
    shared = {
        name: buffer(array, device)
        for name, array in {
            ALPHA: np.zeros(1),
            BETA: np.zeros(1),
            **flat_inputs(steps),
        }.items()
    }

    def move(alpha: float, beta: float) -> None:
        for name, step in ((ALPHA, alpha), (BETA, beta)):
            shared[name].update_inplace(np.array([step]))

    runs = BoundBatches(
        session, prepared, samples, shared, device=device, batch=batch, pad=pad
    )
    return BoundEvaluator(runs, move, prepared, samples)
