"""What a model is evaluated on: arrays by input name, labels, and where they came from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.core.loss import Loss


_NAMELESS = re.compile(r"(?i:unk(nown)?)(_*\d+)?|None|\W*")
"""What exporters write for an axis that has no name."""


def has_name(axis: str | None) -> bool:
    """Return whether an axis has a name of its own, not what exporters write for none.

    Args:
        axis: What the file calls it.
    """
    return axis is not None and _NAMELESS.fullmatch(axis) is None


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """Name, shape and type of one input or output of a model.

    Attributes:
        name: The tensor's name in the file.
        shape: One entry per axis, None where the size is free; None if the rank is unknown.
        dtype: Element type, e.g. float32.
        axes: The file's name of each axis (axes of one name have one size), None where it has
            none; None if the rank is unknown or nothing is known of names.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[np.generic]
    axes: tuple[str | None, ...] | None = None

    def with_names(self) -> str:
        """Return name and shape, free axes by their names, for people."""
        if self.shape is None:
            return f"{self.name} [?]"
        sizes = ["?" if size is None else str(size) for size in self.shape]
        for axis, name in enumerate(self.axes or ()):
            if self.shape[axis] is None and name is not None and has_name(name):
                sizes[axis] = name
        return f"{self.name} [{', '.join(sizes)}]"

    def __str__(self) -> str:
        shape = (
            "?"
            if self.shape is None
            else ", ".join("?" if n is None else str(n) for n in self.shape)
        )
        return f"{self.name} [{shape}] {self.dtype}"

    @property
    def quoted(self) -> str:
        """The same with the name in quotes, for the middle of a sentence."""
        return str(self).replace(self.name, repr(self.name), 1)


SUBSET = "subset_"
"""What the names of metrics of a subset of the samples begin with."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How many samples a point takes: as many as its standard error asks for.

    Attributes:
        stderr: Largest standard error of the loss.
        first: Samples to begin with.
    """

    stderr: float
    first: int = 128

    def prefixes(self, total: int) -> list[int]:
        """Return after how many samples to look: the first ones, twice as many, ..., all.

        Args:
            total: Number of samples there are.
        """
        ends = []
        end = self.first
        while end < total:
            ends.append(end)
            end *= 2
        return [*ends, total]

    def enough(self, metrics: Mapping[str, float]) -> bool:
        """Return whether no more samples are wanted.

        A mean that is not finite stays so, whatever is added to it.

        Args:
            metrics: Of the samples so far.
        """
        return metrics["loss_stderr"] < self.stderr or not math.isfinite(metrics["loss"])


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one landscape, ready to be fed, in evaluation order.

    Attributes:
        inputs: Per model input an array [samples, ...] of the type the model wants.
        labels: Class labels int64 [samples, ...positions], the ignored ones among them; or
            targets float32 [samples, ...]; or, for a loss given as a graph, what the data
            holds; None where the loss takes no labels.
        population: Number of samples the subset was drawn from (without replacement).
        name: For people: e.g. `cifar10 test`.
        digest: sha256 (hex) of the whole data before subset and preprocessing.
        preprocessing: What was done to the raw values, part of the spec: plain JSON values.
        weights: float64 [samples], finite, none negative, not all zero; None if all samples
            count the same.
        constants: Per model input without axes its value [], fed with every batch.
        growth: How many of them a point takes; None for all.
        subset: How many of the first ones a point may be evaluated on alone; one that takes
            all has the metrics of those as well. None where there is no such subset.
    """

    inputs: Mapping[str, NDArray[np.generic]]
    labels: NDArray[np.generic] | None
    population: int
    name: str
    digest: str
    preprocessing: Mapping[str, object] = field(default_factory=dict)
    weights: NDArray[np.float64] | None = None
    constants: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    growth: Growth | None = None
    subset: int | None = None

    @property
    def prefixes(self) -> list[int]:
        """Numbers of samples after which a point may be finished, all of them last."""
        total = len(self)
        if self.subset is not None and self.subset < total:
            return [self.subset, total]
        return [total] if self.growth is None else self.growth.prefixes(total)

    def counts(self, n: int, loss: Loss) -> bool:
        """Return whether any of the first samples counts: they may all have weight 0.

        Args:
            n: How many.
            loss: Says which positions do.
        """
        shares = np.ones(n) if self.weights is None else self.weights[:n]
        counted = loss.counted(None if self.labels is None else self.labels[:n])
        return bool((shares if counted is None else shares * counted).any())

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))
