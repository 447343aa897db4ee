"""Data sets from Parquet files, which need not be trusted: columns of numbers and of lists."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.parquet_claims import check_claims
from onnxscape.errors import DataError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_COLUMNS = 1000
_MAX_DEPTH = 8
"""Most axes of a row."""

_MAX_METADATA = 10_000
"""Longest list in the footer; longest of all is that of all parts of columns."""

_INDEX = re.compile(r"__index_level_\d+__")
"""How pandas names the columns of an index that has no name: no data of the user's."""

_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
)
"""What pyarrow raises on files that are damaged; its own errors are subclasses of these."""


def read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    """Read the columns of a Parquet file.

    Args:
        path: The file.

    Returns:
        Arrays by the name of their column, in the file's order: [rows], or [rows, ...] where
        a row holds lists of one length.

    Raises:
        DataError: If pyarrow is not installed; if the file is unreadable, damaged, or asks for
            too much memory; if a column holds other things than numbers, a missing value, or
            lists of several lengths.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional dependency
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            f"{path.name} is a Parquet file, and pyarrow, which reads them, is not installed: "
            "pip install 'onnxscape[parquet]'"
        ) from error
    try:
        with path.open("rb") as stream:
            file = pq.ParquetFile(
                stream,
                page_checksum_verification=True,
                thrift_container_size_limit=_MAX_METADATA,
            )
            names = _column_names(file.schema_arrow, pa, path)
            check_claims(stream, str(path))
            return _read(file, names, pa, path)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(f"{path} is no readable Parquet file: {reason(error)}") from error


def _column_names(schema: Any, pa: Any, path: Path) -> list[str]:
    # Names of all columns that are read; refuses those that hold no numbers.
    if len(schema.names) > _MAX_COLUMNS:
        raise DataError(
            f"{path} has {len(schema.names)} columns; expected at most {_MAX_COLUMNS}: store "
            "the values of a row as one list"
        )
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise DataError(f"{path} holds the column {', '.join(twice)} more than once")
    names = [name for name in schema.names if not _INDEX.fullmatch(name)]
    for name in names:
        kind, depth = schema.field(name).type, 0
        while _is_list(kind, pa) and depth < _MAX_DEPTH:
            kind, depth = kind.value_type, depth + 1
        numbers = pa.types.is_boolean(kind) or pa.types.is_integer(kind)
        if not (numbers or pa.types.is_floating(kind)):
            raise DataError(
                f"column {name!r} of {path} holds {schema.field(name).type}; expected "
                "numbers, or lists of numbers: convert it, or leave it out of the file"
            )
    return names


def _is_list(kind: Any, pa: Any) -> bool:
    of = pa.types
    return bool(of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind))


def _read(file: Any, names: list[str], pa: Any, path: Path) -> dict[str, NDArray[Any]]:
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, use_threads=False)
        for name, found in parts.items():
            for chunk in table.column(name).chunks:
                done = sum(map(len, found))
                column = _Column(name, path, done, pa)
                values = column.values(chunk)
                if found and values.shape[1:] != found[0].shape[1:]:
                    first, here = list(found[0].shape[1:]), list(values.shape[1:])
                    raise column.ragged(f"{first} values in row 0, {here} in row {done}")
                found.append(values)
    arrays = {}
    for name in names:
        found = parts.pop(name)
        if not sum(map(len, found)):
            raise DataError(f"{path} is empty: it has 0 rows")
        arrays[name] = found[0] if len(found) == 1 else np.concatenate(found)
    return arrays


class _Column:
    """Turns a run of rows of one column into an array."""

    def __init__(self, name: str, path: Path, start: int, pa: Any) -> None:
        self._what = f"column {name!r} of {path}"
        self._start = start
        self._pa = pa

    def values(self, array: Any) -> NDArray[Any]:
        """Return the rows [rows, ...] of an Arrow array."""
        shape = [len(array)]
        while _is_list(array.type, self._pa):
            self._check_missing(array, shape)
            lengths = np.asarray(array.value_lengths())
            odd = np.flatnonzero(lengths != lengths[:1])
            if odd.size:
                at = int(odd[0])
                raise self.ragged(
                    f"{lengths[0]} values in row {self._start}, "
                    f"{lengths[at]} in row {self._row(at, shape)}"
                )
            shape.append(int(lengths[0]) if lengths.size else 0)
            array = array.flatten()
        self._check_missing(array, shape)
        values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return values.reshape(shape)

    def ragged(self, where: str) -> DataError:
        """Return the error of lists of which two, at two rows, have two lengths."""
        return DataError(
            f"{self._what} holds lists of several lengths: {where}; pad them to one length, "
            "and store a column 'attention_mask' (1 for values, 0 for padding) beside it if "
            "the model takes one, or labels to be ignored"
        )

    def _check_missing(self, array: Any, shape: list[int]) -> None:
        if array.null_count:
            missing = np.flatnonzero(np.asarray(array.is_null()))
            raise DataError(
                f"{self._what} has no value in row {self._row(int(missing[0]), shape)} "
                f"({array.null_count} missing); fill them in, or leave such rows out"
            )

    def _row(self, index: int, shape: list[int]) -> int:
        return self._start + index // max(1, math.prod(shape[1:]))
