"""Direction files in the layout of the reference implementation (HDF5)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.errors import DirectionError
from onnxscape.files.atomic import write_atomically
from onnxscape.files.guarded_hdf5 import UntrustedHdf5, open_untrusted
from onnxscape.files.hdf5_image import hdf5_image
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import h5py
    from numpy.typing import NDArray

_GROUPS = ("xdirection", "ydirection")


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """One array of a direction.

    Attributes:
        name: The tensor of the user's model that it moves; None in files of the reference.
        array: Floats in the file's own precision, shaped like the tensor; read-only.
    """

    name: str | None
    array: NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class DirectionFile:
    """The directions of one file, not yet matched to a model.

    Attributes:
        x: delta, in the file's order; None if the file has none.
        y: eta, likewise.
        digest: sha256 (hex) over names, shapes, types and values of both.
    """

    x: tuple[StoredTensor, ...] | None
    y: tuple[StoredTensor, ...] | None
    digest: str


def save_directions(
    path: Path,
    x: Sequence[tuple[str | None, NDArray[np.floating]]] | None,
    y: Sequence[tuple[str | None, NDArray[np.floating]]] | None,
) -> None:
    """Write directions, atomically.

    Args:
        path: The HDF5 file.
        x: delta as (name, array) pairs, in order; None if there is none.
        y: eta likewise. One of them must be there.

    Raises:
        DirectionError: If there is nothing to write, or an array is not of finite floats.
        StorageError: If the file could not be written.
    """
    directions = _named(_stored(path, x), _stored(path, y))
    if not directions:
        raise DirectionError(f"{path}: there is no direction to write")

    def fill(file: h5py.File) -> None:
        for group, tensors in directions.items():
            owner = file.create_group(group)
            for number, tensor in enumerate(tensors):
                dataset = owner.create_dataset(str(number), data=tensor.array)
                if tensor.name is not None:
                    dataset.attrs["name"] = tensor.name

    try:
        image = hdf5_image(fill)
    except (ValueError, TypeError) as error:  # a name with NUL, a type unknown to HDF5
        raise DirectionError(
            f"{path}: a direction cannot be put into an HDF5 file ({reason(error)})"
        ) from error
    write_atomically(path, image)


def load_directions(path: Path) -> DirectionFile:
    """Read a direction file of ours or of the reference implementation.

    Args:
        path: The HDF5 file; it need not be trusted.

    Returns:
        The directions.

    Raises:
        DirectionError: If it is missing, damaged or harmful, if an array is missing in the
            numbering, or if one is not of finite floats.
    """
    with open_untrusted(Path(path), DirectionError) as source:
        found = [_read(source, group) if source.has(group) else None for group in _GROUPS]
        if found == [None, None]:
            source.refuse(
                "expected groups 'xdirection' and 'ydirection', found neither; "
                "give a file made by --save-directions or by the reference implementation"
            )
    x, y = found
    return DirectionFile(x, y, _digest(_named(x, y)))


def _stored(
    path: Path, pairs: Sequence[tuple[str | None, NDArray[np.floating]]] | None
) -> tuple[StoredTensor, ...] | None:
    if pairs is None:
        return None
    tensors = tuple(StoredTensor(name, np.asarray(array)) for name, array in pairs)
    if not tensors:
        raise DirectionError(f"{path}: a direction needs at least one array, got none")
    why = _fault(tensors)
    if why is not None:
        raise DirectionError(f"{path}: {why}")
    return tensors


def _named(
    x: tuple[StoredTensor, ...] | None, y: tuple[StoredTensor, ...] | None
) -> dict[str, tuple[StoredTensor, ...]]:
    return {
        group: tensors
        for group, tensors in zip(_GROUPS, (x, y), strict=True)
        if tensors is not None
    }


def _read(source: UntrustedHdf5, group: str) -> tuple[StoredTensor, ...]:
    names = source.arrays(group)
    expected = [str(number) for number in range(len(names))]
    if not names or set(names) != set(expected):
        strange = sorted(set(names) - set(expected))[:3]
        source.refuse(
            f"expected arrays '0' to 'n-1' in {group!r} without a gap, found {len(names)} "
            f"of them{f', among them {strange}' if strange else ''}"
        )
    tensors = []
    for number in expected:
        array = source.array(number, group)
        array.setflags(write=False)
        tensors.append(StoredTensor(source.text("name", number, group), array))
    why = _fault(tuple(tensors))
    if why is not None:
        source.refuse(f"{why} in {group!r}")
    return tuple(tensors)


def _fault(tensors: tuple[StoredTensor, ...]) -> str | None:
    """Return what is wrong with a direction's arrays; None if nothing is."""
    names: set[str] = set()
    for number, tensor in enumerate(tensors):
        label = f"array {number}" + ("" if tensor.name is None else f" ({tensor.name})")
        if tensor.array.dtype.kind != "f" or tensor.array.dtype.itemsize > 8:
            return f"{label} has type {tensor.array.dtype}, expected float16, 32 or 64"
        if not np.isfinite(tensor.array).all():
            return f"{label} holds NaN or infinite values; a direction must be finite"
        if tensor.name in names:
            return f"{label} has the same name as an earlier one"
        if tensor.name is not None:
            names.add(tensor.name)
    return None


def _digest(directions: dict[str, tuple[StoredTensor, ...]]) -> str:
    digest = hashlib.sha256()
    for group, tensors in directions.items():
        digest.update(json.dumps([group, len(tensors)]).encode())
        for tensor in tensors:
            # Little-endian, so that the digest does not depend on the machine.
            array = tensor.array.astype(tensor.array.dtype.newbyteorder("<"), copy=False)
            header = [tensor.name, list(array.shape), array.dtype.str]
            digest.update(json.dumps(header).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
