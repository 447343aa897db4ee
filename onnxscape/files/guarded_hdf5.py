"""HDF5 files of unknown origin: checked before they are believed."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NoReturn

import h5py
import numpy as np

from onnxscape.files.hdf5_heaps import are_walkable
from onnxscape.files.limits import Limits, human_bytes
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscape.errors import OnnxscapeError

_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_LZF: "lzf",
}
"""Filters that h5py always brings along. Others would make HDF5 load a plug-in."""

_FOREIGN_FILTERS = _FILTERS | {h5py.h5z.FILTER_SCALEOFFSET: "scaleoffset"}
"""Those and one that rounds, which no file of ours needs."""

_LIMITS = Limits(most=1 << 40, ratio=20)
"""Numbers of a surface or a direction hardly compress: more is a bomb."""

_KINDS = {"b": "truth values", "i": "integers", "u": "unsigned integers", "f": "floats"}

_LONGEST_TEXT = 16 << 20

_MOST_NAMES = 1_000_000

_UNREADABLE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    MemoryError,
)
"""What h5py raises on files that are damaged, or made to harm."""


class UntrustedHdf5:
    """One open HDF5 file, nothing of which is believed before it is checked.

    Refused are soft and external links, external and virtual storage, filters other than
    h5py's own, and arrays larger than what the file can hold. Made by `open_untrusted`.
    """

    def __init__(
        self,
        file: h5py.File,
        stream: IO[bytes],
        path: Path,
        error: type[OnnxscapeError],
        limits: Limits,
        *,
        foreign: bool,
    ) -> None:
        self._file = file
        self._stream = stream
        self._error = error
        self._limits = limits
        self._foreign = foreign
        self._size = stream.seek(0, os.SEEK_END)
        self._claimed = 0
        self._texts_checked = False
        self.path = path
        """The file, for messages."""

    def refuse(self, why: str) -> NoReturn:
        """Raise this file's kind of error.

        Args:
            why: What was expected, what was found, what to do.

        Raises:
            OnnxscapeError: Always, of the subclass given to `open_untrusted`.
        """
        raise self._error(f"{self.path}: {why}")

    def arrays(self, group: str | None = None) -> list[str]:
        """Return the names of the arrays in a group, after a check of all links in it.

        Args:
            group: A group in the root; None for the root itself.

        Returns:
            Names in HDF5's order; of sub-groups and other objects none.

        Raises:
            OnnxscapeError: If a link is not an ordinary one.
        """
        owner = self._group(group)
        return [
            name
            for name in self._names(owner)
            if isinstance(self._member(owner, name), h5py.Dataset)
        ]

    def members(self) -> list[str]:
        """Return the names of all that is in the root, arrays or not, harmful or not.

        Returns:
            Names in HDF5's order.

        Raises:
            OnnxscapeError: If they cannot be read.
        """
        return self._names(self._file)

    def has(self, name: str) -> bool:
        """Return whether the root has a member of this name.

        Args:
            name: Without slashes.

        Returns:
            Whether there is one; it may be an array, a group, or harmful.
        """
        with self._reading(name):
            return name in self._file

    def shape_and_type(
        self, name: str, group: str | None = None
    ) -> tuple[tuple[int, ...] | None, np.dtype[np.generic]]:
        """Return what an array claims to be; nothing is read.

        Args:
            name: The array.
            group: Its group in the root; None for the root itself.

        Returns:
            The shape (None if it has no data space) and the element type.

        Raises:
            OnnxscapeError: If it is missing or no array.
        """
        dataset = self._dataset(name, group)
        with self._reading(name):
            return dataset.shape, dataset.dtype

    def array(self, name: str, group: str | None = None, *, kinds: str = "f") -> NDArray[Any]:
        """Read an array, after a check that it is harmless.

        Args:
            name: The array.
            group: Its group in the root; None for the root itself.
            kinds: Letters of the numpy kinds allowed: `f` float, `i` integer, `u` unsigned,
                `b` bool.

        Returns:
            The array in its own shape, in this machine's byte order.

        Raises:
            OnnxscapeError: If it is missing, harmful, damaged, or of another kind.
        """
        dataset = self._dataset(name, group)
        with self._reading(name):
            self._check_storage(dataset, name)
            dtype = dataset.dtype
            if dtype.kind not in kinds or dtype.itemsize > 8:
                self.refuse(
                    f"array {name!r} has type {dtype}, which cannot be read here; expected "
                    f"numbers ({', '.join(_KINDS[kind] for kind in kinds)}) of at most 64 bits"
                )
            values: NDArray[Any] = np.asarray(dataset[()])
        return values.astype(dtype.newbyteorder("="), copy=False)

    def number(self, name: str) -> float | None:
        """Read an attribute of the root that holds a single number or truth value.

        Args:
            name: The attribute.

        Returns:
            The number; None if there is no such attribute.

        Raises:
            OnnxscapeError: If it is anything else.
        """
        with self._reading(f"attribute {name!r}"):
            if name not in self._file.attrs:
                return None
            stored = h5py.h5a.open(self._file.id, name.encode())
            if stored.shape != () or stored.dtype.kind not in "fiub":
                self.refuse(f"attribute {name!r} is not a single number")
            return float(self._file.attrs[name])

    def text(
        self, name: str, array: str | None = None, group: str | None = None
    ) -> str | None:
        """Read an attribute that holds a single text.

        Args:
            name: The attribute.
            array: The array it belongs to; None for the root.
            group: The array's group in the root; None for the root itself.

        Returns:
            The text; None if there is no such attribute.

        Raises:
            OnnxscapeError: If it is anything else, or too long.
        """
        owner = self._file if array is None else self._dataset(array, group)
        with self._reading(f"attribute {name!r}"):
            if name not in owner.attrs:
                return None
            stored = h5py.h5a.open(owner.id, name.encode())
            if stored.shape != () or h5py.check_string_dtype(stored.dtype) is None:
                self.refuse(f"attribute {name!r} is not a single text")
            if stored.get_storage_size() > _LONGEST_TEXT:
                self.refuse(f"attribute {name!r} is larger than any that onnxscape writes")
            if stored.dtype.kind == "O":
                self._check_texts()
            value = owner.attrs[name]
            return value.decode() if isinstance(value, bytes) else str(value)

    def attributes(self) -> list[str]:
        """Return the names of the root's attributes.

        Returns:
            Names in HDF5's order.
        """
        with self._reading("its attributes"):
            return self._names(self._file.attrs)

    def _names(self, owner: Any) -> list[str]:
        with self._reading("its list of names"):
            if len(owner) > _MOST_NAMES:
                self.refuse(f"it claims {len(owner)} names in one place")
            return [str(name) for name in owner]

    def _member(self, owner: h5py.Group, name: str) -> Any:
        with self._reading(name):
            link = owner.get(name, getlink=True)
            if link is None:
                self.refuse(f"it has no {name!r}")
            if not isinstance(link, h5py.HardLink):
                self.refuse(
                    f"{name!r} is a soft or external link; only files that hold their own "
                    "data are read: copy the data into one file"
                )
            return owner[name]

    def _group(self, name: str | None) -> h5py.Group:
        group = self._file if name is None else self._member(self._file, name)
        if not isinstance(group, h5py.Group):
            self.refuse(f"expected a group {name!r}, found an array")
        return group

    def _dataset(self, name: str, group: str | None) -> Any:
        dataset = self._member(self._group(group), name)
        if not isinstance(dataset, h5py.Dataset):
            self.refuse(f"expected an array {name!r}, found a group")
        return dataset

    def _check_storage(self, dataset: Any, name: str) -> None:
        """Refuse data that are elsewhere, need a plug-in, or claim more than there is."""
        properties = dataset.id.get_create_plist()
        layout = properties.get_layout()
        if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
            self.refuse(
                f"the data of {name!r} are in other files; only files that hold their own "
                "data are read: copy the data into one file"
            )
        codes = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        filters = _FOREIGN_FILTERS if self._foreign else _FILTERS
        for code in codes:
            if code not in filters:
                self.refuse(
                    f"array {name!r} is packed by filter {code}; "
                    f"write it plainly, or by one of {', '.join(filters.values())}"
                )
        if dataset.shape is None:
            self.refuse(f"array {name!r} is empty")
        self._check_claim(dataset, name, packed=bool(codes))

    def _check_claim(self, dataset: Any, name: str, *, packed: bool) -> None:
        claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
        chunk = 0
        if dataset.chunks is not None:
            chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
        stored = int(dataset.id.get_storage_size())
        if stored > self._size:
            self.refuse(
                f"array {name!r} claims {stored} stored bytes in a file of {self._size}; "
                "the file is damaged: restore it or make it anew"
            )
        # Chunks never written hold the fill value: they expand as packed ones do.
        gaps = self._foreign and chunk > 0
        why = self._limits.excess(claimed, stored=self._size if packed or gaps else None)
        if why is not None:
            self.refuse(f"array {name!r} {why}")
        if not packed and not gaps and claimed > stored:
            self.refuse(
                f"array {name!r} claims {human_bytes(claimed)}, more than the {stored} bytes "
                "that are stored for it: its values were never written"
            )
        # To read any of it, a whole chunk is unpacked.
        if chunk > self._limits.allowed(self._size):
            self.refuse(
                f"array {name!r} is cut into chunks of {human_bytes(chunk)}, too large for "
                f"a file of {human_bytes(self._size)}; write smaller chunks"
            )
        self._claimed += claimed + (chunk if packed else 0)
        why = self._limits.excess(self._claimed, stored=self._size)
        if why is not None:
            self.refuse(f"array {name!r}, with those read before it, {why}")

    def _check_texts(self) -> None:
        """Refuse files whose texts would keep HDF5 busy for ever."""
        if self._texts_checked:
            return
        if self._file.id.get_create_plist().get_sizes() != (8, 8):
            self.refuse("its texts are stored with addresses that are not of 64 bits")
        if not are_walkable(self._stream):
            self.refuse("its texts are damaged; restore the file or make it anew")
        self._texts_checked = True

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._error:
            raise
        except _UNREADABLE as error:
            raise self._error(
                f"{self.path}: {what} cannot be read ({reason(error)}); "
                "the file is damaged: restore it or make it anew"
            ) from error


@contextmanager
def open_untrusted(
    path: Path,
    error: type[OnnxscapeError],
    *,
    limits: Limits = _LIMITS,
    foreign: bool = False,
) -> Iterator[UntrustedHdf5]:
    """Open an HDF5 file of unknown origin for reading.

    Args:
        path: The file.
        error: The kind of error that all its faults are reported as.
        limits: How much memory all that is read from it may take together.
        foreign: Whether to read what other programs may write and ours do not: arrays with
            chunks left out (they hold the fill value), and packed by rounding.

    Yields:
        The file.

    Raises:
        OnnxscapeError: If it is missing, no HDF5 file, or truncated.
    """
    try:
        special = path.exists() and not path.is_file()
    except (OSError, ValueError):
        special = False  # opening it says why
    if special:
        raise error(f"{path}: expected an HDF5 file, this is a folder or device")
    try:
        # Through Python's own file: HDF5 sees no path, takes no lock, opens nothing beside.
        stream = path.open("rb")
    except (OSError, ValueError) as problem:
        raise error(
            f"cannot open {path}: {reason(problem)}; check the path, an HDF5 file is expected"
        ) from problem
    with stream:
        try:
            file = h5py.File(stream, "r")
        except _UNREADABLE as problem:
            raise error(
                f"{path} is not a whole HDF5 file ({reason(problem)}); "
                "restore it or make it anew"
            ) from problem
        with file:
            yield UntrustedHdf5(file, stream, path, error, limits, foreign=foreign)
