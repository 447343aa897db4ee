from __future__ import annotations

import gzip
import struct

import h5py
import numpy as np
import pytest
from PIL import Image

from onnxscape.data import load_dataset
from onnxscape.errors import DataError, UnknownDataError

X = np.arange(24, dtype=np.uint8).reshape(4, 6)
Y = np.array([0, 1, 2, 1], dtype=np.uint8)


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + (
        array.tobytes()
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_npz(folder):
    np.savez(folder / "d.npz", x=X, y=Y)
    return "d.npz"


def write_hdf5(folder):
    with h5py.File(folder / "d.h5", "w") as file:
        file["x"], file["y"] = X, Y
    return "d.h5"


def write_npy_pair(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    return "x.npy,y.npy"


def write_idx_pair(folder):
    (folder / "x-idx2-ubyte").write_bytes(idx(X))
    (folder / "y-idx1-ubyte.gz").write_bytes(gzip.compress(idx(Y)))
    return "x-idx2-ubyte, y-idx1-ubyte.gz"


def write_function(folder):
    (folder / "my_samples.py").write_text(
        f"def load():\n    return {X.tolist()}, {Y.tolist()}\n"
    )
    return "my_samples:load"


@pytest.mark.parametrize(
    "write", [write_npz, write_hdf5, write_npy_pair, write_idx_pair, write_function]
)
def test_every_form_of_data_gives_the_same_samples(here, write, monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "my_samples", raising=False)
    data = load_dataset(write(here))
    assert np.array_equal(data.fields["x"], X)
    assert np.array_equal(data.labels, Y)
    assert data.layout is None
    assert data.preprocessing is None


def test_equal_arrays_from_different_files_have_one_digest(here):
    names = [write(here) for write in (write_npz, write_hdf5, write_npy_pair, write_idx_pair)]
    assert len({load_dataset(name).digest() for name in names}) == 1


def test_a_folder_of_images_has_a_known_layout(here):
    for index, name in enumerate(["cat", "dog"]):
        (here / "pets" / name).mkdir(parents=True)
        pixels = np.full((4, 5, 3), index, np.uint8)
        Image.fromarray(pixels).save(here / "pets" / name / "1.png")
    data = load_dataset("pets")
    assert (data.name, data.layout) == ("pets", "NHWC")
    assert data.fields["x"].shape == (2, 4, 5, 3)
    assert data.labels.tolist() == [0, 1]


def test_named_inputs_are_fields(here):
    np.savez(here / "d.npz", a=X, b=X, y=Y)
    data = load_dataset(str(here / "d.npz"))
    assert sorted(data.fields) == ["a", "b"]
    assert data.name == "d.npz"


def test_a_path_may_hold_a_comma(here):
    np.savez(here / "a,b.npz", x=X, y=Y)
    assert len(load_dataset("a,b.npz")) == 4


def test_a_name_goes_before_a_file_of_that_name(here):
    (here / "digits").mkdir()
    assert len(load_dataset("digits", split="test")) == 359
    with pytest.raises(DataError, match="one subfolder per class"):
        load_dataset("./digits")


@pytest.mark.parametrize(
    "reference",
    [
        "none.npz",
        "none/where",
        "./none",
        "x.npy,none.npy",
        "none,x.npy",
        "C:\\none",
        "~none/x",
    ],
)
def test_a_path_that_is_not_there_is_said_to_be_missing(here, reference):
    write_npy_pair(here)
    with pytest.raises(DataError, match="does not exist") as caught:
        load_dataset(reference)
    assert not isinstance(caught.value, UnknownDataError)


@pytest.mark.parametrize("reference", ["cifar100x", "CIFAR10", "imagenet"])
def test_an_unknown_name_lists_names_and_forms(here, reference):
    with pytest.raises(UnknownDataError) as caught:
        load_dataset(reference)
    text = str(caught.value)
    assert f"no data set or file {reference!r}" in text
    assert "digits, cifar10, fashion-mnist, mnist" in text
    for form in (".npz", ".h5", "x.npy,y.npy", "IDX", "folder", "module:function"):
        assert form in text
    assert ("did you mean cifar10?" in text) == reference.lower().startswith("cifar")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [("x.npy", "pair x.npy,y.npy"), ("x.csv", "no data file that is known"), ("x", "known")],
)
def test_a_file_of_another_kind_lists_the_forms(here, name, said):
    (here / name).write_bytes(b"1,2")
    with pytest.raises(DataError, match=said):
        load_dataset(name)


def test_a_pair_of_whole_data_files_is_an_error(here):
    write_npz(here)
    with pytest.raises(DataError, match="expected one file with x and y"):
        load_dataset("d.npz,d.npz")


def test_a_file_needs_no_labels(here):
    np.savez(here / "d.npz", x=X, labels=Y)
    data = load_dataset("d.npz")
    assert data.labels is None
    assert sorted(data.fields) == ["labels", "x"]
    assert len(data) == 4


def test_counts_that_differ_are_an_error(here):
    np.savez(here / "d.npz", x=X, y=Y[:3])
    with pytest.raises(DataError, match="got 'x' with 4, 'labels' with 3"):
        load_dataset("d.npz")
