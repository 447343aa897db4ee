"""Batches bound to a session once and for all: data and results stay on the device.

What all evaluators with one long-lived session share. Buffers never move, so what is bound
to them stays so; between points only weights change, or the steps they are computed from.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from onnxscape.errors import OutOfMemoryError
from onnxscape.runtime.buffers import bind, buffer, empty_buffer
from onnxscape.runtime.device_memory import free_memory
from onnxscape.runtime.evaluator import (
    Collector,
    batches,
    extrapolated,
    result_names,
    unless_stopped,
)
from onnxscape.runtime.sessions import failures_told, run_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from threading import Event

    from numpy.typing import NDArray

    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.buffers import View
    from onnxscape.runtime.devices import Device
    from onnxscape.runtime.evaluator import Batch, WeightPath

    Buffers = Mapping[str, ort.OrtValue]
    Results = tuple[list[NDArray[Any]], int, int]
    """Of one batch: values of each result of the head, samples, and rows."""

_RESIDENT_SHARE = 0.5
"""Share of a GPU's free memory that samples may take; more are copied batch by batch."""


class BoundBatches:
    """A session with a binding for each batch."""

    def __init__(
        self,
        session: ort.InferenceSession,
        prepared: PreparedModel,
        samples: Samples,
        shared: Mapping[str, ort.OrtValue | View],
        *,
        device: Device,
        batch: int,
        pad: bool,
        captured: bool = False,
    ) -> None:
        """Copy the samples to the device and bind all there is.

        Args:
            session: The session.
            prepared: Its model.
            samples: The samples.
            shared: Inputs that all batches share: weights, or what they are computed from.
            device: Where the session runs.
            batch: Samples per batch.
            pad: Whether every batch must be full.
            captured: Whether each batch is a CUDA graph of its own.

        Raises:
            OutOfMemoryError: If that takes samples on the device for which there is no room.
        """
        self._reads = list(prepared.head.reads)
        # cuDNN plans anew whenever a shape changes: one shape for all batches on a GPU.
        cut = batches(samples, prepared, batch, pad=pad or device.kind == "cuda")
        # Rows that are there for the GPU's sake only are not handed out.
        self._rows = batch if pad else cut[0].count
        staged = not _fits(cut, device)
        if staged and captured:
            raise OutOfMemoryError(
                f"{device} has no room for all samples, which CUDA graphs need; use fewer "
                "--samples, or --strategy resident"
            )
        # A point that may be finished early is looked at after every batch.
        self._one_by_one = len(samples.prefixes) > 1
        waits = staged or self._one_by_one
        self._parts = []
        stages: dict[int, Buffers] = {}
        feeds: Buffers
        for number, part in enumerate(cut):
            if not staged:
                feeds = {name: buffer(array, device) for name, array in part.feeds.items()}
            else:
                if part.rows not in stages:
                    copies = {name: array.copy() for name, array in part.feeds.items()}
                    stages[part.rows] = {n: buffer(a, device) for n, a in copies.items()}
                feeds = stages[part.rows]
            self._parts.append(
                _Part(
                    part,
                    session,
                    feeds,
                    shared,
                    _results(prepared, part.rows, device),
                    device=device,
                    graph=number + 1 if captured else None,
                    waits=waits or number == len(cut) - 1,
                    staged=staged,
                )
            )

    def __len__(self) -> int:
        return len(self._parts)

    def run(self, stop: Event | None = None) -> Iterator[Results]:
        """Run all batches, and wait for the last.

        Args:
            stop: When set, no further batch is run.

        Yields:
            What each batch gave; as soon as it is there if a point may be finished early, else
            once all are, so that the device never waits.

        Raises:
            EvaluationStopped: If it was set.
            UnsupportedModelError: If the model fails.
        """
        if self._one_by_one:
            for part in unless_stopped(self._parts, stop):
                part.run()
                yield part.results()
            return
        for part in unless_stopped(self._parts, stop):
            part.run()
        for part in self._parts:
            yield part.results()

    def run_first(self) -> Results:
        """Return what the first batch gives, run alone and waited for."""
        self._parts[0].run(wait=True)
        return self._parts[0].results()

    def plain_first(self) -> Results:
        """Return what the first batch gives outside any CUDA graph."""
        return self._parts[0].plain_results()

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Return the model's own outputs that the heads read, for the first batch."""
        values = self._parts[0].outputs(self._reads)
        return {
            name: array[: self._rows] if array.ndim else array
            for name, array in zip(self._reads, values, strict=True)
        }


