"""Evaluation with one session whose weights are inputs: the way on a GPU.

Data and weights stay on the device in bound buffers; for each point only the weights are
written anew.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from onnxscape.errors import UnsupportedModelError
from onnxscape.runtime.evaluator import (
    Collector,
    WeightPath,
    batches,
    extrapolated,
    result_names,
)
from onnxscape.runtime.sessions import first_line, open_session, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device


class OverridingInputs:
    """A `PointEvaluator` that overrides the weights of one session."""

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
        self._device = device
        self._session = open_session(
            prepared.with_overridable_weights(), device, session_options(threads)
        )
        self._output = prepared.output
        self._results = result_names(prepared)
        self._path = WeightPath(prepared, delta, eta)
        self._weights = [self._buffer(weight.copy()) for weight in self._path.at(0.0, 0.0)]
        self._prepared = prepared
        self._samples = samples
        # cuDNN plans anew whenever a shape changes: one shape for all batches on a GPU.
        cut = batches(samples, prepared, batch, pad=pad or device.kind == "cuda")
        self._counts = [part.count for part in cut]
        # Rows that are there for the GPU's sake only are not handed out.
        self._rows = batch if pad else self._counts[0]
        self._feeds = [
            {
                name: self._buffer(np.ascontiguousarray(array))
                for name, array in part.feeds.items()
            }
            for part in cut
        ]
        # Buffers never move, so what is bound to them stays so: only weights are written anew.
        self._bindings = [self._bind(feeds, self._results) for feeds in self._feeds]

    def evaluate(self, alpha: float, beta: float) -> Mapping[str, float]:
        """Return the metrics of one point.

        Args:
            alpha: Step along delta.
            beta: Step along eta.

        Returns:
            Metric name to value.
        """
        self._move(alpha, beta)
        collector = Collector(self._prepared, self._samples)
        for binding, count in zip(self._bindings, self._counts, strict=True):
            collector.add(self._run(binding), count)
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
        self._move(alpha, beta)
        output = self._run(self._bind(self._feeds[0], [self._output]))[0]
        return output[: self._rows] if output.ndim else output

    def estimate(self) -> float:
        """Return how many seconds one point is going to take.

        Returns:
            The time of a change of weights and two batches, extrapolated.
        """
        start = time.perf_counter()
        self._move(0.0, 0.0)
        binding = self._bindings[0]
        return extrapolated(lambda: self._run(binding), start, len(self._bindings))

    def _buffer(self, array: NDArray[Any]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(array, self._device.kind, self._device.index)

    def _move(self, alpha: float, beta: float) -> None:
        for buffer, weight in zip(self._weights, self._path.at(alpha, beta), strict=True):
            buffer.update_inplace(np.ascontiguousarray(weight))

    def _bind(self, feeds: Mapping[str, ort.OrtValue], outputs: list[str]) -> ort.IOBinding:
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in zip(self._path.tensors, self._weights, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in outputs:
            binding.bind_output(name, "cpu")
        return binding

    def _run(self, binding: ort.IOBinding) -> list[NDArray[Any]]:
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise UnsupportedModelError(f"the model fails: {first_line(error)}") from error
        results: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return results
