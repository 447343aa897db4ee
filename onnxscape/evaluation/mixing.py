"""Whether the samples of a batch see one another: a few together against each of them alone.

Both are the same file in the same arithmetic, so of samples that do not see one another only
the order of the sums within an operator may differ with the size of a batch. That is less than
the tolerance of the self-test, which stands for rounding everywhere here: 1e-4 of the largest
output. Half floats, and steps of quantized activations that a last bit carries a value over,
get the looser ones; a quantization whose steps themselves depend on the batch does not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.audit.evidence import count_operators
from onnxscape.graph.batch_axis import why_unproven
from onnxscape.graph.canonical import canonical_of
from onnxscape.graph.heads import labels_input
from onnxscape.graph.passes.quantization import DYNAMIC
from onnxscape.runtime.self_test import FLOOR, LOOSENED, STEPS, TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from onnxscape.core.loss import Loss
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.probe import Probe
    from onnxscape.graph.model_file import ModelFile


def dependence(
    together: NDArray[np.generic],
    alone: Mapping[int, NDArray[np.generic]],
    tolerance: float = TOLERANCE,
) -> float:
    """Return how far outputs of samples are from those of each sample alone.

    Args:
        together: An output of some samples in one batch [samples, ...].
        alone: Row of a sample to the same output where it is alone [1, ...], or where copies
            of it make a whole batch [copies, ...].
        tolerance: What is rounding, as a fraction of the largest output.

    Returns:
        The largest difference as a fraction of the largest output, infinite where only one of
        them is finite; 0 if it is no more than rounding. Of whole numbers and truth values,
        the share that differs.
    """
    if not alone or not together.size:
        return 0.0
    copies = {row: array.reshape(-1, *together.shape[1:]) for row, array in alone.items()}
    if together.dtype.kind in "biuOSU":
        different = np.stack([array != together[row] for row, array in copies.items()])
        count = np.count_nonzero(different)
        return count / different.size if count > max(1, STEPS * different.size) else 0.0
    one = np.concatenate([together[[row] * len(array)] for row, array in copies.items()])
    other = np.concatenate(list(copies.values()))
    one, other = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(one)
    if (finite != np.isfinite(other)).any():
        return float("inf")
    if not finite.any():
        return 0.0
    difference = float(np.abs(one[finite] - other[finite]).max())
    largest = float(np.abs(together[np.isfinite(together)]).max())
    return difference / largest if difference > max(tolerance * largest, FLOOR) else 0.0


def dynamic_operators(file: ModelFile) -> tuple[str, ...]:
    """Return the operators of a file that quantize by the range of a whole batch.

    Args:
        file: The model.
    """
    return tuple(sorted(DYNAMIC.intersection(count_operators(file.proto))))


def check_alone(
    output: str, together: NDArray[Any], alone: Mapping[int, Mapping[str, Any]], copies: int
) -> None:
    """Refuse an output of one sample alone that is not that of one sample.

    Args:
        output: Its name.
        together: What it is for some samples in one batch [samples, ...].
        alone: Row of a sample to all outputs where it is alone.
        copies: How often it is fed then.

    Raises:
        UnsupportedModelError: If it has not as many elements as one of some samples.
    """
    for outputs in alone.values():
        found = np.asarray(outputs[output])
        # A Squeeze may take the axis of samples away where it is 1.
        if found.size != copies * math.prod(together.shape[1:]):
            fed = "one sample" if copies == 1 else f"a batch of {copies} copies of one sample"
            raise UnsupportedModelError(
                f"expected the output {output!r} with samples along its first axis, got "
                f"{list(found.shape)} for {fed} and {list(together.shape)} for "
                f"{len(together)} samples; export the model for any number of samples"
            )


def rounding(loosened: frozenset[str], file: ModelFile) -> float:
    """Return what is rounding between a sample alone and among others.

    Args:
        loosened: Why the file may round more than float32 does.
        file: The model.

    Returns:
        A fraction of the largest output.
    """
    why = set(loosened)
    if dynamic_operators(file):
        why.discard("quantized")
    return max([TOLERANCE, *(LOOSENED.get(kind, TOLERANCE) for kind in why)])


def warn_of_mixing(
    probe: Probe,
    loss: Loss,
    custom: Mapping[str, ModelFile],
    file: ModelFile,
    precision: str,
    pieces: int | None,
    observer: Observer,
) -> bool:
    """Tell of outputs of a sample that depend on the other samples in its batch.

    Args:
        probe: The model's outputs.
        loss: The loss that reads them.
        custom: Losses and metrics given as graphs, which may read others.
        file: The model.
        precision: Arithmetic of the forward pass.
        pieces: Samples that the file takes at once; None for any number.
        observer: Told of it.

    Returns:
        Whether there are any, or may be.

    Raises:
        UnsupportedModelError: If one that is read does not have samples on its first axis.
    """
    if probe.alone_fails is not None:
        observer.warning(
            "whether the outputs of a sample depend on the others in its batch could not be "
            f"checked, since the model does not take one sample alone: {probe.alone_fails}"
        )
    mixing = bool(dynamic_operators(file))
    if not probe.alone:
        return mixing
    tolerance = rounding(probe.loosened, file)
    if loss.per_batch:
        _warn_of_weighting(probe, tolerance, observer)
    for name in _read(probe, loss, custom):
        alone = {row: outputs[name] for row, outputs in probe.alone.items()}
        together = probe.others[name]
        if together.ndim == 0 or len(together) != len(probe.samples):
            continue  # what reads it refuses that
        check_alone(name, together, probe.alone, pieces or 1)
        found = dependence(together, alone, tolerance)
        if found:
            mixing = True
            cause = _cause(file, precision, pieces or len(probe.samples))
            observer.warning(_text(name, found, cause, pieces))
    return mixing


def _read(probe: Probe, loss: Loss, custom: Mapping[str, ModelFile]) -> list[str]:
    """Return the names of the outputs that a loss and its metrics are computed from."""
    read = {} if "loss" in custom else {loss.output: None}
    names = tuple(probe.others)
    for graph in custom.values():
        labels = labels_input(graph, names)
        read |= {s.name: None for s in graph.inputs if s.name != labels and s.name in names}
    return list(read or {loss.output: None})


def _cause(file: ModelFile, precision: str, size: int) -> str:
    """Return what makes samples depend on each other, or may; empty if nothing is known."""
    dynamic = dynamic_operators(file)
    if dynamic:
        takes = "takes" if len(dynamic) == 1 else "take"
        return (
            f" ({' and '.join(dynamic)} {takes} the range of activations over a whole batch)"
        )
    reason = why_unproven(canonical_of(file, precision).model, size)
    return f" (the first that may make them: {reason})" if reason else ""


def _text(name: str, found: float, cause: str, pieces: int | None) -> str:
    by = f"by {found:.2g} of the largest" if np.isfinite(found) else "in being finite or not"
    ways = "where copies of it fill the batch" if pieces else "where it is alone"
    end = (
        f"results depend on which {pieces} samples share a batch"
        if pieces
        else "results depend on --batch-size: compare surfaces of one batch size only"
    )
    return (
        f"the outputs of a sample depend on the others in its batch{cause}: {name!r} differs "
        f"{by} {ways}, so {end}"
    )


def _warn_of_weighting(probe: Probe, tolerance: float, observer: Observer) -> None:
    """Tell of one number for a batch that is not the mean of its samples' own."""
    if len(probe.alone) != len(probe.samples):
        return
    own = [np.asarray(outputs[probe.output]).mean() for outputs in probe.alone.values()]
    mean, whole = float(np.mean(own, dtype=np.float64)), float(probe.values.reshape(()))
    if not np.isfinite([mean, whole]).all():
        return
    if abs(mean - whole) > max(tolerance * abs(whole), FLOOR):
        observer.warning(
            f"the output {probe.output!r} of a batch is not the mean of its samples' own: "
            f"{whole:.6g} for {len(own)} samples, whose own have the mean {mean:.6g}. It may "
            "be a mean over positions of which samples have different numbers, or over what "
            "else differs; batches are weighted by their samples, so results depend on "
            "--batch-size: export the model with one loss per sample, or compare surfaces of "
            "one batch size only"
        )
