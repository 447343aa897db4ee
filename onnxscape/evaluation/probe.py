"""A first look at a model's outputs: the user's own file, run on a few samples on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import DataError, UnsupportedModelError, UsageError
from onnxscape.graph.outputs import last_operator
from onnxscape.runtime.devices import find_device
from onnxscape.runtime.self_test import FLOOR, LOOSENED, TOLERANCE
from onnxscape.runtime.user_model import UserModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.observer import Observer
    from onnxscape.graph.model_file import ModelFile

PROBED = 8
"""Samples that are looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """The outputs of a few samples.

    Attributes:
        output: Name of the output that the loss is computed from.
        values: That output [n, ...], or one number for all of them.
        others: All outputs that are tensors, by name.
        per_batch: Whether it is one number for all.
        last: Operator that makes it; None if it comes from no node.
        samples: The samples, labels as they were found.
        twice: Where it is one number for all, what it is for the same samples twice over;
            None where the file does not take so many.
        loosened: Why the file may round more than float32 does.
    """

    output: str
    values: NDArray[Any]
    others: Mapping[str, NDArray[Any]]
    per_batch: bool
    last: str | None
    samples: Samples
    twice: NDArray[Any] | None = None
    loosened: frozenset[str] = frozenset()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output for one sample."""
        return () if self.per_batch else self.values.shape[1:]


def look_at(
    file: ModelFile,
    samples: Samples,
    output: str,
    *,
    precision: str = "fp32",
    pieces: int | None = None,
) -> Probe:
    """Run the user's file on a few samples.

    Args:
        file: The model.
        samples: The samples.
        output: Name of the output that the loss is computed from.
        precision: Arithmetic of the forward pass.
        pieces: Samples that the file takes at once; None for any number.

    Returns:
        What it computes.

    Raises:
        UnsupportedModelError: If it cannot be run, or the output has no axis of samples.
    """
    cpu = find_device("cpu")
    user = UserModel(file=file, device=cpu, threads=1, precision=precision, pieces=pieces)
    # More pieces than one would hide that a whole batch has one number.
    count = len(samples) if pieces in {None, 1} else min(len(samples), pieces)
    samples = replace(
        samples,
        inputs={name: array[:count] for name, array in samples.inputs.items()},
        labels=None if samples.labels is None else samples.labels[:count],
    )
    outputs = user.outputs({**samples.inputs, **samples.constants})
    values = np.asarray(outputs[output])
    per_batch = values.ndim == 0 or (values.size == 1 and count > 1)
    if not per_batch and len(values) != count:
        raise UnsupportedModelError(
            f"expected the output {output!r} with samples along its first axis, got "
            f"{list(values.shape)} for {count} samples"
        )
    twice = None
    if per_batch and pieces is None:
        doubled = {name: np.concatenate([a, a]) for name, a in samples.inputs.items()}
        twice = np.asarray(user.outputs({**doubled, **samples.constants})[output])
    return Probe(
        output=output,
        values=values,
        others={
            name: array for name, array in outputs.items() if isinstance(array, np.ndarray)
        },
        per_batch=per_batch,
        last=last_operator(file.proto, output),
        samples=samples,
        twice=twice,
        loosened=user.loosened,
    )


def check_per_batch(
    probe: Probe, samples: Samples, size: int | None, observer: Observer
) -> None:
    """Refuse what cannot be right where the model computes one loss for a whole batch.

    Args:
        probe: The model's outputs.
        samples: All samples.
        size: Batch size that the model demands; None if it takes any.
        observer: Told if it cannot be checked whether that loss is a mean.

    Raises:
        DataError: If samples have weights.
        UnsupportedModelError: If the loss is no mean over the batch.
        UsageError: If the last batch would have to be filled up.
    """
    if not probe.per_batch:
        return
    if samples.weights is not None:
        raise DataError(
            f"the output {probe.output!r} is one loss for a whole batch, so the weights of "
            "the samples cannot be applied; leave out sample_weight"
        )
    if size is not None and len(samples) % size:
        raise UsageError(
            f"the output {probe.output!r} is one loss for a whole batch of {size}, and "
            f"{len(samples)} samples are no whole number of batches: use --samples "
            f"{max(len(samples) // size, 1) * size}"
        )
    _check_mean(probe, size, observer)


def _check_mean(probe: Probe, size: int | None, observer: Observer) -> None:
    """Refuse one loss for a whole batch that is another for the same samples twice over.

    Raises:
        UnsupportedModelError: If it is.
    """
    once = float(probe.values.reshape(()))
    twice = None if probe.twice is None else float(probe.twice.reshape(()))
    if twice is None or not np.isfinite([once, twice]).all():
        why = (
            f"the model takes batches of {size or len(probe.samples)} only"
            if twice is None
            else f"it is {once:g} at the center"
        )
        if size != 1:
            observer.warning(
                f"the output {probe.output!r} is taken for the mean of the losses of a batch, "
                f"which could not be checked, since {why}; if it is their sum, the surface is "
                "too high by a factor: export the model with the mean"
            )
        return
    tolerance = max([TOLERANCE, *(LOOSENED.get(why, TOLERANCE) for why in probe.loosened)])
    if abs(twice - once) > max(tolerance * abs(once), FLOOR):
        count = len(probe.samples)
        raise UnsupportedModelError(
            f"the output {probe.output!r} is no mean over the batch: it is {once:.6g} for "
            f"{count} samples of {probe.samples.name}, and {twice:.6g} for the same samples "
            "twice over, so the loss would depend on the batch size; export the model with "
            "the mean of the samples' losses, not their sum, or with one loss per sample"
        )
