from __future__ import annotations

import numpy as np
import pytest

from onnxscape.data.labels import class_labels, float_targets
from onnxscape.errors import DataError


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "i2", ">i4", "i8", "u8", "f2", "f4", "f8", "bool"]
)
def test_whole_numbers_of_any_type_become_int64(dtype):
    labels = class_labels(np.array([0, 1, 1, 0]).astype(dtype), classes=2, name="d")
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1, 0]


def test_a_column_of_labels_is_taken_as_a_row():
    labels = class_labels(np.array([[3], [0]], dtype=np.uint8), classes=None, name="d")
    assert labels.tolist() == [3, 0]


def test_the_first_label_out_of_range_is_named():
    with pytest.raises(
        DataError, match=r"in 0\.\.9 in d, got 10 at index 2 \(2 such labels\)"
    ):
        class_labels(np.array([0, 9, 10, 11]), classes=10, name="d")


def test_labels_that_count_from_1_are_out_of_range_of_the_classes():
    with pytest.raises(DataError, match="count from 0"):
        class_labels(np.arange(1, 11), classes=10, name="d")


@pytest.mark.parametrize("classes", [None, 10])
def test_a_negative_label_is_an_error(classes):
    with pytest.raises(DataError, match="got -1 at index 1"):
        class_labels(np.array([0, -1], dtype=np.int8), classes=classes, name="d")


def test_without_known_classes_any_label_from_0_is_fine():
    assert class_labels(np.array([0, 1000]), classes=None, name="d").tolist() == [0, 1000]


def test_a_label_beyond_int64_is_an_error():
    with pytest.raises(DataError, match="got 18446744073709551615 at index 0"):
        class_labels(np.array([2**64 - 1], dtype=np.uint64), classes=None, name="d")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e300])
def test_a_label_that_is_no_whole_number_is_an_error(value):
    with pytest.raises(DataError, match=r"whole numbers.*at index 1"):
        class_labels(np.array([1.0, value]), classes=None, name="d")


def test_one_hot_labels_are_an_error_that_says_what_to_do():
    with pytest.raises(DataError, match=r"got \[3, 3\] in d; one-hot.*argmax"):
        class_labels(np.eye(3), classes=3, name="d")


def test_labels_of_other_shapes_are_an_error():
    with pytest.raises(DataError, match=r"shape \[2\] or \[2, 1\], got \[2, 4\] in d$"):
        class_labels(np.zeros((2, 4), int), classes=10, name="d")


def test_float_targets_keep_their_shape():
    targets = float_targets(np.arange(6, dtype=np.int16).reshape(2, 3), name="d")
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e39])
def test_targets_that_are_not_finite_as_float32_are_an_error(value):
    with pytest.raises(DataError, match=r"at labels\[1, 0\] \(1 such"):
        float_targets(np.array([[0.0], [value]]), name="d")
