"""Arrays from numpy's own files, .npy and .npz: headers are checked before values are read."""

from __future__ import annotations

import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.limits import array_bytes, check_size
from onnxscape.errors import DataError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_MEMBERS = 1000
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ZIP_ERRORS = (
    OSError,
    EOFError,
    NotImplementedError,  # a zip feature Python lacks
    RuntimeError,  # encryption
    zipfile.BadZipFile,
    zlib.error,
)


def npz_names(path: Path) -> list[str]:
    """List the arrays of a .npz file; none is read.

    Args:
        path: The file.

    Returns:
        Their names.

    Raises:
        DataError: If the file is unreadable, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name, _ in _members(archive, path)]
    except _ZIP_ERRORS as error:
        raise DataError(_unreadable(path, error)) from error


def read_npz(path: Path, *, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the arrays of a .npz file.

    Args:
        path: The file.
        only: Names of the arrays to read; None for all.

    Returns:
        Arrays by name.

    Raises:
        DataError: If the file is unreadable, damaged, or asks for too much memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            wanted = members if only is None else [m for m in members if m[0] in only]
            check_size(sum(info.file_size for _, info in wanted), str(path))
            return {name: _read_member(archive, info, path) for name, info in wanted}
    except _ZIP_ERRORS as error:
        raise DataError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no file {path}"
    return f"{path} is no readable .npz file: {reason(error)}"


def _members(archive: zipfile.ZipFile, path: Path) -> list[tuple[str, zipfile.ZipInfo]]:
    members = [(info.filename, info) for info in archive.infolist()]
    if len(members) > _MAX_MEMBERS:
        raise DataError(f"{path} holds {len(members)} arrays; expected x and y")
    found = []
    for filename, info in members:
        if not filename.endswith(".npy"):
            raise DataError(f"{path} holds {filename!r}; expected .npy members only")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise DataError(
                f"{filename} in {path} is compressed by method {info.compress_type}; expected "
                "what numpy.savez or numpy.savez_compressed write"
            )
        found.append((filename.removesuffix(".npy"), info))
    names = [name for name, _ in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} holds {', '.join(twice)} more than once")
    return found


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    what = f"{info.filename} in {path}"
    # Neither number in the archive is to be believed; the file's own size is.
    stored = min(info.compress_size, path.stat().st_size)
    check_size(info.file_size, what, stored=stored)
    with archive.open(info) as stream:
        return _read_array(stream, info.file_size, what)


def read_npy(path: Path) -> NDArray[Any]:
    """Read a .npy file.

    Args:
        path: The file.

    Returns:
        Its array.

    Raises:
        DataError: If the file is unreadable, cut short, or holds no numbers.
    """
    try:
        with path.open("rb") as stream:
            return _read_array(stream, path.stat().st_size, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error


def _read_array(stream: IO[bytes], size: int, what: str) -> NDArray[Any]:
    # One array in .npy format, from a stream of a known number of bytes.
    try:
        version = np.lib.format.read_magic(stream)
        header = _HEADERS[version](stream) if version in _HEADERS else None
    except Exception as error:
        # numpy hands the header to Python's own parser, which fails in many ways.
        raise DataError(f"{what} is no array in .npy format: {reason(error)}") from error
    if header is None:
        raise DataError(
            f"{what} has .npy version {version[0]}.{version[1]}, which is for records; "
            "expected an array of numbers"
        )
    shape, fortran, dtype = header
    expected = array_bytes(shape, dtype, what)
    held = size - stream.tell()
    if expected != held:
        raise DataError(
            f"{what} claims an array {list(shape)} {dtype} of {expected} bytes, but holds "
            f"{held}: the file is damaged"
        )
    flat = np.empty(expected, dtype=np.uint8)
    _fill(stream, flat, what)
    values = flat.view(dtype)
    return values.reshape(shape[::-1]).transpose() if fortran else values.reshape(shape)


def _fill(stream: IO[bytes], flat: NDArray[np.uint8], what: str) -> None:
    at = 0
    while at < flat.size:
        piece = stream.read(min(flat.size - at, 1 << 20))
        if not piece:
            raise DataError(f"{what} ends after {at} of {flat.size} bytes: it is damaged")
        flat[at : at + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        at += len(piece)
    if stream.read(1):  # also makes a zip member check its sum
        raise DataError(f"{what} holds more bytes than its array")
