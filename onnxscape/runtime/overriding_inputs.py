"""Evaluation with one session whose weights are inputs, computed by the host.

Data stay on the device in bound buffers; for each point the weights are written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.runtime.bound_batches import BoundBatches, BoundEvaluator, HostWeights
from onnxscape.runtime.evaluator import WeightPath
from onnxscape.runtime.sessions import open_session, session_options

if TYPE_CHECKING:
    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device


def overriding_inputs(
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
    """Return an evaluator that overrides the weights of one session."""
    session = open_session(
        prepared.with_overridable_weights(), device, session_options(threads)
    )
    weights = HostWeights(WeightPath(prepared, delta, eta), device)
    runs = BoundBatches(
        session, prepared, samples, weights.buffers, device=device, batch=batch, pad=pad
    )
    return BoundEvaluator(runs, weights.move, prepared, samples)
