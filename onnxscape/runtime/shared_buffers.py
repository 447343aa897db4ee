"""Evaluation with one session that keeps its weights in buffers which are written in place.

ONNX Runtime does not document that it reads them anew in every run, so the self-test proves it
each time: weights that can be overridden are left where they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort

from onnxscape.runtime.bound_batches import BoundBatches, BoundEvaluator, HostWeights
from onnxscape.runtime.evaluator import WeightPath
from onnxscape.runtime.sessions import open_session, session_options

if TYPE_CHECKING:
    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device


class _SharedWeights(HostWeights):
    """Weights whose buffers are a session's initializers as well."""

    def __init__(self, path: WeightPath, device: Device) -> None:
        super().__init__(path, device)
        # Memory of ONNX Runtime's own may be no initializer; to it, what comes through DLPack
        # is somebody else's. The session does not keep them.
        self.initializers = {
            name: ort.OrtValue.from_dlpack(value) for name, value in self.buffers.items()
        }


def shared_buffers(
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
    """Return an evaluator whose session and host share the weights' buffers."""
    weights = _SharedWeights(WeightPath(prepared, delta, eta), device)
    options = session_options(threads)
    for name, value in weights.initializers.items():
        options.add_initializer(name, value)
    session = open_session(prepared.with_overridable_weights(), device, options)
    runs = BoundBatches(session, prepared, samples, {}, device=device, batch=batch, pad=pad)
    return BoundEvaluator(runs, weights.move, prepared, samples)
