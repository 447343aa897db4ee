"""From a request to everything that defines the numbers: model, samples, directions, spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import CUSTOM, Labels
from onnxscape.core.spec import EvalSpec
from onnxscape.data import prepare_samples
from onnxscape.data.labels import sample_weights
from onnxscape.data.matching import COLUMNS, match_inputs
from onnxscape.data.subset import subset_indices
from onnxscape.errors import UnsupportedModelError, UsageError
from onnxscape.evaluation.approximation import (
    AUTO,
    approximation,
    check_growth,
    check_two_level,
    growth,
    two_level,
)
from onnxscape.evaluation.directions import make_directions, refuse_nothing
from onnxscape.evaluation.given_data import given_data
from onnxscape.evaluation.given_weights import (
    given_weights,
    refuse_missing_weights,
    refuse_weightless,
)
from onnxscape.evaluation.mixing import warn_of_mixing
from onnxscape.evaluation.objective import (
    Objective,
    custom_files,
    ignored_label,
    make_objective,
    wanted_labels,
)
from onnxscape.evaluation.probe import PROBED, look_at
from onnxscape.evaluation.proposal import propose, told_of_proposal
from onnxscape.evaluation.request import DEFAULT_SAMPLES, check_names, is_file
from onnxscape.graph.batch_axis import fixed_batch
from onnxscape.graph.canonical import canonical_of, fed_inputs
from onnxscape.graph.model_file import ModelFile, read_model
from onnxscape.graph.outputs import choose_output
from onnxscape.graph.prepared import analyse

if TYPE_CHECKING:
    from onnxscape.core.direction import Direction
    from onnxscape.core.parameter import Parameter
    from onnxscape.core.samples import Samples
    from onnxscape.data import Dataset
    from onnxscape.data.matching import Matching
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest


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
        mixing: Whether outputs of a sample depend on the others in its batch.
    """

    request: EvalRequest
    file: ModelFile
    parameters: tuple[Parameter, ...]
    samples: Samples
    delta: Direction | None
    eta: Direction | None
    objective: Objective
    spec: EvalSpec
    mixing: bool = False

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
    file = read_model(request.model, request.name or "model", weights=given_weights(request))
    parameters, warnings = analyse(file, request.overrides, precision=request.precision)
    refuse_weightless(file, parameters, request.precision)
    refuse_nothing(parameters, request.ignore, warnings)
    for text in warnings:
        observer.warning(text)
    delta, eta = make_directions(parameters, request, observer)
    samples, objective, mixing = _samples_and_objective(file, request, observer)
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
    return EvalInputs(request, file, parameters, samples, delta, eta, objective, spec, mixing)


def _axes(filter_axis: Mapping[str, int], parameters: tuple[Parameter, ...]) -> dict[str, int]:
    """Return the axes the user chose, counted from the front."""
    ranks = {p.name: len(p.shape) for p in parameters}
    return {name: axis % ranks[name] for name, axis in sorted(filter_axis.items())}


def _digest(delta: Direction | None, eta: Direction | None) -> str:
    text = "/".join("-" if d is None else d.digest() for d in (delta, eta))
    return hashlib.sha256(text.encode()).hexdigest()


def _samples_and_objective(
    file: ModelFile, request: EvalRequest, observer: Observer
) -> tuple[Samples, Objective, bool]:
    """Read the data, look at what the model makes of it, and settle the loss.

    Returns:
        All samples, what is computed from their outputs, and whether batches matter to it.
    """
    dataset = given_data(request, observer)
    refuse_missing_weights(file, dataset, request.precision)
    custom = custom_files(request)
    output, default = _output(file, request, custom, observer)
    few = _samples(
        dataset,
        file,
        request,
        labels=Labels.ANY,
        samples=min(PROBED, len(dataset)),
        weights=False,  # those of a few may all be 0
    )
    match = match_inputs(dataset, fed_inputs(file, request.precision))
    batch = fixed_batch(canonical_of(file, request.precision).model)
    pieces = None if batch is None else batch.size
    probe = look_at(
        file,
        few,
        output,
        precision=request.precision,
        pieces=pieces,
        proven=batch is not None and batch.dynamic,
    )
    reason = None
    if request.loss is None:
        name, reason = propose(
            probe,
            dataset.labels,
            match.arrays,
            class_axis=request.class_axis,
            ignore_index=ignored_label(request),
        )
    else:
        name = CUSTOM if is_file(request.loss) else request.loss
    count = _sample_count(request, len(dataset))
    _check_choice(dataset, match, count)
    with told_of_proposal(name, reason):
        samples = _samples(
            dataset,
            file,
            request,
            samples=count,
            shuffled=request.samples == AUTO or request.two_level is not None,
            **wanted_labels(name, probe, request, custom),
        )
        samples = replace(samples, growth=growth(request), subset=two_level(request))
        _note_raw_bytes(match, samples, observer)
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
    check_two_level(samples, objective.loss, objective.spec["metrics"])
    mixing = warn_of_mixing(
        probe, objective.loss, custom, file, request.precision, pieces, observer
    )
    return samples, objective, mixing


def _check_choice(dataset: Dataset, match: Matching, count: int | None) -> None:
    """Refuse, before the loss is to blame, samples or weights that cannot be had.

    Raises:
        UsageError: If less than one sample is wanted.
        DataError: If there are not so many, or their weights cannot be used.
    """
    chosen = subset_indices(dataset.digest(), len(dataset), count)
    if match.weights is not None:
        sample_weights(match.weights, name=dataset.name, chosen=chosen)


def _note_raw_bytes(match: Matching, samples: Samples, observer: Observer) -> None:
    """Tell of bytes that are fed to a model which may have been trained on fractions."""
    for name, array in match.arrays.items():
        step = samples.preprocessing.get(name)
        scaled = isinstance(step, Mapping) and step.get("scale") != 1.0
        if array.dtype == np.uint8 and samples.inputs[name].dtype.kind == "f" and not scaled:
            field = match.fields[name]
            subject = "the columns hold" if field == COLUMNS else f"{field!r} holds"
            observer.note(
                f"{subject} bytes, fed as numbers from 0 to 255; if the model was trained on "
                "0 to 1, say --scale unit"
            )


def _output(
    file: ModelFile, request: EvalRequest, custom: Mapping[str, ModelFile], observer: Observer
) -> tuple[str, str | None]:
    """Return the output that the loss is computed from, and the one taken by default.

    Raises:
        UnsupportedModelError: If it takes the user to tell.
    """
    if request.output is None and "loss" in custom:
        # A loss given as a graph names its outputs itself.
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
