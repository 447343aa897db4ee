"""The data sets known by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.data.cache import cache_file, default_data_dir, obtain
from onnxscape.data.cifar10 import CIFAR10
from onnxscape.data.dataset import SINGLE, Dataset
from onnxscape.data.digits import DIGITS
from onnxscape.data.mnist import FASHION_MNIST, MNIST
from onnxscape.errors import UsageError
from onnxscape.files.limits import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from onnxscape.data.dataset import Preprocessing
    from onnxscape.data.named import NamedDataset

NAMED: Mapping[str, NamedDataset] = {
    entry.name: entry for entry in (DIGITS, CIFAR10, FASHION_MNIST, MNIST)
}

SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What can be said of a data set without reading it.

    Attributes:
        name: As users write it.
        description: One line.
        samples: Number of samples by split.
        size: Bytes to be fetched; 0 if it comes with the package.
        here: Whether it can be read without a download.
        file: Where it is, or would be, kept; None if it comes with the package.
        licence: Licence or terms, as its publisher states them.
        citation: Who made it.
        preprocessing: What is done to its values by default.
    """

    name: str
    description: str
    samples: Mapping[str, int]
    size: int
    here: bool
    file: Path | None
    licence: str
    citation: str
    preprocessing: Preprocessing

    @property
    def availability(self) -> str:
        """For people: whether it is here, or what a download amounts to."""
        if self.file is None:
            return "comes with onnxscape"
        return "here" if self.here else f"{human_bytes(self.size)} to fetch"


def list_datasets(*, data_dir: Path | None = None) -> tuple[DatasetInfo, ...]:
    """List the data sets known by name.

    Args:
        data_dir: The data folder; None for the user's cache folder.

    Returns:
        One entry each.
    """
    folder = default_data_dir() if data_dir is None else data_dir
    return tuple(
        DatasetInfo(
            name=entry.name,
            description=entry.description,
            samples=entry.samples,
            size=entry.size,
            here=entry.is_local(folder),
            file=cache_file(entry.name, folder) if entry.sources else None,
            licence=entry.licence,
            citation=entry.citation,
            preprocessing=entry.preprocessing,
        )
        for entry in NAMED.values()
    )


def load_named(
    name: str,
    *,
    split: str,
    data_dir: Path | None,
    report: Callable[[str], None],
    progress: Callable[[int, int | None], None] | None,
) -> Dataset:
    """Read a data set known by name; fetch it first if it is not here.

    Args:
        name: One of `NAMED`.
        split: `train` or `test`.
        data_dir: The data folder; None for the user's cache folder.
        report: Told what happens.
        progress: Told how far a download is.

    Returns:
        The data.

    Raises:
        UsageError: If there is no such split.
        DataUnavailableError: If it cannot be had.
    """
    entry = NAMED[name]
    if split not in SPLITS:
        raise UsageError(f"{name} has the splits train and test, got --split {split}")
    if entry.bundled is not None:
        x, y = entry.bundled(split)
    else:
        folder = default_data_dir() if data_dir is None else data_dir
        x, y = obtain(
            name, split, folder, sources=entry.sources, report=report, progress=progress
        )
    return Dataset(
        name=f"{name} {split}",
        fields={SINGLE: x},
        labels=y,
        layout=entry.layout,
        preprocessing=entry.preprocessing,
    )


def similar_name(reference: str) -> str | None:
    """Return the known name that a misspelt one is nearest to.

    Args:
        reference: What the user gave.

    Returns:
        A name, or None if none is near.
    """
    plain = {name.replace("-", ""): name for name in NAMED}
    wanted = reference.lower().replace("-", "").replace("_", "")
    near = difflib.get_close_matches(wanted, list(plain), n=1)
    return plain[near[0]] if near else None
