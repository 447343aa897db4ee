"""A first look at a model's outputs: the user's own file, run on a few samples on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import DataError, UnsupportedModelError, UsageError
from onnxscape.evaluation.mixing import check_alone, dependence, rounding
from onnxscape.evaluation.other_axis import refuse_other_axis
from onnxscape.graph.outputs import last_operator
from onnxscape.runtime.devices import find_device
from onnxscape.runtime.self_test import FLOOR, LOOSENED, TOLERANCE
from onnxscape.runtime.user_model import UserModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
        alone: Row of a sample to the outputs where it is alone or, where the file takes a
            fixed batch, where copies of it make one; empty where nothing else can come out.
        alone_fails: Why the model does not take one sample alone; None if it does.
    """

    output: str
    values: NDArray[Any]
    others: Mapping[str, NDArray[Any]]
    per_batch: bool
    last: str | None
    samples: Samples
    twice: NDArray[Any] | None = None
    loosened: frozenset[str] = frozenset()
    alone: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    alone_fails: str | None = None

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
    proven: bool = False,
) -> Probe:
    """Run the user's file on a few samples.

    Args:
        file: The model.
        samples: The samples.
        output: Name of the output that the loss is computed from.
        precision: Arithmetic of the forward pass.
        pieces: Samples that the file takes at once; None for any number.
        proven: Whether it is known that no sample sees another.

    Returns:
        What it computes.

    Raises:
        UnsupportedModelError: If it cannot be run, the output has no axis of samples, or
            samples are taken along another axis than the first.
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
    try:
        probe = _run(user, samples, output, proven)
    except UnsupportedModelError:
        refuse_other_axis(replace(user, pieces=None), samples, output)
        raise
    if not probe.per_batch:
        alone = {row: outputs[output] for row, outputs in probe.alone.items()}
        if dependence(probe.values, alone, rounding(user.loosened, file)):
            refuse_other_axis(replace(user, pieces=None), samples, output)
    return probe


def _run(user: UserModel, samples: Samples, output: str, proven: bool) -> Probe:
    """Run the file on a few samples together, and on each alone.

    Returns:
        What it computes.

    Raises:
        UnsupportedModelError: If it cannot be run, or the output has no axis of samples.
    """
    run = user.ready()
    count = len(samples)
    outputs = run({**samples.inputs, **samples.constants})
    values = np.asarray(outputs[output])
    per_batch = values.ndim == 0 or (values.size == 1 and count > 1)
    if not per_batch and len(values) != count:
        raise UnsupportedModelError(
            f"expected the output {output!r} with samples along its first axis, got "
            f"{list(values.shape)} for {count} samples"
        )
    twice = None
    if per_batch and user.pieces is None:
        doubled = {name: np.concatenate([a, a]) for name, a in samples.inputs.items()}
        twice = np.asarray(run({**doubled, **samples.constants})[output])
    alone: dict[int, dict[str, Any]] = {}
    fails = None
    if not proven:
        try:
            alone = _alone(run, samples, user.pieces, per_batch)
        except UnsupportedModelError as error:
            fails = str(error)
    if not per_batch:
        check_alone(output, values, alone, user.pieces or 1)
    return Probe(
        output=output,
        values=values,
        others={
            name: array for name, array in outputs.items() if isinstance(array, np.ndarray)
        },
        per_batch=per_batch,
        last=last_operator(user.file.proto, output),
        samples=samples,
        twice=twice,
        loosened=user.loosened,
        alone=alone,
        alone_fails=fails,
    )


def _alone(
    run: Callable[[Mapping[str, NDArray[np.generic]]], dict[str, Any]],
    samples: Samples,
    pieces: int | None,
    per_batch: bool,
) -> dict[int, dict[str, Any]]:
    """Return by row what a file computes for samples alone, or for batches of their copies.

    Raises:
        UnsupportedModelError: If it fails on them.
    """
    count, size = len(samples), pieces or 1
    if size == 1 and (pieces is not None or count == 1):
        return {}  # each is alone as it is
    rows = list(range(count))
    if per_batch and count < size:
        return {}  # the batch was filled up, and its one number is of copies as well
    if pieces is not None and not per_batch:
        rows = sorted({0, count - 1})  # every place in the batch is compared for each
    return {
        row: run(
            {name: a[[row] * size] for name, a in samples.inputs.items()}
            | dict(samples.constants)
        )
        for row in rows
    }


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
