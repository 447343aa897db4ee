"""From a data set to the samples of one landscape: matched, chosen, checked, preprocessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.samples import Samples
from onnxscape.data.dataset import SINGLE, Preprocessing, blocks
from onnxscape.data.labels import FLOAT_TARGETS, class_labels, float_targets
from onnxscape.data.layout import arrange
from onnxscape.data.preprocessing import apply, is_floating, resolve
from onnxscape.data.subset import subset_indices
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscape.core.samples import TensorSignature
    from onnxscape.data.dataset import Dataset


def prepare_samples(
    dataset: Dataset,
    inputs: Sequence[TensorSignature],
    *,
    loss: str = "cross-entropy",
    classes: int | None = None,
    samples: int | None = 1000,
    layout: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    scale: str | float | None = None,
) -> Samples:
    """Choose samples and bring them to the form a model takes.

    Data is checked as a whole; only the chosen samples are preprocessed.

    Args:
        dataset: The raw data.
        inputs: The model's inputs that are to be fed.
        loss: Name of the loss: `mse` wants values as labels, all others want classes.
        classes: Number of classes of the model, where known.
        samples: Number of samples to use; None for all.
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
    fields = _match_fields(dataset, inputs)
    steps = resolve(dataset.preprocessing, scale=scale, mean=mean, std=std)
    by_default = scale is None and mean is None and std is None
    if len(inputs) > 1 and not by_default:
        raise DataError(
            f"--scale, --mean and --std need a model with one input, this one has "
            f"{len(inputs)}; store the values of {dataset.name} preprocessed"
        )
    arrangements = {
        signature.name: arrange(
            fields[signature.name],
            dataset.fields[fields[signature.name]].shape[1:],
            signature,
            known=dataset.layout,
            asked=layout,
        )
        for signature in inputs
    }
    labels: NDArray[Any]
    if loss in FLOAT_TARGETS:
        labels = float_targets(dataset.labels, name=dataset.name)
    else:
        labels = class_labels(dataset.labels, classes=classes, name=dataset.name)
    for field in sorted(set(fields.values())):
        _check_finite(dataset.fields[field], field, dataset.name)
    digest = dataset.digest()
    chosen = subset_indices(digest, len(dataset), samples)
    arrays, done = {}, {}
    for signature in inputs:
        field = fields[signature.name]
        arrangement = arrangements[signature.name]
        wanted = steps
        if not is_floating(signature.dtype) and by_default:
            wanted = Preprocessing()  # such a model does its own scaling
        arrays[signature.name] = apply(
            dataset.fields[field][chosen], arrangement, wanted, signature, field=field
        )
        done[signature.name] = {
            "layout": arrangement.text,
            "scale": wanted.scale,
            "mean": None if wanted.mean is None else list(wanted.mean),
            "std": None if wanted.std is None else list(wanted.std),
        }
    return Samples(
        inputs=arrays,
        labels=np.ascontiguousarray(labels[chosen]),
        population=len(dataset),
        name=dataset.name,
        digest=digest,
        preprocessing=done,
    )


def _match_fields(dataset: Dataset, inputs: Sequence[TensorSignature]) -> dict[str, str]:
    # For every input of the model the name of the data's array for it.
    if not inputs:
        raise DataError(f"the model has no input that {dataset.name} could be fed to")
    if len(inputs) == 1 and inputs[0].name not in dataset.fields and SINGLE in dataset.fields:
        return {inputs[0].name: SINGLE}
    missing = [signature.name for signature in inputs if signature.name not in dataset.fields]
    if missing:
        wanted = ", ".join(str(signature) for signature in inputs)
        held = ", ".join(
            f"{name} {list(array.shape)}" for name, array in dataset.fields.items()
        )
        raise DataError(
            f"{dataset.name} has no array for model input {', '.join(missing)}: the model "
            f"wants {wanted}; the data holds {held}; name the arrays like the inputs"
            + (f", or {SINGLE!r}" if len(inputs) == 1 else "")
        )
    return {signature.name: signature.name for signature in inputs}


def _check_finite(array: NDArray[Any], field: str, name: str) -> None:
    if array.dtype.kind in "biu":
        return
    count, first = 0, None
    for start, block in blocks(array):
        finite = np.isfinite(block)
        if not finite.all():
            bad = np.argwhere(~finite)
            count += len(bad)
            if first is None:
                first = (start + int(bad[0][0]), *(int(i) for i in bad[0][1:]))
    if first is not None:
        raise DataError(
            f"expected finite values in {field!r} of {name}, got {array[first]} at "
            f"{field}{list(first)} ({count} NaN or infinite value{'s' if count > 1 else ''})"
        )
