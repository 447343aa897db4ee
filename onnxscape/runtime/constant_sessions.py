"""Evaluation with a session of its own for every point: the fast way on the CPU.

Weights that a session knows when it is made are constants: ONNX Runtime fuses and repacks
them, which it cannot do with inputs. That saves far more than making a session costs.
"""

from __future__ import annotations

import time
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import onnxruntime as ort

from onnxscape.graph.apart import heads_apart
from onnxscape.graph.heads import LABELS
from onnxscape.runtime.devices import HEADS_APART, find_device
from onnxscape.runtime.evaluator import (
    Collector,
    WeightPath,
    batches,
    extrapolated,
    result_names,
    unless_stopped,
)
from onnxscape.runtime.sessions import open_session, run, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from threading import Event

    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device


class ConstantSessions:
    """A `PointEvaluator` that makes one session per point."""

    concurrent = True

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
        self._heads: ort.InferenceSession | None = None
        body = prepared
        if device.kind in HEADS_APART:
            body, heads = heads_apart(prepared)
            self._heads = open_session(heads, find_device("cpu"), session_options(threads))
        self._model = body.with_external_weights()
        self._results = result_names(prepared)
        self._outputs = list(prepared.head.reads)
        self._path = WeightPath(prepared, delta, eta)
        self._batches = batches(samples, prepared, batch, pad=pad)
        self._prepared = prepared
        self._samples = samples
        self._device = device
        self._threads = threads

    def with_threads(self, threads: int) -> Self:
        """Return the same evaluator with another number of threads within one operator.

        Args:
            threads: The number.
        """
        other = copy(self)
        other._threads = threads  # noqa: SLF001 - its own kind
        return other

    def evaluate(
        self,
        alpha: float,
        beta: float,
        stop: Event | None = None,
        samples: int | None = None,
    ) -> Mapping[str, float]:
        """Return the metrics of one point.

        Args:
            alpha: Step along delta.
            beta: Step along eta.
            stop: When set, the point is given up before its next batch.
            samples: Take no more than so many; None for all that the point takes.

        Returns:
            Metric name to value.
        """
        session = self._session(alpha, beta)
        collector = Collector(self._prepared, self._samples, samples)
        for batch in unless_stopped(self._batches, stop):
            results = self._run(session, batch.feeds)
            collector.add(results, batch.count, batch.rows)
            if collector.enough:
                break
        return collector.summary()

    def outputs(self, alpha: float, beta: float) -> Mapping[str, NDArray[Any]]:
        """Return the model's own outputs that the heads read, for the first batch.

        Args:
            alpha: Step along delta.
            beta: Step along eta.

        Returns:
            Output name to values [batch, ...].
        """
        session = self._session(alpha, beta)
        values = run(session, self._outputs, self._fed(self._batches[0].feeds))
        return dict(zip(self._outputs, values, strict=True))

    def estimate(self) -> float:
        """Return how many seconds one point is going to take.

        Returns:
            The time of a session and two batches, extrapolated.
        """
        start = time.perf_counter()
        session = self._session(0.0, 0.0)
        feeds = self._batches[0].feeds
        return extrapolated(lambda: self._run(session, feeds), start, len(self._batches))

    def _run(
        self, session: ort.InferenceSession, feeds: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Return the results of a batch."""
        if self._heads is None:
            return run(session, self._results, feeds)
        values = run(session, self._outputs, self._fed(feeds))
        given = {**feeds, **dict(zip(self._outputs, values, strict=True))}
        wanted = [value.name for value in self._heads.get_inputs()]
        return run(self._heads, self._results, {name: given[name] for name in wanted})

    def _fed(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return what the model's session takes: heads that are apart take the labels."""
        if self._heads is None:
            return feeds
        return {name: array for name, array in feeds.items() if name != LABELS}

    def _session(self, alpha: float, beta: float) -> ort.InferenceSession:
        options = session_options(self._threads)
        # The values replace the external data before the graph is optimized. (The likes of
        # `add_initializer` come too late: fused nodes would keep the old ones.)
        weights = self._path.at(alpha, beta)
        values = [ort.OrtValue.ortvalue_from_numpy(weight) for weight in weights]
        options.add_external_initializers(self._path.tensors, values)
        return open_session(self._model, self._device, options)
