"""The evaluation of one point: the protocol, and what all its implementations share."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from onnxscape.core.perturbation import displaced
from onnxscape.core.samples import SUBSET
from onnxscape.core.statistics import summarize
from onnxscape.errors import DataError, UnsupportedModelError
from onnxscape.graph.heads import LABELS
from onnxscape.graph.perturbation import WeightStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from threading import Event

    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel, WeightSlot

_Part = TypeVar("_Part")

MAX_FILLED = 2**28
"""Elements that may fill up a batch: 1 GB of float32."""


class EvaluationStopped(Exception):  # noqa: N818 - nothing went wrong
    """A point was given up because nobody wants it any more."""


class PointEvaluator(Protocol):
    """Evaluates a model's metrics anywhere on the plane."""

    concurrent: bool
    """Whether several threads may evaluate at the same time."""

    def evaluate(
        self,
        alpha: float,
        beta: float,
        stop: Event | None = None,
        samples: int | None = None,
    ) -> Mapping[str, float]:
        """Return the metrics of one point: `loss`, `loss_stderr`, and those asked for.

        Args:
            alpha: Step along delta.
            beta: Step along eta.
            stop: When set, the point is given up before its next batch.
            samples: Take no more than so many, one of the samples' `prefixes`; None for all
                that the point takes.

        Raises:
            EvaluationStopped: If it was given up.
            UnsupportedModelError: If the model fails there.
        """

    def outputs(self, alpha: float, beta: float) -> Mapping[str, NDArray[Any]]:
        """Return the model's own outputs that the heads read, for the first batch.

        Args:
            alpha: Step along delta.
            beta: Step along eta.

        Returns:
            Output name to values [batch, ...].
        """

    def estimate(self) -> float:
        """Return how many seconds one point is going to take, from a few batches."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A run of samples that goes through the model at once.

    Attributes:
        feeds: Arrays by input name, the labels' among them.
        count: Number of samples; rows behind them only fill the batch.
        rows: Number of rows that are fed.
    """

    feeds: Mapping[str, NDArray[np.generic]]
    count: int
    rows: int


def batches(samples: Samples, prepared: PreparedModel, size: int, *, pad: bool) -> list[Batch]:
    """Cut samples into batches, in their order.

    Args:
        samples: The samples.
        prepared: Says how the labels are wanted.
        size: Samples per batch.
        pad: Whether the last batch is filled up by repeating its last sample; never where the
            model computes one loss for a whole batch.

    Returns:
        The batches; views of the samples wherever nothing is filled up.

    Raises:
        DataError: If the heads take labels and there are none.
    """
    head = prepared.head
    pad = pad and not head.loss.per_batch
    arrays = dict(samples.inputs)
    if head.label_type is not None:
        if samples.labels is None:
            raise DataError(f"the loss takes labels, and {samples.name} has none")
        arrays[LABELS] = samples.labels.astype(head.label_type, copy=False)
    cut = []
    # No batch reaches over the end of a prefix that may do.
    ends = [0, *samples.prefixes]
    starts = [s for low, high in itertools.pairwise(ends) for s in range(low, high, size)]
    for start, stop in itertools.pairwise([*starts, len(samples)]):
        feeds = {name: array[start:stop] for name, array in arrays.items()}
        count = stop - start
        full = filled_up(feeds, size) if pad else feeds
        cut.append(Batch({**full, **samples.constants}, count, size if pad else count))
    return cut


def filled_up(
    feeds: Mapping[str, NDArray[np.generic]], size: int
) -> Mapping[str, NDArray[np.generic]]:
    """Return a batch of full size: the last sample is repeated as often as it takes.

    Args:
        feeds: Arrays by input name, of at most that many samples; those without axes stay.
        size: Samples wanted.

    Returns:
        The same arrays where nothing is missing.

    Raises:
        UnsupportedModelError: If that takes absurd amounts of memory.
    """
    missing = {name: size - len(array) if array.ndim else 0 for name, array in feeds.items()}
    added = sum(n * math.prod(feeds[name].shape[1:]) for name, n in missing.items() if n > 0)
    if added > MAX_FILLED:
        raise UnsupportedModelError(
            f"it takes {added} numbers to fill up a batch of {size} samples, and at most "
            f"{MAX_FILLED} are fed for nothing; export the model with a dynamic batch axis"
        )
    return {
        name: np.concatenate([array, np.repeat(array[-1:], missing[name], axis=0)])
        if missing[name] > 0
        else array
        for name, array in feeds.items()
    }