class _Part:
    """One batch: its buffers, and the binding to them."""

    def __init__(
        self,
        batch: Batch,
        session: ort.InferenceSession,
        feeds: Buffers,
        shared: Mapping[str, ort.OrtValue | View],
        results: Buffers,
        *,
        device: Device,
        graph: int | None,
        waits: bool,
        staged: bool,
    ) -> None:
        self.batch = batch
        self._session = session
        self._feeds = feeds
        self._shared = shared
        self._results = results
        self._device = device
        self._rushed = _run_options(graph, rush=not waits)
        self._waiting = _run_options(graph)
        self._staged = staged
        self._binding = self._bound()
        for name, value in results.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, *, wait: bool = False) -> None:
        """Run the batch; on a GPU it may still be running afterwards, unless told to wait."""
        self._stage()
        run_bound(self._session, self._binding, self._waiting if wait else self._rushed)

    def results(self) -> Results:
        """Return the results, once the device has done all it was told to do."""
        values = [value.numpy() for value in self._results.values()]
        return values, self.batch.count, self.batch.rows

    def plain_results(self) -> Results:
        """Return the results, computed outside any CUDA graph."""
        return self.outputs(list(self._results)), self.batch.count, self.batch.rows

    def outputs(self, names: list[str]) -> list[NDArray[Any]]:
        """Return outputs by name, computed outside any CUDA graph."""
        self._stage()
        binding = self._bound()
        for name in names:
            binding.bind_output(name, "cpu")
        run_bound(self._session, binding, _run_options(-1))
        values: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return values

    def _stage(self) -> None:
        """Copy the batch into the buffers that it shares with others, if it does."""
        if self._staged:
            for name, array in self.batch.feeds.items():
                self._feeds[name].update_inplace(np.ascontiguousarray(array))

    def _bound(self) -> ort.IOBinding:
        binding = self._session.io_binding()
        for name, value in {**self._feeds, **self._shared}.items():
            bind(binding, name, value, self._device)
        return binding


class HostWeights:
    """Weights that the host computes and writes into buffers on the device.

    Attributes:
        buffers: Tensor to its buffer.
    """

    def __init__(self, path: WeightPath, device: Device) -> None:
        """Write those of the center.

        Args:
            path: Computes them.
            device: Where the buffers are.
        """
        self._path = path
        center = zip(path.tensors, path.at(0.0, 0.0), strict=True)
        self.buffers = {name: buffer(weight, device) for name, weight in center}

    def move(self, alpha: float, beta: float) -> None:
        """Write those of a point.

        Args:
            alpha: Step along delta.
            beta: Step along eta.
        """
        weights = self._path.at(alpha, beta)
        for value, weight in zip(self.buffers.values(), weights, strict=True):
            value.update_inplace(np.ascontiguousarray(weight))


class BoundEvaluator:
    """A `PointEvaluator` made of bound batches and something that moves their weights."""

    concurrent = False

    def __init__(
        self,
        runs: BoundBatches,
        move: Callable[[float, float], None],
        prepared: PreparedModel,
        samples: Samples,
    ) -> None:
        """Put both together.

        Args:
            runs: The batches.
            move: Makes their next run one at (alpha, beta).
            prepared: The model.
            samples: The samples.
        """
        self._runs = runs
        self._move = move
        self._prepared = prepared
        self._samples = samples

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
        with failures_told():
            self._move(alpha, beta)
            collector = Collector(self._prepared, self._samples, samples)
            for results in self._runs.run(stop):
                collector.add(*results)
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
        with failures_told():
            self._move(alpha, beta)
            return self._runs.outputs()

    def first_results(
        self, alpha: float, beta: float, *, plain: bool = False
    ) -> list[NDArray[Any]]:
        """Return what the heads give for the first batch, run as `evaluate` runs it.

        Args:
            alpha: Step along delta.
            beta: Step along eta.
            plain: Whether to run it without what `evaluate` may repeat of earlier runs.

        Returns:
            Of each result [samples, 1]; [1, 1] is the loss of the whole batch.
        """
        with failures_told():
            self._move(alpha, beta)
            first = self._runs.plain_first if plain else self._runs.run_first
            values, count, _ = first()
        return [value[:count].copy() for value in values]  # the next run writes there

    def estimate(self) -> float:
        """Return how many seconds one point is going to take.

        Returns:
            The time of a change of weights and two batches, extrapolated.
        """
        with failures_told():
            start = time.perf_counter()
            self._move(0.0, 0.0)
            return extrapolated(self._runs.run_first, start, len(self._runs))


def _run_options(graph: int | None, *, rush: bool = False) -> ort.RunOptions:
    """Return options of a run.

    Args:
        graph: Number of the CUDA graph that is recorded or repeated, -1 for none; None where
            there are none.
        rush: Whether to come back before the device is done.
    """
    options = ort.RunOptions()
    if graph is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph))
    if rush:
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def _results(prepared: PreparedModel, rows: int, device: Device) -> Buffers:
    """Return room for the results of one batch."""
    whole = prepared.head.loss.per_batch
    float64 = np.dtype(np.float64)
    return {
        name: empty_buffer((1 if whole and number == 0 else rows, 1), float64, device)
        for number, name in enumerate(result_names(prepared))
    }


def _fits(cut: list[Batch], device: Device) -> bool:
    """Return whether all samples may stay on the device."""
    free = free_memory(device)
    if free is None:
        return True
    size = sum(array.nbytes for part in cut for array in part.feeds.values())
    return size <= _RESIDENT_SHARE * free
