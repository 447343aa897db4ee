from __future__ import annotations

import numpy as np
import pytest

from onnxscape.data.labels import class_labels, float_targets, match_positions, sample_weights
from onnxscape.errors import DataError


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "i2", ">i4", "i8", "u8", "f2", "f4", "f8", "bool"]
)
def test_whole_numbers_of_any_type_become_int64(dtype):
    labels = class_labels(np.array([0, 1, 1, 0]).astype(dtype), classes=2, name="d")
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1, 0]


def test_a_column_of_labels_is_taken_as_a_row():
    column = np.array([[3], [0]], dtype=np.uint8)
    assert class_labels(column, classes=None, positions=0, name="d").tolist() == [3, 0]
    assert class_labels(column, classes=None, positions=1, name="d").tolist() == [[3], [0]]


def test_labels_keep_their_shape_until_the_positions_are_known():
    labels = np.zeros((2, 1, 3), int)
    assert class_labels(labels, classes=None, name="d").shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("shape", "positions", "matched"),
    [
        ((4,), 0, (4,)),
        ((4, 1), 0, (4,)),
        ((4, 7), 1, (4, 7)),
        ((4, 1, 7), 1, (4, 7)),
        ((4, 7, 1), 1, (4, 7)),
        ((4, 1, 1), 1, (4, 1)),
        ((4, 1, 5, 6), 2, (4, 5, 6)),
        ((4, 5, 6, 1), 2, (4, 5, 6)),
    ],
)
def test_one_axis_of_size_1_too_many_is_dropped(shape, positions, matched):
    labels = np.arange(np.prod(shape)).reshape(shape)
    found = match_positions(labels, positions, name="d")
    assert found.shape == matched
    assert np.shares_memory(found, labels)
    assert found.ravel().tolist() == labels.ravel().tolist()


@pytest.mark.parametrize(
    ("shape", "positions"),
    [((4,), 1), ((4, 7), 0), ((4, 1, 1), 0), ((4, 1, 5, 1), 2), ((4, 5, 1, 6), 2)],
)
def test_other_axes_of_labels_are_an_error(shape, positions):
    with pytest.raises(DataError, match=r"axes of positions|one class label per sample"):
        match_positions(np.zeros(shape, int), positions, name="d")


def test_one_hot_labels_of_positions_name_the_axis_of_the_classes():
    with pytest.raises(DataError, match=r"one-hot.*axis=1\)"):
        match_positions(np.zeros((2, 3, 5, 5), int), 2, classes=3, name="d")
    with pytest.raises(DataError, match=r"one-hot.*axis=2\)"):
        match_positions(np.zeros((2, 5, 3), int), 1, classes=3, name="d")


@pytest.mark.parametrize("dtype", ["i8", "i2", "f4"])
def test_the_ignored_class_number_may_be_out_of_range(dtype):
    labels = np.array([[0, -100], [2, 1]]).astype(dtype)
    found = class_labels(labels, classes=3, ignore_index=-100, name="d")
    assert found.tolist() == [[0, -100], [2, 1]]
    with pytest.raises(DataError, match=r"in 0\.\.2, or -1 to be ignored, in d, got -100 at"):
        class_labels(labels, classes=3, ignore_index=-1, name="d")
    assert class_labels(labels[1:], classes=3, ignore_index=255, name="d").tolist() == [[2, 1]]


def test_a_negative_label_hints_at_the_option_that_ignores_it():
    with pytest.raises(DataError, match=r"got -1 at index \[1, 0\].*--ignore-index -1"):
        class_labels(np.array([[0], [-1]]), classes=3, name="d")


def test_all_labels_are_checked_and_the_chosen_ones_returned():
    labels = np.arange(6).reshape(3, 2)
    chosen = np.array([2, 0])
    assert class_labels(labels, classes=6, chosen=chosen, name="d").tolist() == [
        [4, 5],
        [0, 1],
    ]
    with pytest.raises(DataError, match=r"got 3 at index \[1, 1\] \(3 such"):
        class_labels(labels, classes=3, chosen=chosen[1:], name="d")
    assert float_targets(labels, chosen=chosen, name="d").tolist() == [[4, 5], [0, 1]]


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
        class_labels(np.eye(3), classes=3, positions=0, name="d")


def test_labels_of_other_shapes_are_an_error():
    with pytest.raises(DataError, match=r"shape \[2\] or \[2, 1\], got \[2, 4\] in d$"):
        class_labels(np.zeros((2, 4), int), classes=10, positions=0, name="d")


def test_float_targets_keep_their_shape():
    targets = float_targets(np.arange(6, dtype=np.int16).reshape(2, 3), name="d")
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e39])
def test_targets_that_are_not_finite_as_float32_are_an_error(value):
    with pytest.raises(DataError, match=r"at labels\[1, 0\] \(1 such"):
        float_targets(np.array([[0.0], [value]]), name="d")


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "bool"])
def test_weights_of_samples_become_float64(dtype):
    weights = np.array([1, 0, 1]).astype(dtype)
    found = sample_weights(weights, name="d", chosen=np.array([2, 1]))
    assert found.dtype == np.float64
    assert found.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0, -1.0, 0.5], "not negative in 'sample_weight' of d, got -1 at index 1"),
        ([1.0, np.nan, np.inf], r"got nan at index 1 \(2 such\)"),
        ([[1.0], [1.0], [1.0]], r"one number per sample, got shape \[3, 1\]"),
        ([0.0, 0.0, 1.0], "is 0 for all 2 samples used"),
    ],
)
def test_weights_that_cannot_be_meant_are_an_error(weights, said):
    with pytest.raises(DataError, match=said):
        sample_weights(np.array(weights), name="d", chosen=np.array([0, 1]))
