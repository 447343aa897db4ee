"""Models and data sets as the catalog keeps them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxscape.jobs.order import DataRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EVERYBODY = ""
"""In the place of a user: what the server offers to all."""

LARGEST_AUDIT = 3 << 20
"""Bytes of an audit that is kept: a message holds 4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A model of a user, or one that all may use.

    Attributes:
        id: Unique among the user's.
        user: Whose; empty for all users'.
        display_name: For people.
        sha256: The blob with the ONNX file.
        size: Its bytes.
        created: Unix time.
        parameters: Number of parameters.
        moved: Of those, the ones that move by default.
        version: Of the onnxscape that made its audit, which is kept beside it.
        number: Grows with every record.
    """

    id: str
    user: str
    display_name: str
    sha256: str
    size: int
    created: float
    parameters: int
    moved: int
    version: str
    number: int = 0

    @property
    def public(self) -> bool:
        """Whether all users may use it."""
        return self.user == EVERYBODY


@dataclass(frozen=True, slots=True)
class ArrayEntry:
    """An array of a data set.

    Attributes:
        name: Of the model's input.
        dtype: NumPy's name of the type.
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSetRecord:
    """A data set of a user, or one that all may use.

    Attributes:
        id: Unique among the user's; of data known by name, the name.
        user: Whose; empty for all users'.
        display_name: For people.
        sha256: The blob with the arrays; None for data known by name.
        size: Its bytes.
        created: Unix time.
        layout: Of images, where it is known.
        preprocessing: As `Preprocessing.as_json` gives it; None for nothing.
        table: Whether the arrays are columns of a table.
        arrays: What is in it.
        splits: Splits to choose from; none for uploaded data.
        number: Grows with every record.
    """

    id: str
    user: str
    display_name: str
    sha256: str | None
    size: int
    created: float
    layout: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    table: bool = False
    arrays: tuple[ArrayEntry, ...] = ()
    splits: tuple[str, ...] = ()
    number: int = 0

    @property
    def public(self) -> bool:
        """Whether all users may use it."""
        return self.user == EVERYBODY

    @property
    def ref(self) -> DataRef:
        """What an order says of it."""
        if self.sha256 is None:
            return DataRef(name=self.id)
        return DataRef(
            name=self.display_name or self.id,
            blob=self.sha256,
            layout=self.layout,
            preprocessing=self.preprocessing,
            table=self.table,
            arrays=tuple(array.name for array in self.arrays),
        )


def model_id(sha256: str) -> str:
    """Return the id of an uploaded model.

    Args:
        sha256: Its blob.

    Returns:
        The same for the same bytes.
    """
    return sha256


def data_set_id(ref: DataRef) -> str:
    """Return the id of an uploaded data set.

    Args:
        ref: What an order says of it; its name does not count.

    Returns:
        The same for the same bytes that are read in the same way.
    """
    given = ref.preprocessing
    text = json.dumps([ref.blob, ref.layout, given and dict(given), ref.table], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


MODELS = (
    "SELECT id, user, display_name, sha256, size, created, parameters, moved, version, number"
    " FROM models WHERE "
)
"""Begin of a query whose rows `model_of` reads."""

DATA_SETS = (
    "SELECT id, user, display_name, sha256, size, created, format, arrays, splits, number"
    " FROM data_sets WHERE "
)
"""Begin of a query whose rows `data_set_of` reads."""


def model_of(row: Sequence[Any]) -> ModelRecord:
    """Return the model of a row.

    Args:
        row: What a query that begins like `MODELS` gives.

    Returns:
        The model.
    """
    names = (
        "id", "user", "display_name", "sha256", "size", "created", "parameters", "moved",
        "version", "number",
    )  # fmt: skip
    return ModelRecord(**dict(zip(names, row, strict=True)))


def data_set_of(row: Sequence[Any]) -> DataSetRecord:
    """Return the data set of a row.

    Args:
        row: What a query that begins like `DATA_SETS` gives.

    Returns:
        The data set.
    """
    names = ("id", "user", "display_name", "sha256", "size", "created")
    form, arrays, splits, number = row[6:]
    return DataSetRecord(
        **dict(zip(names, row[:6], strict=True)),
        **json.loads(form),
        arrays=tuple(
            ArrayEntry(name, dtype, tuple(shape)) for name, dtype, shape in json.loads(arrays)
        ),
        splits=tuple(json.loads(splits)),
        number=number,
    )
