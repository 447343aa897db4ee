"""Evaluation with a session of its own for every point: the fast way on the CPU.

Weights that a session knows when it is made are constants: ONNX Runtime fuses and repacks
them, which it cannot do with inputs. That saves far more than making a session costs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from onnxscape.runtime.evaluator import (
    Collector,
    WeightPath,
    batches,
    extrapolated,
    result_names,
)
from onnxscape.runtime.sessions import open_session, run, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device


class ConstantSessions:
    """A `PointEvaluator` that makes one session per point."""

    def __init__(
        self,
        prepared: PreparedModel,
        samples: Samples,
        delta: Direction | None,
        eta: Direction | None,
        *,
        device: Device,
        batch: int,
        threads: int,
        pad: bool = False,
    ) -> None:
        self._model = prepared.with_external_weights()
        self._results = result_names(prepared)
        self._output = prepared.output
        self._path = WeightPath(prepared, delta, eta)
        self._batches = batches(samples, prepared, batch, pad=pad)
        self._prepared = prepared
        self._samples = samples
        self._device = device
        self._threads = threads

    def evaluate(self, alpha: float, beta: float) -> Mapping[str, float]:
        """Return the metrics of one point.

        Args:
            alpha: Step along delta.
            beta: Step along eta.

        Returns:
            Metric name to value.
        """
        session = self._session(alpha, beta)
        collector = Collector(self._prepared, self._samples)
        for batch in self._batches:
            collector.add(run(session, self._results, batch.feeds), batch.count)
            if collector.enough:
                break
        return collector.summary()

    def outputs(self, alpha: float, beta: float) -> NDArray[Any]:
        """Return the model's own output for the first batch.

        Args:
            alpha: Step along delta.
            beta: Step along eta.

        Returns:
            [batch, ...].
        """
        session = self._session(alpha, beta)
        return run(session, [self._output], self._batches[0].feeds)[0]

    def estimate(self) -> float:
        """Return how many seconds one point is going to take.

        Returns:
            The time of a session and two batches, extrapolated.
        """
        start = time.perf_counter()
        session = self._session(0.0, 0.0)
        feeds = self._batches[0].feeds
        return extrapolated(
            lambda: run(session, self._results, feeds), start, len(self._batches)
        )

    def _session(self, alpha: float, beta: float) -> ort.InferenceSession:
        options = session_options(self._threads)
        # The values replace the external data before the graph is optimized. (The likes of
        # `add_initializer` come too late: fused nodes would keep the old ones.)
        weights = self._path.at(alpha, beta)
        values = [ort.OrtValue.ortvalue_from_numpy(weight) for weight in weights]
        options.add_external_initializers(self._path.tensors, values)
        return open_session(self._model, self._device, options)
