"""A data set as it was read: raw arrays, labels, and what is known of their layout."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

Layout = Literal["NCHW", "NHWC"]
"""Order of the axes of an image array: samples, then channels before or after the pixels."""

SINGLE = "x"
"""Name of the field of a data set whose only input has no name."""

LABELS = "y"
"""Name under which files and functions hold the labels."""

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """All samples of one split, raw.

    Attributes:
        name: For people, e.g. `cifar10 test`.
        fields: Arrays [samples, ...] by input name; a single unnamed input is `x`.
        labels: [samples, ...] as they were found.
        layout: Order of the axes where `fields` are images of a known layout, else None.
        preprocessing: What is done to the values by default; None for nothing.

    Raises:
        DataError: If there are no samples, counts differ, or an array holds no numbers.
    """

    name: str
    fields: Mapping[str, NDArray[Any]]
    labels: NDArray[Any]
    layout: Layout | None = None
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        if not self.fields:
            raise DataError(f"{self.name} has labels but no inputs; expected an array 'x'")
        arrays = [*self.fields.items(), ("labels", self.labels)]
        for name, array in arrays:
            _check_numbers(array, f"{name!r} of {self.name}")
        counts = {name: len(array) for name, array in arrays}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise DataError(
                f"expected as many labels as samples in {self.name}, got: {listed}"
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
        return len(self.labels)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{k} {list(v.shape)} {v.dtype}" for k, v in self.fields.items())
        return f"Dataset({self.name}: {shapes})"

    def digest(self) -> str:
        """Return the sha256 (hex) of all arrays: names, types, shapes and values.

        Byte order and memory layout do not count; the name and the preprocessing do not
        either.

        Returns:
            64 hexadecimal digits.
        """
        total = hashlib.sha256()
        arrays = [("field", name, self.fields[name]) for name in sorted(self.fields)]
        for kind, name, array in [*arrays, ("labels", "", self.labels)]:
            little = array.dtype.newbyteorder("<")
            header = [kind, name, array.dtype.name, list(array.shape)]
            total.update(json.dumps(header).encode() + b"\n")
            for _, block in blocks(array):
                plain = np.ascontiguousarray(block, dtype=little)
                total.update(plain.reshape(-1).view(np.uint8).data)
        return total.hexdigest()


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


def _check_numbers(array: NDArray[Any], what: str) -> None:
    # numpy calls bfloat16 and the like kind V, as it does records and raw bytes.
    numeric = array.dtype.kind in "biuf" or (
        array.dtype.kind == "V" and not issubclass(array.dtype.type, np.void)
    )
    if not numeric:
        raise DataError(f"{what} holds {array.dtype} values; expected numbers")
    if array.ndim == 0:
        raise DataError(f"{what} is a single value; expected an array with one entry a sample")
