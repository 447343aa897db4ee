"""The data of a request: read by name, from files or a function, or given as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.data import Dataset, load_dataset
from onnxscape.errors import DataError, UsageError

if TYPE_CHECKING:
    from onnxscape.evaluation.observer import Observer
    from onnxscape.evaluation.request import EvalRequest


def given_data(request: EvalRequest, observer: Observer) -> Dataset:
    """Return all samples that a request names or holds.

    Args:
        request: The request.
        observer: Told of downloads.

    Returns:
        The data set, raw.

    Raises:
        UsageError: If the name is empty.
        DataError: If the data cannot be read, or are none.
    """
    data = request.data
    if isinstance(data, Dataset):
        return data
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