class WeightPath:
    """The moved weights of a prepared model along two directions.

    Attributes:
        tensors: Names of the tensors that move.
        steps: How each of them does.
    """

    def __init__(
        self, prepared: PreparedModel, delta: Direction | None, eta: Direction | None
    ) -> None:
        """Carry theta and the directions over to the prepared graph, once.

        Args:
            prepared: The model.
            delta: Direction of alpha, on the user's tensors.
            eta: Direction of beta, likewise.
        """
        self.tensors = [slot.tensor for slot in prepared.slots]
        self.steps = [
            WeightStep(
                slot.tensor,
                slot.transfer(slot.parameter.values),
                _carried(slot, delta),
                _carried(slot, eta),
            )
            for slot in prepared.slots
        ]

    def at(self, alpha: float, beta: float) -> list[NDArray[np.floating]]:
        """Return the weights of one point, in the order of `tensors`.

        Args:
            alpha: Step along delta.
            beta: Step along eta.
        """
        return [displaced(s.theta, s.delta, s.eta, alpha, beta) for s in self.steps]


def _carried(slot: WeightSlot, direction: Direction | None) -> NDArray[np.floating] | None:
    """Return a direction's step of one slot; None if it leaves it alone."""
    step = None if direction is None else direction.tensors.get(slot.parameter.name)
    return None if step is None else slot.transfer(step)


def unless_stopped(parts: Iterable[_Part], stop: Event | None) -> Iterator[_Part]:
    """Yield the parts of a point one by one.

    Args:
        parts: Its batches.
        stop: When set, nothing more comes.

    Raises:
        EvaluationStopped: If it was set before the last part.
    """
    for part in parts:
        if stop is not None and stop.is_set():
            raise EvaluationStopped
        yield part


def extrapolated(run: Callable[[], object], start: float, batches: int) -> float:
    """Time two batches and extrapolate to a point.

    The first batch of a session is slower: it allocates.

    Args:
        run: Runs one batch.
        start: `time.perf_counter()` before the session was made for the point.
        batches: Batches per point.

    Returns:
        Seconds per point.
    """
    run()
    first = time.perf_counter()
    run()
    return first - start + (batches - 1) * (time.perf_counter() - first)


def result_names(prepared: PreparedModel) -> list[str]:
    """Return the outputs that a point's metrics are made of."""
    return [result.tensor for result in prepared.head.results]


class Collector:
    """Puts the per-sample results of the batches of one point together, in sample order."""

    def __init__(
        self, prepared: PreparedModel, samples: Samples, most: int | None = None
    ) -> None:
        """Make room.

        Args:
            prepared: Says what leaves the graph.
            samples: What is evaluated.
            most: Samples after which it is enough, one of `samples.prefixes`; None for all
                that the point takes.
        """
        self._head = prepared.head
        self._samples = samples
        self._most = len(samples) if most is None else most
        self._values = [np.empty(len(samples)) for _ in self._head.results]
        self._filled = 0

    def add(self, results: list[NDArray[Any]], count: int, rows: int) -> None:
        """Take the outputs of one batch.

        Args:
            results: One per result of the head, float64 [rows, 1]; [1, 1] is the loss of a
                whole batch.
            count: Number of rows that are samples; those behind them only fill the batch.
            rows: Number of rows that were fed.

        Raises:
            UnsupportedModelError: If a result has another shape: its rows are no samples.
        """
        to = slice(self._filled, self._filled + count)
        for values, result, made in zip(
            self._values, results, self._head.results, strict=True
        ):
            whole = self._head.loss.per_batch and made.name == "loss"
            if result.shape != (1 if whole else rows, 1):
                raise UnsupportedModelError(
                    f"expected the {made.name} of a batch of {rows} samples as "
                    f"{'one number' if whole else 'one number per sample'}, "
                    f"[{1 if whole else rows}, 1], got {list(result.shape)}; compute it from "
                    "each sample alone, for any number of samples"
                )
            values[to] = result[:count, 0]  # a loss of the whole batch is every sample's
        self._filled += count

    @property
    def enough(self) -> bool:
        """Whether the samples so far will do; always once there are all."""
        samples = self._samples
        if self._filled >= self._most or samples.growth is None:
            return self._filled >= self._most
        counts = samples.counts(self._filled, self._head.loss)
        if self._filled not in samples.prefixes or not counts:
            return False
        return samples.growth.enough(self.summary())

    def summary(self) -> dict[str, float]:
        """Return the metrics of the point, of the samples so far.

        Where there is a subset, its own metrics are among them, named `subset_...`.
        """
        samples, n = self._samples, self._filled
        metrics = self._of_first(n)
        if samples.growth is not None or samples.subset is not None:
            metrics["samples_used"] = float(n)
        if samples.subset is not None:
            first = metrics if n <= samples.subset else self._of_first(samples.subset)
            names = [result.name for result in self._head.results]
            metrics |= {SUBSET + name: first[name] for name in names}
        return metrics

    def _of_first(self, n: int) -> dict[str, float]:
        """Return the metrics of the first n samples."""
        samples = self._samples
        results = {
            result.name: (values[:n], result.over)
            for result, values in zip(self._head.results, self._values, strict=True)
        }
        labels = None if samples.labels is None else samples.labels[:n]
        metrics = summarize(
            results,
            samples.population,
            weights=None if samples.weights is None else samples.weights[:n],
            counted=self._head.loss.counted(labels),
        )
        if self._head.loss.per_batch:
            metrics["loss_stderr"] = math.nan
        return metrics
