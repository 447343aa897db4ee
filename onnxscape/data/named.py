"""What a data set known by name is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscape.data.cache import Source
    from onnxscape.data.dataset import Layout, Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDataset:
    """A data set that users call by its name.

    Attributes:
        name: As users write it.
        description: One line.
        samples: Number of samples by split.
        size: Bytes to be fetched; 0 if it comes with the package.
        licence: Licence or terms, as its publisher states them.
        citation: Who made it.
        layout: Order of the axes of its images; None for grey images without a channel axis.
        preprocessing: What is done to its values by default.
        sources: Ways to get it, in the order to be tried; none if it comes with the package.
        bundled: Reads a split of a set that comes with the package, else None.
        is_local: Whether a folder, or this machine, has it: nothing would be downloaded.
    """

    name: str
    description: str
    samples: Mapping[str, int]
    size: int
    licence: str
    citation: str
    layout: Layout | None
    preprocessing: Preprocessing
    sources: tuple[Source, ...] = ()
    bundled: Callable[[str], tuple[NDArray[Any], NDArray[Any]]] | None = None
    is_local: Callable[[Path], bool]
