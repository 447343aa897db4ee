"""The data of an order: known by name, or arrays in a blob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.data import Dataset, default_data_dir, load_dataset
from onnxscape.data.arrays import read_npz
from onnxscape.data.dataset import LABELS, Preprocessing
from onnxscape.data.registry import NAMED
from onnxscape.errors import DataError, DataUnavailableError, UnknownDataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnxscape.jobs.order import DataRef


def dataset_of(
    data: DataRef,
    split: str,
    blob_path: Callable[[str], Path],
    *,
    data_dir: Path | None,
    offline: bool,
) -> Dataset:
    """Read the data of an order.

    Args:
        data: Which.
        split: Of data known by name.
        blob_path: Where the blob of a sha256 is.
        data_dir: Where data known by name are kept.
        offline: Whether they must be there.

    Returns:
        The data.

    Raises:
        UnknownDataError: If no data are known by the name.
        DataUnavailableError: If they would have to be fetched.
        DataError: If a file cannot be read, or holds something else.
    """
    if data.blob is not None:
        return _dataset_of_blob(data, blob_path(data.blob))
    if data.name not in NAMED:
        raise UnknownDataError(
            f"no data set {data.name!r}; known names are {', '.join(NAMED)}"
        )
    entry = NAMED[data.name]
    if offline and not entry.is_local(default_data_dir() if data_dir is None else data_dir):
        raise DataUnavailableError(
            f"the server does not have {data.name}; its administrator can fetch it with "
            f"`onnxscape data get {data.name}`"
        )
    return load_dataset(data.name, split=split, data_dir=data_dir)


def _dataset_of_blob(data: DataRef, path: Path) -> Dataset:
    arrays = read_npz(path)
    if data.arrays:
        if set(data.arrays) != set(arrays):
            raise DataError(
                f"{data.name} was registered with the arrays {', '.join(data.arrays)}, but "
                f"holds {', '.join(arrays)}"
            )
        arrays = {name: arrays[name] for name in data.arrays}
    if data.layout not in {None, "NCHW", "NHWC"}:
        raise DataError(
            f"expected the layout NCHW or NHWC of {data.name}, got {data.layout!r}"
        )
    return Dataset(
        name=data.name,
        fields={name: values for name, values in arrays.items() if name != LABELS},
        labels=arrays.get(LABELS),
        layout=data.layout,  # type: ignore[arg-type]  # checked above
        preprocessing=_preprocessing(data),
        table=data.table,
    )


def _preprocessing(data: DataRef) -> Preprocessing | None:
    if data.preprocessing is None:
        return None
    values = dict(data.preprocessing)
    try:
        mean, std = (
            None if values.get(n) is None else tuple(float(v) for v in values[n])
            for n in ("mean", "std")
        )
        return Preprocessing(float(values.get("scale", 1.0)), mean, std)
    except (TypeError, ValueError) as error:
        raise DataError(f"the preprocessing of {data.name} is none: {error}") from error
