"""Which array of the data goes to which input of the model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.dataset import LABELS, SAMPLE_WEIGHT, SINGLE
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from onnxscape.core.samples import TensorSignature
    from onnxscape.data.dataset import Dataset


_LABELS_LIKE = re.compile(r"(?i)label|target|^y(_true)?$")
"""What the inputs of models are called that take the labels, to compute a loss."""

COLUMNS = "columns"
"""What the columns of a table are called together, in messages."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The arrays that a model is fed from, as they are stored.

    Attributes:
        arrays: For every input with samples its array [samples, ...].
        fields: Their names in the data.
        constants: For every input without axes its value [].
        weights: How much samples count [samples]; None if all count the same.
    """

    arrays: Mapping[str, NDArray[Any]]
    fields: Mapping[str, str]
    constants: Mapping[str, NDArray[Any]]
    weights: NDArray[Any] | None


def match_inputs(dataset: Dataset, inputs: Sequence[TensorSignature]) -> Matching:
    """Match by name; an only input takes the array `x`, or the columns of a table.

    Args:
        dataset: The data.
        inputs: The model's inputs that are to be fed.

    Returns:
        The arrays.

    Raises:
        DataError: If there is no array for an input, or it cannot be meant.
    """
    weights = None
    if SAMPLE_WEIGHT not in {signature.name for signature in inputs}:
        weights = dataset.fields.get(SAMPLE_WEIGHT)
    batched = [signature for signature in inputs if signature.shape != ()]
    if not batched:
        raise DataError(
            f"the model has no input that samples of {dataset.name} could be fed to"
        )
    columns = _columns(dataset, inputs)
    if columns:
        rows = np.stack([dataset.fields[name] for name in columns], axis=1)
        name = inputs[0].name
        return Matching({name: rows}, {name: COLUMNS}, {}, weights)
    fields = _by_name(dataset, inputs)
    constants = {
        signature.name: _constant(dataset, fields.pop(signature.name), signature)
        for signature in inputs
        if signature.shape == ()
    }
    arrays = {name: dataset.fields[field] for name, field in fields.items()}
    for signature in batched:
        if arrays[signature.name].ndim == 0:
            raise DataError(
                f"{fields[signature.name]!r} of {dataset.name} is a single value, but model "
                f"input {signature} has axes: expected an array with one entry a sample"
            )
    return Matching(arrays, fields, constants, weights)


def _by_name(dataset: Dataset, inputs: Sequence[TensorSignature]) -> dict[str, str]:
    # For every input of the model the name of the data's array for it.
    if len(inputs) == 1 and inputs[0].name not in dataset.fields and SINGLE in dataset.fields:
        return {inputs[0].name: SINGLE}
    missing = [signature.name for signature in inputs if signature.name not in dataset.fields]
    if missing:
        wanted = ", ".join(str(signature) for signature in inputs)
        arrays = dict(dataset.fields)
        if dataset.labels is not None:
            arrays[LABELS] = dataset.labels
        held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise DataError(
            f"{dataset.name} has no array for model input {', '.join(map(repr, missing))}: "
            f"the model wants {wanted}; the data holds {held}; name the arrays like the inputs"
            + (f", or {SINGLE!r}" if len(inputs) == 1 else "")
            + _labels_hint(dataset, missing)
        )
    return {signature.name: signature.name for signature in inputs}


def _labels_hint(dataset: Dataset, missing: Sequence[str]) -> str:
    wanted = [name for name in missing if _LABELS_LIKE.search(name)]
    if dataset.labels is None or len(wanted) != 1:
        return ""
    return (
        f"; if the model takes the labels {LABELS!r} as its input {wanted[0]!r}, store them "
        "under that name"
    )


def _constant(dataset: Dataset, field: str, signature: TensorSignature) -> NDArray[Any]:
    array = dataset.fields[field]
    values = array.reshape(-1)
    # A table cannot hold a value once: it stands in every row.
    if array.ndim > 1 or not (values == values[0]).all():
        raise DataError(
            f"model input {signature.quoted} is a single value for all samples, but {field!r} "
            f"of {dataset.name} {list(array.shape)} holds others: store one value []"
        )
    return np.asarray(values[0])


def _columns(dataset: Dataset, inputs: Sequence[TensorSignature]) -> list[str]:
    # The columns of a table that make the rows of the model's only input, if they do.
    shape = inputs[0].shape
    if not dataset.table or len(inputs) != 1 or shape is None or len(shape) != 2:
        return []
    names = [name for name in dataset.fields if name != SAMPLE_WEIGHT]
    if {inputs[0].name, SINGLE}.intersection(names) or shape[1] != len(names):
        return []
    return names if all(dataset.fields[name].ndim == 1 for name in names) else []
