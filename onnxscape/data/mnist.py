"""MNIST and Fashion-MNIST: 70000 grey images of 28 x 28 pixels each, in four IDX files.

By default values are divided by 255 and nothing else: models trained on these sets share no
mean and std (many use none), so those are for the user to say. PyTorch's MNIST example, for
one, is `--mean 0.1307 --std 0.3081`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxscape.data.cache import Source, cache_file
from onnxscape.data.dataset import Preprocessing
from onnxscape.data.download import download
from onnxscape.data.idx import idx_md5, read_idx
from onnxscape.data.named import NamedDataset
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from onnxscape.data.cache import Arrays, Place

MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FASHION_MNIST_URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
"""Names of the files, without .gz."""

MD5 = {
    "mnist": {
        "train_x": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        "train_y": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
        "test_x": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        "test_y": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    },
    "fashion-mnist": {
        "train_x": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        "train_y": ("25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
        "test_x": ("bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        "test_y": ("bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    },
}
"""Published checksums: of the compressed file, and of what is in it."""

_MAX_FILE = 64 << 20


def _local_folders(name: str, folder: Path) -> list[Path]:
    """Return where the files may be: installed, or in the data folder."""
    torchvision = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    folders = [folder, folder / name, folder / torchvision / "raw"]
    return [FASHION_MNIST_FOLDER, *folders] if name == "fashion-mnist" else folders


def _local_files(name: str, folder: Path) -> dict[str, Path] | None:
    for base in _local_folders(name, folder):
        found = {
            array: path
            for array, stem in FILES.items()
            for path in (base / stem, base / f"{stem}.gz")
            if path.is_file()
        }
        if len(found) == len(FILES):
            return found
    return None


def _from_files(name: str, place: Place) -> Arrays:
    found = _local_files(name, place.folder)
    if found is None:
        folders = ", ".join(str(base) for base in _local_folders(name, place.folder))
        raise FileNotFoundError(
            f"no {FILES['train_x']}(.gz) and its three companions in {folders}"
        )
    place.report(f"reading {name} from {found['train_x'].parent}")
    return {array: _verified(name, array, path) for array, path in found.items()}


def _from_network(name: str, urls: Sequence[str], place: Place) -> Arrays:
    failures = []
    for base in urls:
        place.report(f"downloading {name} from {base}")
        try:
            return {
                array: _verified(name, array, _fetched(name, array, base, place))
                for array in FILES
            }
        except DataError as error:
            failures.append(str(error))
    raise DataError("; ".join(failures))


def _fetched(name: str, array: str, base: str, place: Place) -> Path:
    file = f"{FILES[array]}.gz"
    target = place.work / file
    download(
        base + file,
        target,
        md5=MD5[name][array][0],
        max_bytes=_MAX_FILE,
        progress=place.progress,
    )
    return target


def _verified(name: str, array: str, path: Path) -> NDArray[Any]:
    values = read_idx(path)
    digest = idx_md5(values)
    if digest != MD5[name][array][1]:
        raise DataError(f"{path} is not that of {name}: md5 {digest} when unpacked")
    return values


MNIST = NamedDataset(
    name="mnist",
    description="handwritten digits, grey 28x28, values 0..255",
    samples={"train": 60000, "test": 10000},
    size=11_594_722,
    licence="CC BY-SA 3.0",
    citation="Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits, 1998",
    layout=None,
    preprocessing=Preprocessing(scale=255.0),
    sources=(
        Source(title="local files", fetch=lambda place: _from_files("mnist", place)),
        Source(
            title="download", fetch=lambda place: _from_network("mnist", MNIST_URLS, place)
        ),
    ),
    is_local=lambda folder: (
        cache_file("mnist", folder).is_file() or _local_files("mnist", folder) is not None
    ),
)
"""MNIST; by default values are divided by 255."""

FASHION_MNIST = NamedDataset(
    name="fashion-mnist",
    description="clothes, grey 28x28, values 0..255",
    samples={"train": 60000, "test": 10000},
    size=30_878_645,
    licence="MIT",
    citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv 1708.07747, 2017",
    layout=None,
    preprocessing=Preprocessing(scale=255.0),
    sources=(
        Source(title="local files", fetch=lambda place: _from_files("fashion-mnist", place)),
        Source(
            title="download",
            fetch=lambda place: _from_network("fashion-mnist", FASHION_MNIST_URLS, place),
        ),
    ),
    is_local=lambda folder: (
        cache_file("fashion-mnist", folder).is_file()
        or _local_files("fashion-mnist", folder) is not None
    ),
)
"""Fashion-MNIST; by default values are divided by 255."""
