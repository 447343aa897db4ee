from __future__ import annotations

import h5py
import numpy as np
import pytest
from PIL import Image

from onnxscape.data import load_dataset
from onnxscape.data.splits import arrays_of_split
from onnxscape.errors import DataError

ARRAYS = {
    "x_train": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
    "y_train": np.arange(3),
    "x_test": np.arange(8, dtype=np.uint8).reshape(2, 2, 2) + 100,
    "y_test": np.arange(2) + 7,
}


def save_npz(folder, arrays):
    np.savez(folder / "mnist.npz", **arrays)
    return folder / "mnist.npz"


def save_hdf5(folder, arrays):
    with h5py.File(folder / "mnist.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return folder / "mnist.h5"


@pytest.mark.parametrize("save", [save_npz, save_hdf5])
def test_a_file_may_hold_both_splits(tmp_path, save):
    path = save(tmp_path, ARRAYS)
    for split in ("train", "test"):
        data = load_dataset(str(path), split=split)
        assert data.name == f"{path.name} {split}"
        assert list(data.fields) == ["x"]
        assert np.array_equal(data.fields["x"], ARRAYS[f"x_{split}"])
        assert np.array_equal(data.labels, ARRAYS[f"y_{split}"])


def test_the_other_split_has_no_say(tmp_path):
    alone = load_dataset(str(save_npz(tmp_path, {"x": ARRAYS["x_test"], "y": [7, 8]})))
    both = load_dataset(str(save_npz(tmp_path, ARRAYS)), split="test")
    assert both.digest() == alone.digest()


def test_a_split_that_is_not_there_is_an_error(tmp_path):
    path = save_npz(tmp_path, {"x_test": ARRAYS["x_test"], "x_val": np.zeros(5)})
    with pytest.raises(DataError, match=r"holds the split test and val, not train: .*--split"):
        load_dataset(str(path))
    assert len(load_dataset(str(path), split="test")) == 2


@pytest.mark.parametrize(
    "names",
    [
        ("x", "y"),
        ("x_train", "y_train", "names"),
        ("train", "test"),
        ("_train", "_test"),
        ("input_val", "y_val"),
        (),
    ],
)
def test_other_names_are_no_splits(names):
    assert arrays_of_split(names, "train", "d") is None


def test_every_array_of_a_split_loses_its_suffix():
    names = ["input_ids_train", "sample_weight_train", "input_ids_test", "x_validation"]
    assert arrays_of_split(names, "train", "d") == {
        "input_ids_train": "input_ids",
        "sample_weight_train": "sample_weight",
    }


def images(folder, *names):
    for value, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 5), value, np.uint8)).save(folder / name / "1.png")


def test_a_folder_may_hold_both_splits(tmp_path):
    images(tmp_path / "pets", "train/cat", "train/dog", "test/dog", "val/cat")
    train = load_dataset(str(tmp_path / "pets"))
    assert (train.name, train.labels.tolist()) == ("pets train", [0, 1])
    test = load_dataset(str(tmp_path / "pets"), split="test")
    assert test.fields["x"][:, 0, 0].tolist() == [2]
    assert test.labels.tolist() == [1]  # dog, as in training


def test_a_class_that_training_does_not_have_is_an_error(tmp_path):
    images(tmp_path / "pets", "train/cat", "train/dog", "test/bird")
    with pytest.raises(DataError, match=r"bird holds images of a class .*one of cat, dog"):
        load_dataset(str(tmp_path / "pets"), split="test")


def test_a_test_split_alone_numbers_its_own_classes(tmp_path):
    images(tmp_path / "pets", "test/cat", "test/dog")
    assert load_dataset(str(tmp_path / "pets"), split="test").labels.tolist() == [0, 1]


def test_a_folder_without_the_split_is_an_error(tmp_path):
    images(tmp_path / "pets", "train/cat", "train/dog")
    with pytest.raises(DataError, match="pets holds the split train, not test"):
        load_dataset(str(tmp_path / "pets"), split="test")


@pytest.mark.parametrize("names", [("train", "test"), ("bus", "train")])
def test_classes_may_be_called_like_splits(tmp_path, names):
    images(tmp_path / "traffic", *names)
    data = load_dataset(str(tmp_path / "traffic"))
    assert (data.name, len(data)) == ("traffic", 2)
