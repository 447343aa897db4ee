"""A first look at a model's outputs: the user's own file, run on a few samples on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import DataError, UnsupportedModelError, UsageError
from onnxscape.graph.heads import labels_input
from onnxscape.graph.outputs import last_operator
from onnxscape.runtime.devices import find_device
from onnxscape.runtime.sessions import open_session, run, session_options
from onnxscape.runtime.user_model import UserModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.core.samples import Samples
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
    """

    output: str
    values: NDArray[Any]
    others: Mapping[str, NDArray[Any]]
    per_batch: bool
    last: str | None
    samples: Samples

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
    user = UserModel(
        file=file,
        device=find_device("cpu"),
        threads=1,
        precision=precision,
        pieces=pieces,
    )
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
    return Probe(
        output=output,
        values=values,
        others={
            name: array for name, array in outputs.items() if isinstance(array, np.ndarray)
        },
        per_batch=per_batch,
        last=last_operator(file.proto, output),
        samples=samples,
    )


def check_custom(name: str, file: ModelFile, probe: Probe, samples: Samples) -> None:
    """Run a loss or metric given as a graph on the outputs of a few samples.

    Args:
        name: The metric's name, or `loss`.
        file: The graph.
        probe: The model's outputs.
        samples: All samples, labels as the loss takes them.

    Raises:
        UnsupportedModelError: If it fails, or gives anything but a number per sample.
        DataError: If it takes labels and there are none, or they change in its type.
    """
    labels = labels_input(file, tuple(probe.others))
    feeds = {}
    for signature in file.inputs:
        array = probe.others.get(signature.name)
        if signature.name == labels:
            array = probe.samples.labels
            _check_labels(samples, signature.dtype, f"{file.path} ({signature})")
        if array is not None:
            feeds[signature.name] = array.astype(signature.dtype)
    count = len(probe.samples)
    session = open_session(file.runnable(), find_device("cpu"), session_options(1))
    (result,) = run(session, [file.outputs[0].name], feeds)
    if result.shape not in {(count,), (count, 1)}:
        raise UnsupportedModelError(
            f"expected {file.path} to give one number per sample, [{count}] or [{count}, 1] "
            f"for {count} samples, got {list(result.shape)} for the {name}"
        )


def _check_labels(samples: Samples, dtype: np.dtype[Any], where: str) -> None:
    if samples.labels is None:
        raise DataError(f"{where} takes labels, and {samples.name} has none")
    if dtype.kind in "biu" and not (samples.labels.astype(dtype) == samples.labels).all():
        raise DataError(
            f"the labels of {samples.name} ({samples.labels.dtype}) would change in {where}; "
            "declare another type of labels there"
        )


def check_per_batch(probe: Probe, samples: Samples, size: int | None) -> None:
    """Refuse what cannot be right where the model computes one loss for a whole batch.

    Args:
        probe: The model's outputs.
        samples: All samples.
        size: Batch size that the model demands; None if it takes any.

    Raises:
        DataError: If samples have weights.
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
