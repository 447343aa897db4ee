"""A data set as it was read: raw arrays, labels, and what is known of their layout."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

Layout = Literal["NCHW", "NHWC"]
"""Order of the axes of an image array: samples, then channels before or after the pixels."""

SINGLE = "x"
"""Name of the field of a data set whose only input has no name."""

LABELS = "y"
"""Name under which files and functions hold the labels."""

SAMPLE_WEIGHT = "sample_weight"
"""Name of the field that says how much samples count, unless a model has such an input."""

_BLOCK_BYTES = 1 << 22
"""How much of an array is looked at in one step: bounds the memory of passes over it."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is done to raw values before they are fed: `(value / scale - mean) / std`.

    Attributes:
        scale: Divisor of the raw values.
        mean: One number, or one per channel, in units after scaling; None for 0.
        std: Likewise; None for 1.
    """

    scale: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __str__(self) -> str:
        text = "value" if self.scale == 1 else f"value / {self.scale:g}"
        if self.mean is not None or self.std is not None:
            text = f"({text} - {_listed(self.mean or (0.0,))}) / {_listed(self.std or (1.0,))}"
        return text

    def as_json(self) -> dict[str, object]:
        """Return it as plain JSON values."""
        return {
            "scale": self.scale,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """All samples of one split, raw.

    Attributes:
        name: For people, e.g. `cifar10 test`.
        fields: Arrays [samples, ...] by input name; a single unnamed input is `x`. Single
            values [] are for inputs that have no axes.
        labels: [samples, ...] as they were found; None if there are none.
        layout: Order of the axes where `fields` are images of a known layout, else None.
        preprocessing: What is done to the values by default; None for nothing.
        table: Whether the fields are columns of a table, in its order.

    Raises:
        DataError: If there are no samples, counts differ, or an array holds no numbers.
    """

    name: str
    fields: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None
    layout: Layout | None = None
    preprocessing: Preprocessing | None = None
    table: bool = False
    _digest: list[str] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def from_arrays(
        cls, name: str, arrays: Mapping[str, NDArray[Any]], *, table: bool = False
    ) -> Dataset:
        """Make a data set of arrays by name, the labels among them.

        Args:
            name: For people.
            arrays: Arrays by input name, and the labels, if there are any, under `y`.
            table: Whether they are the columns of a table.

        Returns:
            The data set.

        Raises:
            DataError: As the class.
        """
        fields = {key: values for key, values in arrays.items() if key != LABELS}
        return cls(name=name, fields=fields, labels=arrays.get(LABELS), table=table)

    def __post_init__(self) -> None:
        if not self.fields:
            raise DataError(
                f"{self.name} holds no inputs; expected an array 'x', or arrays named like "
                "the model's inputs, and the labels under 'y'"
            )
        for name, array in self.fields.items():
            _check_numbers(array, f"{name!r} of {self.name}")
        if self.labels is not None:
            _check_numbers(self.labels, f"'labels' of {self.name}")
            if self.labels.ndim == 0:
                raise DataError(
                    f"'labels' of {self.name} is a single value; expected an array with one "
                    "entry a sample"
                )
        arrays = self._per_sample()
        if len(arrays) == (self.labels is not None):
            raise DataError(
                f"{self.name} holds single values only ({', '.join(self.fields)}); expected "
                "an array with one entry a sample"
            )
        if len({len(array) for _, array in arrays}) > 1:
            raise DataError(
                f"expected as many samples in all arrays of {self.name}: {_odd(arrays)}"
            )
        if len(self) == 0:
            raise DataError(f"{self.name} is empty: its arrays have 0 samples")
        for name, array in arrays:
            if array.size == 0:
                raise DataError(
                    f"{name!r} of {self.name} holds no values: its shape is "
                    f"{list(array.shape)}"
                )

    def __len__(self) -> int:
        return len(self._per_sample()[0][1])

    def __repr__(self) -> str:
        return f"Dataset({self.name}: {self.contents()})"

    def contents(self) -> str:
        """Return names, shapes and types of the fields, for messages."""
        return ", ".join(f"{k} {list(v.shape)} {v.dtype}" for k, v in self.fields.items())

    def digest(self) -> str:
        """Return the sha256 (hex) of all arrays: names, types, shapes and values.

        Byte order and memory layout do not count; the name and the preprocessing do not
        either. The order of arrays counts in a table only.

        Returns:
            64 hexadecimal digits; computed once.
        """
        if not self._digest:
            self._digest.append(self._computed_digest())
        return self._digest[0]

    def _computed_digest(self) -> str:
        total = hashlib.sha256()
        if self.table:
            total.update(json.dumps(["table", *self.fields]).encode() + b"\n")
        arrays = [("field", name, self.fields[name]) for name in sorted(self.fields)]
        if self.labels is not None:
            arrays.append(("labels", "", self.labels))
        for kind, name, array in arrays:
            little = array.dtype.newbyteorder("<")
            header = [kind, name, array.dtype.name, list(array.shape)]
            total.update(json.dumps(header).encode() + b"\n")
            for _, block in blocks(np.atleast_1d(array)):
                plain = np.ascontiguousarray(block, dtype=little)
                total.update(plain.reshape(-1).view(np.uint8).data)
        return total.hexdigest()

    def _per_sample(self) -> list[tuple[str, NDArray[Any]]]:
        # All arrays that have an entry a sample.
        found = [(name, array) for name, array in self.fields.items() if array.ndim]
        return found if self.labels is None else [*found, ("labels", self.labels)]


def _odd(arrays: list[tuple[str, NDArray[Any]]]) -> str:
    """Return which arrays differ from most, or the lengths of all if none stands out."""
    (most, times), *others = Counter(len(array) for _, array in arrays).most_common()
    if times == 1 or any(number == times for _, number in others):
        return "got " + ", ".join(f"{name!r} with {len(array)}" for name, array in arrays)
    odd = [f"{name!r} has {len(array)}" for name, array in arrays if len(array) != most]
    return f"{' and '.join(odd)}, the others have {most}"


def _listed(numbers: tuple[float, ...]) -> str:
    text = ", ".join(f"{number:.4g}" for number in numbers)
    return text if len(numbers) == 1 else f"[{text}]"


def blocks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Cut an array along its first axis into pieces of a few megabytes.

    Args:
        array: [samples, ...].

    Yields:
        Index of the first sample of the piece, and the piece.
    """
    sample_bytes = max(1, math.prod(array.shape[1:]) * array.itemsize)
    step = max(1, _BLOCK_BYTES // sample_bytes)
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def first_where(
    array: NDArray[Any], test: Callable[[NDArray[Any]], NDArray[np.bool_]]
) -> tuple[tuple[int, ...], int] | None:
    """Find the values of an array that a test is true of, in pieces.

    Args:
        array: [samples, ...].
        test: Returns for an array which of its values are looked for; same shape.

    Returns:
        Indices of the first one, and how many there are; None if there are none.
    """
    count, first = 0, None
    for start, block in blocks(array):
        found = test(block)
        here = int(np.count_nonzero(found))
        if here and first is None:
            row, *rest = np.unravel_index(int(np.argmax(found)), found.shape)
            first = (start + int(row), *(int(index) for index in rest))
        count += here
    return None if first is None else (first, count)


def _check_numbers(array: NDArray[Any], what: str) -> None:
    # numpy calls bfloat16 and the like kind V, as it does records and raw bytes.
    numeric = array.dtype.kind in "biuf" or (
        array.dtype.kind == "V" and not issubclass(array.dtype.type, np.void)
    )
    if not numeric:
        raise DataError(f"{what} holds {array.dtype} values; expected numbers")
