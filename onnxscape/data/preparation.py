"""From a data set to the samples of one landscape: matched, chosen, checked, preprocessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.loss import Labels
from onnxscape.core.samples import Samples, has_name
from onnxscape.data.dataset import Preprocessing, first_where
from onnxscape.data.labels import sample_weights
from onnxscape.data.layout import Arrangement, arrange
from onnxscape.data.matching import match_inputs
from onnxscape.data.preprocessing import apply, is_floating, resolve
from onnxscape.data.subset import subset_indices
from onnxscape.data.wanted_labels import WantedLabels
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from onnxscape.core.samples import TensorSignature
    from onnxscape.data.dataset import Dataset
    from onnxscape.data.matching import Matching


def prepare_samples(
    dataset: Dataset,
    inputs: Sequence[TensorSignature],
    *,
    labels: Labels = Labels.CLASSES,
    classes: int | None = None,
    positions: int | None = None,
    ignore_index: int | None = None,
    next_token: bool = False,
    weights: bool = True,
    samples: int | None = 1000,
    shuffled: bool = False,
    layout: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    scale: str | float | None = None,
) -> Samples:
    """Choose samples and bring them to the form a model takes.

    Data is checked as a whole; only the chosen samples are preprocessed. Class labels keep the
    shape they have where `positions` is not given: `match_positions` then fits them to the
    output, as soon as its axes are known.

    Args:
        dataset: The raw data.
        inputs: The model's inputs that are to be fed.
        labels: What the labels of the loss are.
        classes: Number of classes of the model, where known.
        positions: Axes that the model's output has besides those of samples and of classes;
            None where not known. For class labels only.
        ignore_index: Class number of positions that do not count; None if all count.
        next_token: Whether class labels are the token at the next position, derived from
            `y` or from the input tokens; `ignore_index` is -100 then if it is None.
        weights: Whether the samples have the weights that the data holds, or all count alike.
        samples: Number of samples to use; None for all.
        shuffled: Whether all of them come in the order of the permutation as well.
        layout: Layout of the data: `NCHW`, `NHWC`, `flat`; None where shapes tell.
        mean: One number, or one per channel, subtracted after scaling.
        std: Likewise, divided by after that.
        scale: `raw`, `unit` (divide by 255) or a number to divide by. None for the data set's
            default: data from files is used as it is.

    Returns:
        The samples in evaluation order: that of the permutation, or natural if all are used.

    Raises:
        DataError: If the data cannot be used with this model.
        UsageError: If an option means nothing.
    """
    match = match_inputs(dataset, inputs)
    batched = [signature for signature in inputs if signature.name in match.arrays]
    wanted = WantedLabels(labels, classes, positions, ignore_index, next_token)
    wanted.check_there(dataset)
    applied = _applied(dataset, inputs, batched, scale=scale, mean=mean, std=std)
    arrangements = _arrangements(batched, match, dataset, layout)
    for name, array in match.arrays.items():
        _check_finite(array, match.fields[name], dataset.name)
    digest = dataset.digest()
    chosen = subset_indices(digest, len(dataset), samples, shuffled=shuffled)
    ready = wanted.of(dataset, inputs, match, chosen)
    counts = None
    if weights and match.weights is not None:
        counts = sample_weights(match.weights, name=dataset.name, chosen=chosen)
    arrays = {s.name: _array(s, match, arrangements[s.name], applied, chosen) for s in batched}
    _check_axes(batched, arrays)
    return Samples(
        inputs=arrays,
        labels=ready,
        population=len(dataset),
        name=dataset.name,
        digest=digest,
        preprocessing={
            name: {"layout": arrangements[name].text, **step.as_json()}
            for name, step in applied.items()
        },
        weights=counts,
        constants=_constants(match, inputs),
    )


def _applied(
    dataset: Dataset,
    inputs: Sequence[TensorSignature],
    batched: Sequence[TensorSignature],
    *,
    scale: str | float | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> dict[str, Preprocessing]:
    # By name of each input with samples what is done to their values.
    steps = resolve(dataset.preprocessing, scale=scale, mean=mean, std=std)
    by_default = scale is None and mean is None and std is None
    if len(batched) > 1 and not by_default:
        names = ", ".join(signature.name for signature in inputs)
        raise DataError(
            f"--scale, --mean and --std need a model with one input of samples, this one has "
            f"{len(inputs)} inputs ({names}); store the values of {dataset.name} preprocessed"
        )
    return {
        # A model that takes whole numbers does its own scaling.
        s.name: Preprocessing() if by_default and not is_floating(s.dtype) else steps
        for s in batched
    }


def _arrangements(
    batched: Sequence[TensorSignature], match: Matching, dataset: Dataset, layout: str | None
) -> dict[str, Arrangement]:
    # By input name how its samples are brought to the shape that the model wants.
    return {
        signature.name: arrange(
            match.fields[signature.name],
            match.arrays[signature.name].shape[1:],
            signature,
            known=dataset.layout,
            asked=layout,
        )
        for signature in batched
    }


def _array(
    signature: TensorSignature,
    match: Matching,
    arrangement: Arrangement,
    applied: Mapping[str, Preprocessing],
    chosen: NDArray[np.int64],
) -> NDArray[Any]:
    # The chosen samples of one input, as it is fed.
    name = signature.name
    array = match.arrays[name]
    as_they_are = len(chosen) == len(array) and (chosen == np.arange(len(array))).all()
    taken = array if as_they_are else array[chosen]
    return apply(taken, arrangement, applied[name], signature, field=match.fields[name])


def _constants(match: Matching, inputs: Sequence[TensorSignature]) -> dict[str, NDArray[Any]]:
    # By input name the values that are fed with every batch.
    return {
        signature.name: _constant(match.constants[signature.name], signature)
        for signature in inputs
        if signature.name in match.constants
    }


def _constant(value: NDArray[Any], signature: TensorSignature) -> NDArray[Any]:
    # A value that is fed as it is, of the type that the model wants.
    as_it_is = Arrangement("as is", (), None, None, ())
    once = apply(value.reshape(1), as_it_is, Preprocessing(), signature, field=signature.name)
    return once.reshape(())


def _check_axes(inputs: Sequence[TensorSignature], arrays: Mapping[str, NDArray[Any]]) -> None:
    # Axes that the model gives one name have one size. That of samples always has. ONNX
    # Runtime does not insist on it, and exporters call all axes that they do not know `?`.
    seen: dict[str, tuple[str, int]] = {}
    for signature in inputs:
        sizes = arrays[signature.name].shape
        if signature.axes is None:
            continue
        for axis, size in list(zip(signature.axes, sizes, strict=True))[1:]:
            if axis is None or not has_name(axis):
                continue
            other, expected = seen.setdefault(axis, (signature.name, size))
            if size != expected:
                raise DataError(
                    f"the model's inputs {other} and {signature.name} share the axis "
                    f"{axis!r}, but the data has {expected} for {other} and {size} for "
                    f"{signature.name}: give both one size"
                )


def _check_finite(array: NDArray[Any], field: str, name: str) -> None:
    if array.dtype.kind in "biu":
        return
    found = first_where(array, lambda block: ~np.isfinite(block))
    if found is not None:
        at, count = found
        raise DataError(
            f"expected finite values in {field!r} of {name}, got {array[at]} at "
            f"{field}{list(at)} ({count} NaN or infinite value{'s' if count > 1 else ''})"
        )
