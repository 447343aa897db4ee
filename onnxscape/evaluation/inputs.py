"""From a request to everything that defines the numbers: model, samples, directions, spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import CUSTOM, Labels
from onnxscape.core.parameter import Role
from onnxscape.core.spec import EvalSpec
from onnxscape.data import Dataset, load_dataset, prepare_samples
from onnxscape.data.arrays import read_npz
from onnxscape.data.dataset import SAMPLE_WEIGHT
from onnxscape.errors import (
    DataError,
    NoParametersError,
    UnsupportedModelError,
    UsageError,
)
from onnxscape.evaluation.approximation import AUTO, approximation, check_growth, growth
from onnxscape.evaluation.directions import make_directions
from onnxscape.evaluation.objective import (
    Objective,
    check_names,
    custom_files,
    is_file,
    make_objective,
    wanted_labels,
)
from onnxscape.evaluation.probe import PROBED, look_at
from onnxscape.evaluation.proposal import propose
from onnxscape.evaluation.request import DEFAULT_SAMPLES
from onnxscape.graph.batch_axis import fixed_batch
from onnxscape.graph.canonical import canonical_of, fed_inputs
from onnxscape.graph.model_file import ModelFile, read_model
from onnxscape.graph.operands import weight_inputs
from onnxscape.graph.outputs import choose_output
from onnxscape.graph.prepared import analyse

if TYPE_CHECKING:
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
        objective: The loss and metrics.
        spec: What defines the numbers.
    """

    request: EvalRequest
    file: ModelFile
    parameters: tuple[Parameter, ...]
    samples: Samples
    delta: Direction | None
    eta: Direction | None
    objective: Objective
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
    check_names(request)
    savings = approximation(request)
    if request.split not in {"train", "test"}:
        raise UsageError(f"expected --split train or test, got {request.split!r}")
    file = read_model(request.model, weights=_weights(request))
    parameters, warnings = analyse(file, request.overrides, precision=request.precision)
    for text in warnings:
        observer.warning(text)
    weightless = weight_inputs(canonical_of(file, request.precision).model)
    if weightless and all(p.role is not Role.WEIGHT for p in parameters):
        raise NoParametersError(
            f"nothing to move: {', '.join(weightless)} are inputs of the model that are used "
            "like weights; if they are, give their values with --weights FILE.npz"
        )
    delta, eta = make_directions(parameters, request, observer, warnings=warnings)
    samples, objective = _samples_and_objective(file, request, observer)
    random = request.directions is None
    spec = EvalSpec(
        model=file.digest,
        data=samples.digest,
        preprocessing=samples.preprocessing,
        samples=len(samples),
        population=samples.population,
        grid=request.grid,
        seed=request.seed if random else None,
        normalization=str(request.normalization) if random else None,
        ignore=str(request.ignore) if random else None,
        orthogonal=request.orthogonal if random else None,
        directions=None if random else _digest(delta, eta),
        precision=request.precision,
        include=tuple(sorted(set(request.include))) if random else (),
        exclude=tuple(sorted(set(request.exclude))) if random else (),
        filter_axis=_axes(request.filter_axis, parameters) if random else {},
        **savings,
        **objective.spec,
    )
    return EvalInputs(request, file, parameters, samples, delta, eta, objective, spec)


def _axes(filter_axis: Mapping[str, int], parameters: tuple[Parameter, ...]) -> dict[str, int]:
    """Return the axes the user chose, counted from the front."""
    ranks = {p.name: len(p.shape) for p in parameters}
    return {name: axis % ranks[name] for name, axis in sorted(filter_axis.items())}


def _digest(delta: Direction | None, eta: Direction | None) -> str:
    text = "/".join("-" if d is None else d.digest() for d in (delta, eta))
    return hashlib.sha256(text.encode()).hexdigest()


def _weights(request: EvalRequest) -> dict[str, NDArray[Any]] | None:
    """Return the values of inputs that are weights, by name."""
    given = request.weights
    if isinstance(given, str | Path):
        return read_npz(Path(given))
    return None if given is None else {n: np.asarray(values) for n, values in given.items()}


