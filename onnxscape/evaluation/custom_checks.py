"""Checks of a loss or metric given as a graph: it is run on the outputs of a few samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnxscape.errors import DataError, UnsupportedModelError
from onnxscape.graph.heads import labels_input
from onnxscape.runtime.devices import find_device
from onnxscape.runtime.self_test import FLOOR, LOOSENED, TOLERANCE
from onnxscape.runtime.sessions import open_session, run, session_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onnxscape.core.samples import Samples, TensorSignature
    from onnxscape.evaluation.probe import Probe
    from onnxscape.graph.model_file import ModelFile


def check_custom(name: str, file: ModelFile, probe: Probe, samples: Samples) -> None:
    """Run a loss or metric given as a graph on a few samples, at once and one by one.

    Args:
        name: The metric's name, or `loss`.
        file: The graph.
        probe: The model's outputs.
        samples: All samples, labels as they are fed.

    Raises:
        UnsupportedModelError: If it fails, gives anything but a number per sample, or mixes
            the samples of a batch.
        DataError: If it takes labels and there are none, or they have another shape than it
            declares, or change in its type.
    """
    count = min(len(probe.samples), len(samples))
    feeds = _feeds(file, probe, samples, count)
    session = open_session(_of_any_batch(file), find_device("cpu"), session_options(1))
    output = file.outputs[0].name
    (at_once,) = run(session, [output], feeds)
    if at_once.shape not in {(count,), (count, 1)}:
        raise UnsupportedModelError(
            f"expected {file.label} to give one number per sample, [{count}] or [{count}, 1] "
            f"for {count} samples, got {list(at_once.shape)} for the {_what(name)}"
        )
    try:
        alone = [
            run(session, [output], {n: a[row : row + 1] for n, a in feeds.items()})[0]
            for row in range(count)
        ]
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{file.label} takes {count} samples at once, but not one alone: {error}; the "
            f"{_what(name)} must take any number of samples"
        ) from error
    _compare(name, file, at_once.reshape(count), np.concatenate(alone).reshape(count))


def _what(name: str) -> str:
    return name if name == "loss" else f"metric {name!r}"


def _feeds(
    file: ModelFile, probe: Probe, samples: Samples, count: int
) -> dict[str, NDArray[Any]]:
    """Return what the graph is fed for the first samples, cast as behind the model.

    Raises:
        UnsupportedModelError: If an output that it reads has no axis of samples.
        DataError: If the labels do not fit.
    """
    labels = labels_input(file, tuple(probe.others))
    feeds = {}
    for signature in file.inputs:
        if signature.name == labels:
            array = _labels(samples, signature, file)
        else:
            array = probe.others[signature.name]
            if array.ndim == 0 or len(array) != len(probe.samples):
                raise UnsupportedModelError(
                    f"expected the output {signature.name!r} that {file.label} reads with "
                    f"samples along its first axis, got {list(array.shape)} for "
                    f"{len(probe.samples)} samples; read an output of single samples"
                )
        feeds[signature.name] = array[:count].astype(signature.dtype)
    return feeds


def _labels(samples: Samples, signature: TensorSignature, file: ModelFile) -> NDArray[Any]:
    """Return all labels, as they are fed.

    Raises:
        DataError: If there are none, or they do not fit what the graph declares.
    """
    labels, where = samples.labels, f"{file.label} ({signature})"
    if labels is None:
        raise DataError(f"{where} takes labels, and {samples.name} has none")
    declared = signature.shape
    fed = f"[{', '.join(['N', *map(str, labels.shape[1:])])}]"
    if declared is not None and not (
        len(declared) == labels.ndim
        and all(n in {None, m} for n, m in zip(declared[1:], labels.shape[1:], strict=True))
    ):
        raise DataError(
            f"expected the labels of {samples.name} shaped as {where} declares them, but they "
            f"are fed as {fed}; declare that shape in the graph"
        )
    dtype = signature.dtype
    if dtype.kind in "biu" and not (labels.astype(dtype) == labels).all():
        raise DataError(
            f"the labels of {samples.name} ({labels.dtype}) would change in {where}; "
            "declare another type of labels there"
        )
    return labels


def _of_any_batch(file: ModelFile) -> bytes:
    """Return the graph without the sizes it declares along samples, as behind the model."""
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    del proto.graph.value_info[:]
    fed = {signature.name for signature in file.inputs}
    for value in (*(v for v in proto.graph.input if v.name in fed), *proto.graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes:
            axes[0].Clear()
    return proto.SerializeToString()


def _compare(name: str, file: ModelFile, at_once: NDArray[Any], alone: NDArray[Any]) -> None:
    """Compare the numbers of samples in one batch with those of each sample alone.

    Args:
        name: The metric's name, or `loss`.
        file: The graph.
        at_once: [samples].
        alone: [samples].

    Raises:
        UnsupportedModelError: If they differ.
    """
    at_once, alone = at_once.astype(np.float64), alone.astype(np.float64)
    types = {signature.dtype.name for signature in (*file.inputs, *file.outputs)}
    tolerance = max([TOLERANCE, *(LOOSENED[kind] for kind in types if kind in LOOSENED)])
    largest = np.abs(at_once[np.isfinite(at_once)]).max(initial=0.0)
    allowed = max(tolerance * largest, FLOOR)
    same = np.isclose(alone, at_once, rtol=0.0, atol=allowed, equal_nan=True)
    if not same.all():
        row = int(np.argmin(same))
        raise UnsupportedModelError(
            f"{file.label} mixes the samples of a batch: the {_what(name)} of one sample is "
            f"{alone[row]:.6g} where it is alone and {at_once[row]:.6g} among {len(same)}, so "
            "it would depend on the batch size; compute it from each sample alone (no mean, "
            "sum or normalization over the first axis)"
        )
