"""Bytes on the client's side that a server is to have: of a file, or in memory."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.dataset import LABELS
from onnxscape.errors import DataError, OutputError
from onnxscape.files.reason import reason
from onnxscape.v1.blobs_pb2 import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscape.data import Dataset

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBlob:
    """A blob that may have to be uploaded.

    Attributes:
        name: For people.
        content: Its bytes, or the file that holds them.
        sha256: Of the bytes, in hex.
        size: Number of bytes.
    """

    name: str
    content: bytes | Path
    sha256: str
    size: int

    @classmethod
    def of_bytes(cls, name: str, content: bytes) -> LocalBlob:
        """Make a blob of bytes.

        Args:
            name: For people.
            content: The bytes.

        Returns:
            The blob.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(name=name, content=content, sha256=sha256, size=len(content))

    @classmethod
    def of_file(cls, name: str, path: Path) -> LocalBlob:
        """Make a blob of a file, which must not change until it is uploaded.

        Args:
            name: For people.
            path: The file.

        Returns:
            The blob.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise DataError(f"cannot read {path}: {reason(error)}") from error
        return cls(name=name, content=path, sha256=sha256, size=size)

    @property
    def digest(self) -> Digest:
        """What identifies it."""
        return Digest(sha256=self.sha256, size=self.size)

    def open(self) -> IO[bytes]:
        """Open it for reading.

        Returns:
            A binary stream at its start.
        """
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        return self.content.open("rb")


def arrays_of(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Return all arrays of a data set as a file holds them.

    Args:
        dataset: The data set.

    Returns:
        Inputs by name, in their order, and the labels under `y`.

    Raises:
        DataError: If an input has the name of the labels.
    """
    arrays = dict(dataset.fields)
    if LABELS in arrays:
        raise DataError(
            f"{dataset.name} has an input called {LABELS!r}, which a file that is uploaded "
            "keeps the labels under; rename the model's input"
        )
    if dataset.labels is not None:
        arrays[LABELS] = dataset.labels
    return arrays


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], what: str) -> None:
    """Write arrays as an .npz file: the same arrays give the same bytes.

    Args:
        path: The file, to be made.
        arrays: Name to array.
        what: What they are, for messages.

    Raises:
        DataError: If an array has a type that such files do not know.
        OutputError: If it cannot be written.
    """
    try:
        with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                _write_array(archive, name, array, what)
    except OSError as error:
        raise OutputError(
            f"cannot write {what} for the upload to {path}: {reason(error)}; free space, or "
            "name another folder for temporary files by TMPDIR"
        ) from error


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any], what: str) -> None:
    """Write a member; its time is always the same.

    Raises:
        DataError: If the array has a type that such files do not know.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{name!r} of {what} holds {array.dtype} values, which cannot be uploaded; "
            "convert them to float32"
        )
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    member = zipfile.ZipInfo(f"{name}.npy")  # of 1980
    with archive.open(member, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, little, version=(1, 0), allow_pickle=False)