def _samples_and_objective(
    file: ModelFile, request: EvalRequest, observer: Observer
) -> tuple[Samples, Objective]:
    """Read the data, look at what the model makes of it, and settle the loss.

    Returns:
        All samples, and what is computed from their outputs.
    """
    dataset = _dataset(request.data, request, observer)
    _refuse_missing_weights(file, request, dataset)
    custom = custom_files(request)
    output, default = _output(file, request, custom, observer)
    few = _samples(
        _without_weights(dataset, file),
        file,
        request,
        labels=Labels.ANY,
        samples=min(PROBED, len(dataset)),
    )
    batch = fixed_batch(canonical_of(file, request.precision).model)
    probe = look_at(
        file,
        few,
        output,
        precision=request.precision,
        pieces=None if batch is None else batch.size,
    )
    reason = None
    if request.loss is None:
        name, reason = propose(probe, dataset.labels, request.class_axis)
    else:
        name = CUSTOM if is_file(request.loss) else request.loss
    samples = _samples(
        dataset,
        file,
        request,
        samples=_sample_count(request, len(dataset)),
        shuffled=request.samples == AUTO,
        **wanted_labels(name, probe, request),
    )
    samples = replace(samples, growth=growth(request))
    _note_raw_bytes(dataset, samples, observer)
    objective = make_objective(
        request,
        name,
        probe,
        samples,
        custom,
        reason=reason,
        default_output=default,
        batch=None if batch is None or batch.dynamic else batch.size,
        observer=observer,
    )
    check_growth(samples.growth, objective.loss)
    return samples, objective


def _without_weights(dataset: Dataset, file: ModelFile) -> Dataset:
    """Return the data without weights of samples: a few of them may all be 0."""
    wanted = {signature.name for signature in file.inputs}
    if SAMPLE_WEIGHT not in dataset.fields or SAMPLE_WEIGHT in wanted:
        return dataset
    fields = {n: array for n, array in dataset.fields.items() if n != SAMPLE_WEIGHT}
    return replace(dataset, fields=fields)


def _note_raw_bytes(dataset: Dataset, samples: Samples, observer: Observer) -> None:
    """Tell of bytes that are fed to a model which may have been trained on fractions."""
    for field, array in dataset.fields.items():
        name = field if field in samples.inputs else next(iter(samples.inputs))
        step = samples.preprocessing.get(name)
        scaled = isinstance(step, Mapping) and step.get("scale") != 1.0
        if array.dtype == np.uint8 and samples.inputs[name].dtype.kind == "f" and not scaled:
            observer.note(
                f"{field!r} holds bytes, fed as numbers from 0 to 255; if the model was "
                "trained on 0 to 1, say --scale unit"
            )


def _output(
    file: ModelFile, request: EvalRequest, custom: Mapping[str, ModelFile], observer: Observer
) -> tuple[str, str | None]:
    """Return the output that the loss is computed from, and the one taken by default.

    Raises:
        UnsupportedModelError: If it takes the user to tell.
    """
    if request.output is None and "loss" in custom:
        # A loss given as a graph names its outputs itself; the first of them is compared in
        # the self-test.
        taken = {signature.name for signature in custom["loss"].inputs}
        for signature in file.outputs:
            if signature.name in taken:
                return signature.name, signature.name
    try:
        default = choose_output(file, None)
    except UnsupportedModelError:
        if request.output is None:
            raise
        default = None
    chosen = choose_output(file, request.output)
    if request.output is None and len(file.outputs) > 1:
        observer.note(
            f"the loss is computed from {chosen!r}, the only one of {len(file.outputs)} "
            "outputs that holds floats"
        )
    return chosen, default


def _sample_count(request: EvalRequest, available: int) -> int | None:
    wanted = request.samples
    if wanted is None:
        return min(DEFAULT_SAMPLES, available)
    if isinstance(wanted, str):
        if wanted not in {"all", AUTO}:
            raise UsageError(f"expected a number of samples, 'all' or 'auto', got {wanted!r}")
        return None
    return wanted


def _samples(
    dataset: Dataset, file: ModelFile, request: EvalRequest, **wanted: Any
) -> Samples:
    return prepare_samples(
        dataset,
        fed_inputs(file, request.precision),
        layout=request.layout,
        mean=request.mean,
        std=request.std,
        scale=request.scale,
        **wanted,
    )


def _refuse_missing_weights(file: ModelFile, request: EvalRequest, dataset: Dataset) -> None:
    """Say of an input without data that it is a weight, rather than that data are missing.

    Raises:
        DataError: If there is one.
    """
    inputs = {signature.name for signature in fed_inputs(file, request.precision)}
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
    return Dataset.from_arrays("arrays", arrays)
