"""From what a user writes, a name, files or a function, to a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxscape.data.arrays import npz_names, read_npy, read_npz
from onnxscape.data.dataset import LABELS, SINGLE, Dataset
from onnxscape.data.hdf5 import hdf5_names, read_hdf5
from onnxscape.data.idx import read_idx
from onnxscape.data.image_folder import read_image_folder
from onnxscape.data.parquet import read_parquet
from onnxscape.data.python_function import call_function, is_function_reference
from onnxscape.data.registry import NAMED, load_named, similar_name
from onnxscape.data.splits import arrays_of_split, folder_of_split
from onnxscape.errors import DataError, UnknownDataError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

FORMS = (
    "a .npz, .h5 or .parquet file with x and y, a pair x.npy,y.npy, a pair of IDX files "
    "images,labels, a folder with one subfolder of images per class, or module:function"
)
"""What data may be besides a name."""

_HDF5 = frozenset({".h5", ".hdf5", ".hdf", ".he5"})
_PARQUET = frozenset({".parquet", ".pq"})
_FILE_SUFFIXES = _HDF5 | _PARQUET | {".npz", ".npy", ".gz", ".idx"}


def load_dataset(
    reference: str,
    *,
    split: str = "train",
    data_dir: Path | None = None,
    report: Callable[[str], None] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Dataset:
    """Read data by name, from files, or from a function of the user's.

    Args:
        reference: A name of `list_datasets`; a .npz, HDF5 or Parquet file with `x` and `y` (or
            arrays named like the model's inputs, and `y`); `x.npy,y.npy`; `images,labels` in
            IDX format; a folder of images by class; or `module:function`, which is imported
            and called, and returns `(x, y)` or a dict. A file named like a data set is
            reached as `./name`.
        split: `train` or `test`, for names and functions, for files whose arrays are all
            called `x_train`, `y_test` and the like, and for folders with subfolders `train`
            and `test`; other files hold one split.
        data_dir: Where data known by name is kept; None for the user's cache folder.
        report: Told what happens, one line at a time.
        progress: Told the bytes done of a download and, if known, their total.

    Returns:
        All samples of the split.

    Raises:
        UnknownDataError: If the reference is neither a name nor anything else.
        DataUnavailableError: If a known data set cannot be had.
        DataError: If files are missing, unreadable or hold no usable samples.
    """
    if reference in NAMED:
        return load_named(
            reference,
            split=split,
            data_dir=data_dir,
            report=report or (lambda _line: None),
            progress=progress,
        )
    path = _path(reference)
    if path.is_dir():
        return _from_folder(path, split)
    if path.exists():
        return _from_file(path, split)
    parts = [_path(part.strip()) for part in reference.split(",")]
    if len(parts) == 2:
        return Dataset.from_arrays(",".join(p.name for p in parts), _read_pair(*parts))
    if _looks_like_path(reference):
        raise DataError(f"{reference} does not exist (looked in {Path.cwd()})")
    if is_function_reference(reference):
        return Dataset.from_arrays(f"{reference} {split}", call_function(reference, split))
    near = similar_name(reference)
    hint = "" if near is None else f" (did you mean {near}?)"
    raise UnknownDataError(
        f"no data set or file {reference!r}{hint}; known names are {', '.join(NAMED)}, and "
        f"data may also be {FORMS}"
    )


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~ or ~user of somebody unknown
        return Path(text)


def _looks_like_path(reference: str) -> bool:
    return (
        "/" in reference
        or "\\" in reference
        or reference.startswith(("~", "."))
        or Path(reference).suffix.lower() in _FILE_SUFFIXES
    )


def _from_folder(path: Path, split: str) -> Dataset:
    name = path.resolve().name
    try:
        parts = sorted(part.name for part in path.iterdir() if part.suffix in _PARQUET)
        folder = folder_of_split(path, split)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error
    if parts:
        raise DataError(
            f"{path} holds {len(parts)} Parquet files ({parts[0]}, ...); name one of them, or "
            "write their rows to one file"
        )
    if folder is None:
        images, classes = read_image_folder(path)
    else:
        train = path / "train"
        images, classes = read_image_folder(
            folder, classes_of=train if train.is_dir() else None
        )
    return Dataset(
        name=name if folder is None else f"{name} {split}",
        fields={SINGLE: images},
        labels=classes,
        layout="NHWC" if images.ndim == 4 else None,
    )


def _from_file(path: Path, split: str) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        chosen = arrays_of_split(npz_names(path), split, path.name)
        arrays = read_npz(path, only=chosen)
    elif suffix in _HDF5:
        chosen = arrays_of_split(hdf5_names(path), split, path.name)
        arrays = read_hdf5(path, only=chosen)
    elif suffix in _PARQUET:
        return Dataset.from_arrays(path.name, read_parquet(path), table=True)
    elif suffix == ".npy":
        raise DataError(f"{path} holds one array; expected a pair x.npy,y.npy")
    else:
        raise DataError(f"{path} is no data file that is known; expected {FORMS}")
    if chosen is None:
        return Dataset.from_arrays(path.name, arrays)
    of_split = {chosen[name]: values for name, values in arrays.items()}
    return Dataset.from_arrays(f"{path.name} {split}", of_split)


def _read_pair(first: Path, second: Path) -> Mapping[str, NDArray[Any]]:
    for path in (first, second):
        if not path.is_file():
            raise DataError(f"{path} does not exist (looked in {Path.cwd()})")
    suffixes = {first.suffix.lower(), second.suffix.lower()}
    if suffixes & (_HDF5 | _PARQUET | {".npz"}):
        raise DataError(f"expected one file with x and y, got the pair {first},{second}")
    return {SINGLE: _read_array(first), LABELS: _read_array(second)}


def _read_array(path: Path) -> NDArray[Any]:
    return read_npy(path) if path.suffix.lower() == ".npy" else read_idx(path)
