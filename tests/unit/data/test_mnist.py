from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest

from onnxscape.data import load_dataset, mnist
from onnxscape.errors import DataUnavailableError


def idx(array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


class Toy:
    def __init__(self, name):
        random = np.random.default_rng(len(name))
        self.name = name
        self.arrays = {
            "train_x": random.integers(0, 256, (6, 28, 28), dtype=np.uint8),
            "train_y": random.integers(0, 10, 6, dtype=np.uint8),
            "test_x": random.integers(0, 256, (2, 28, 28), dtype=np.uint8),
            "test_y": random.integers(0, 10, 2, dtype=np.uint8),
        }
        self.plain = {mnist.FILES[key]: idx(array) for key, array in self.arrays.items()}
        self.packed = {f"{key}.gz": gzip.compress(v) for key, v in self.plain.items()}

    def sums(self):
        return {
            key: tuple(
                hashlib.md5(content, usedforsecurity=False).hexdigest()
                for content in (self.packed[f"{file}.gz"], self.plain[file])
            )
            for key, file in mnist.FILES.items()
        }

    def put(self, folder, files):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)


@pytest.fixture(params=["mnist", "fashion-mnist"])
def toy(request, monkeypatch, web, tmp_path):
    made = Toy(request.param)
    monkeypatch.setitem(mnist.MD5, made.name, made.sums())
    monkeypatch.setattr(mnist, "FASHION_MNIST_FOLDER", tmp_path / "installed")
    urls = (f"{web.url}/first/", f"{web.url}/second/")
    monkeypatch.setattr(mnist, "MNIST_URLS", urls)
    monkeypatch.setattr(mnist, "FASHION_MNIST_URLS", urls)
    return made


def assert_is(toy, folder):
    for split in ("train", "test"):
        data = load_dataset(toy.name, split=split, data_dir=folder)
        assert np.array_equal(data.fields["x"], toy.arrays[f"{split}_x"])
        assert np.array_equal(data.labels, toy.arrays[f"{split}_y"])
        assert data.layout is None


def test_files_are_downloaded_from_the_first_host_that_has_them(toy, web, tmp_path):
    web.files |= {f"/second/{name}": content for name, content in toy.packed.items()}
    assert_is(toy, tmp_path / "d")
    assert web.asked[0] == "/first/train-images-idx3-ubyte.gz"
    assert len(web.asked) == 5


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("where", [".", "named", "torchvision"])
def test_files_in_the_data_folder_are_used(toy, web, tmp_path, packed, where):
    torchvision = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}[toy.name]
    folder = {".": ".", "named": toy.name, "torchvision": torchvision}[where]
    toy.put(tmp_path / "d" / folder, toy.packed if packed else toy.plain)
    assert_is(toy, tmp_path / "d")
    assert web.asked == []


def test_the_installed_files_of_fashion_mnist_are_used(toy, web, tmp_path):
    toy.put(tmp_path / "installed", toy.packed)
    if toy.name == "mnist":
        with pytest.raises(DataUnavailableError):
            load_dataset("mnist", data_dir=tmp_path / "d")
    else:
        assert_is(toy, tmp_path / "d")
        assert web.asked == []


def test_files_of_the_other_set_are_not_taken_for_this_one(toy, web, tmp_path):
    # Both sets use the same file names.
    other = Toy("another name")
    toy.put(tmp_path / "d", other.plain)
    with pytest.raises(DataUnavailableError, match=f"is not that of {toy.name}"):
        load_dataset(toy.name, data_dir=tmp_path / "d")


def test_the_error_names_folders_and_hosts(toy, web, tmp_path):
    with pytest.raises(DataUnavailableError) as caught:
        load_dataset(toy.name, data_dir=tmp_path / "d")
    for part in (
        str(tmp_path / "d"),
        f"{web.url}/first/train-images-idx3-ubyte.gz: the server says 404",
        f"{web.url}/second/train-images-idx3-ubyte.gz: the server says 404",
        f"onnxscape data get {toy.name}",
    ):
        assert part in str(caught.value)


@pytest.mark.network
def test_the_installed_fashion_mnist_is_the_published_one(tmp_path):
    if not mnist.FASHION_MNIST_FOLDER.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    for split, count in (("train", 60_000), ("test", 10_000)):
        data = load_dataset("fashion-mnist", split=split, data_dir=tmp_path)
        assert data.fields["x"].shape == (count, 28, 28)
        assert np.bincount(data.labels).tolist() == [count // 10] * 10
