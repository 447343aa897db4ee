"""From a request to everything that defines the numbers: model, samples, directions, spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.parameter import Role
from onnxscape.core.spec import EvalSpec
from onnxscape.data import Dataset, load_dataset, prepare_samples
from onnxscape.data.arrays import read_npz
from onnxscape.errors import DataError, NoParametersError, UsageError
from onnxscape.evaluation.directions import make_directions
from onnxscape.evaluation.request import DEFAULT_SAMPLES
from onnxscape.graph.canonical import canonical_of, fed_inputs
from onnxscape.graph.heads import LOSSES, METRICS
from onnxscape.graph.model_file import ModelFile, read_model
from onnxscape.graph.operands import weight_inputs
from onnxscape.graph.prepared import analyse

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from onnxscape.core.direction import Direction
    from onnxscape.core.parameter import Parameter
    from onnxscape.core.samples import Samples
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import Data, EvalRequest


@dataclass(frozen=True, slots=True, eq=False)
class EvalInputs:
    """A request with everything it names read and checked.

    Attributes:
        request: The request.
        file: The model.
        parameters: Its parameters in file order.
        samples: The samples, ready to be fed.
        delta: Direction of alpha; None on a line along eta.
        eta: Direction of beta; None on a line along delta.
        spec: What defines the numbers.
    """

    request: EvalRequest
    file: ModelFile
    parameters: tuple[Parameter, ...]
    samples: Samples
    delta: Direction | None
    eta: Direction | None
    spec: EvalSpec

    @property
    def moved(self) -> set[str]:
        """Names of the parameters that move."""
        return {name for d in (self.delta, self.eta) if d is not None for name in d.tensors}


def resolve(request: EvalRequest, observer: Observer) -> EvalInputs:
    """Read and check what a request names.

    Args:
        request: The request.
        observer: Told of warnings and downloads.

    Returns:
        The inputs of the evaluation.

    Raises:
        UsageError: If the loss or the split is not known.
        NoParametersError: If all weights are inputs without values.
        OnnxscapeError: If anything else cannot be read, or does not fit together.
    """
    if request.loss not in LOSSES:
        raise UsageError(f"expected --loss {' or '.join(LOSSES)}, got {request.loss!r}")
    if request.split not in {"train", "test"}:
        raise UsageError(f"expected --split train or test, got {request.split!r}")
    file = read_model(request.model, weights=_weights(request))
    parameters, warnings = analyse(file, precision=request.precision)
    for text in warnings:
        observer.warning(text)
    weightless = weight_inputs(canonical_of(file, request.precision).model)
    if weightless and all(p.role is not Role.WEIGHT for p in parameters):
        raise NoParametersError(
            f"nothing to move: {', '.join(weightless)} are inputs of the model that are used "
            "like weights; if they are, give their values with --weights FILE.npz"
        )
    delta, eta = make_directions(parameters, request, observer)
    samples = _samples(file, request, observer)
    random = request.directions is None
    spec = EvalSpec(
        model=file.digest,
        data=samples.digest,
        preprocessing=samples.preprocessing,
        samples=len(samples),
        population=samples.population,
        loss=request.loss,
        metrics=_metrics(request),
        grid=request.grid,
        seed=request.seed if random else None,
        normalization=str(request.normalization) if random else None,
        ignore=str(request.ignore) if random else None,
        orthogonal=request.orthogonal if random else None,
        directions=None if random else _digest(delta, eta),
        precision=request.precision,
    )
    return EvalInputs(request, file, parameters, samples, delta, eta, spec)


def _metrics(request: EvalRequest) -> tuple[str, ...]:
    """Return the metrics besides the loss, in the loss's own order.

    Raises:
        UsageError: If the loss does not have one of them.
    """
    available = METRICS[request.loss]
    wanted = available if request.metrics is None else request.metrics
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise UsageError(
            f"expected --metric from {', '.join(available) or 'none'} with --loss "
            f"{request.loss}, got {', '.join(unknown)}"
        )
    return tuple(name for name in available if name in wanted)


def _digest(delta: Direction | None, eta: Direction | None) -> str:
    text = "/".join("-" if d is None else d.digest() for d in (delta, eta))
    return hashlib.sha256(text.encode()).hexdigest()


def _weights(request: EvalRequest) -> dict[str, NDArray[Any]] | None:
    """Return the values of inputs that are weights, by name."""
    given = request.weights
    if isinstance(given, str | Path):
        return read_npz(Path(given))
    return None if given is None else {n: np.asarray(values) for n, values in given.items()}


def _samples(file: ModelFile, request: EvalRequest, observer: Observer) -> Samples:
    dataset = _dataset(request.data, request, observer)
    wanted = request.samples
    if wanted is None:
        wanted = min(DEFAULT_SAMPLES, len(dataset))
    elif isinstance(wanted, str) and wanted != "all":
        raise UsageError(f"expected a number of samples or 'all', got {wanted!r}")
    inputs = fed_inputs(file, request.precision)
    _refuse_missing_weights(file, request, {signature.name for signature in inputs}, dataset)
    return prepare_samples(
        dataset,
        inputs,
        loss=request.loss,
        classes=_classes(file, request.loss),
        samples=None if isinstance(wanted, str) else wanted,
        layout=request.layout,
        mean=request.mean,
        std=request.std,
        scale=request.scale,
    )


def _refuse_missing_weights(
    file: ModelFile, request: EvalRequest, inputs: Collection[str], dataset: Dataset
) -> None:
    """Say of an input without data that it is a weight, rather than that data are missing.

    Raises:
        DataError: If there is one.
    """
    found = weight_inputs(canonical_of(file, request.precision).model)
    missing = [name for name in found if name in inputs and name not in dataset.fields]
    if missing and len(inputs) > 1:
        raise DataError(
            f"the model's input {missing[0]!r} is used like a weight and the data has no "
            "array for it; if it is one, give its values with --weights FILE.npz"
        )


def _dataset(data: Data, request: EvalRequest, observer: Observer) -> Dataset:
    if isinstance(data, str | Path):
        if not str(data):
            raise UsageError(
                "expected data as a name, file, folder or module:function, got ''"
            )
        return load_dataset(
            str(data),
            split=request.split,
            data_dir=request.data_dir,
            report=observer.note,
            progress=observer.bytes_read,
        )
    if isinstance(data, Mapping):
        arrays = {str(name): np.asarray(values) for name, values in data.items()}
    else:
        try:
            x, y = data
        except (TypeError, ValueError):
            raise DataError(
                "expected data as a name, a path, (x, y), or a mapping with the labels under "
                f"'y'; got {type(data).__name__}"
            ) from None
        arrays = {"x": np.asarray(x), "y": np.asarray(y)}
    if "y" not in arrays or len(arrays) < 2:
        raise DataError(
            f"expected arrays for the inputs and labels under 'y', got {', '.join(arrays)}"
        )
    labels = arrays.pop("y")
    return Dataset(name="arrays", fields=arrays, labels=labels)


def _classes(file: ModelFile, loss: str) -> int | None:
    """Return the number of classes if the model's output tells it."""
    if loss != "cross-entropy" or len(file.outputs) != 1:
        return None
    shape = file.outputs[0].shape
    return shape[1] if shape is not None and len(shape) == 2 else None
