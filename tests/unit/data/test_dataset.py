from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from onnxscape.data import Dataset, Preprocessing
from onnxscape.data.dataset import blocks, first_where
from onnxscape.errors import DataError


def make(x, y, name="d"):
    return Dataset(name=name, fields={"x": np.asarray(x)}, labels=np.asarray(y))


def test_the_digest_is_that_of_names_types_shapes_and_bytes():
    b = np.arange(6, dtype=np.float32).reshape(2, 3)
    a = np.array([[1], [2]], dtype=np.uint8)
    y = np.array([0, 1], dtype=np.int64)
    plain = b"".join(
        json.dumps(header).encode() + b"\n" + array.tobytes()
        for header, array in [
            (["field", "a", "uint8", [2, 1]], a),
            (["field", "b", "float32", [2, 3]], b),
            (["labels", "", "int64", [2]], y),
        ]
    )
    data = Dataset(name="d", fields={"b": b, "a": a}, labels=y)
    assert data.digest() == hashlib.sha256(plain).hexdigest()


def test_the_digest_does_not_depend_on_memory_layout_byte_order_or_name():
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    y = np.arange(4)
    expected = make(x, y).digest()
    assert make(np.asfortranarray(x), y).digest() == expected
    assert make(x.astype(">f4"), y.astype(">i8"), name="other").digest() == expected


def test_the_digest_sees_every_value_shape_type_and_label():
    x, y = np.zeros((4, 6), np.uint8), np.zeros(4, np.uint8)
    changed = x.copy()
    changed[3, 5] = 1
    others = [
        make(changed, y),
        make(x.reshape(4, 2, 3), y),
        make(x.astype(np.int8), y),
        make(x, y + 1),
        Dataset(name="d", fields={"z": x}, labels=y),
    ]
    assert len({data.digest() for data in [make(x, y), *others]}) == 6


def test_the_digest_is_computed_once(monkeypatch):
    data = make(x := np.arange(6, dtype=np.int16).reshape(2, 3), y := np.arange(2))
    expected = data.digest()
    monkeypatch.setattr("onnxscape.data.dataset.blocks", None)
    assert data.digest() == expected
    monkeypatch.undo()
    changed = dataclasses.replace(data, fields={"x": x + 1})
    assert changed.digest() == make(x + 1, y).digest() != expected


def test_the_digest_is_the_same_for_arrays_of_many_blocks(monkeypatch):
    x, y = np.arange(1000, dtype=np.int32).reshape(100, 10), np.zeros(100)
    expected = make(x, y).digest()
    monkeypatch.setattr("onnxscape.data.dataset._BLOCK_BYTES", 64)
    assert make(x, y).digest() == expected
    assert sum(len(block) for _, block in blocks(x)) == 100


def test_counts_that_differ_are_refused_with_both_numbers():
    with pytest.raises(DataError, match="got 'x' with 3, 'labels' with 2"):
        make(np.zeros((3, 2)), [0, 1])


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((0, 4)), np.zeros(0), "0 samples"),
        (np.zeros((2, 0)), np.zeros(2), "holds no values"),
        (np.array(["a", "b"]), np.zeros(2), "expected numbers"),
        (np.array([object(), None]), np.zeros(2), "holds object values"),
        (np.zeros((2, 2)), np.array(["cat", "dog"]), "'labels' of d holds"),
        (np.zeros((2, 2)), np.array(3), "single value"),
        (np.zeros(2, dtype="V4"), np.zeros(2), "expected numbers"),
        (np.zeros(2, dtype="M8[s]"), np.zeros(2), "expected numbers"),
    ],
)
def test_arrays_that_hold_no_samples_are_refused(x, y, said):
    with pytest.raises(DataError, match=said):
        make(x, y)


def test_labels_alone_are_no_data_set():
    with pytest.raises(DataError, match="no inputs"):
        Dataset(name="d", fields={}, labels=np.zeros(2))


def test_a_data_set_shows_its_arrays():
    assert repr(make(np.zeros((2, 3)), [0, 1], "toy")) == "Dataset(toy: x [2, 3] float64)"


def test_preprocessing_reads_as_a_formula():
    assert str(Preprocessing(scale=16.0)) == "value / 16"
    assert str(Preprocessing(255.0, (0.5,), (0.25, 0.5))) == (
        "(value / 255 - 0.5) / [0.25, 0.5]"
    )


def test_data_may_come_without_labels():
    data = Dataset(name="d", fields={"x": np.zeros((3, 2))}, labels=None)
    assert len(data) == 3
    assert data.digest() != make(np.zeros((3, 2)), np.zeros(3)).digest()
    with pytest.raises(
        DataError, match=r"samples in all arrays of d: got 'a' with 3, 'b' with 2"
    ):
        Dataset(name="d", fields={"a": np.zeros(3), "b": np.zeros(2)}, labels=None)


def test_an_array_of_another_length_than_all_others_is_named():
    fields = {"a": np.zeros(3), "b": np.zeros(2), "c": np.zeros(3)}
    with pytest.raises(DataError, match=r"arrays of d: 'b' has 2, the others have 3$"):
        Dataset(name="d", fields=fields, labels=np.zeros(3))


def test_single_values_stand_beside_samples():
    fields = {"rate": np.array(16000), "x": np.zeros((3, 2))}
    data = Dataset.from_arrays("d", fields)
    assert len(data) == 3
    assert (
        data.digest() != Dataset.from_arrays("d", fields | {"rate": np.array(8000)}).digest()
    )
    with pytest.raises(DataError, match=r"single values only \(rate\)"):
        Dataset(name="d", fields={"rate": np.array(1)}, labels=np.zeros(2))


def test_the_order_of_columns_counts_in_a_table_only():
    one, two = np.zeros(3), np.ones(3)
    for table in (False, True):
        first = Dataset.from_arrays("d", {"a": one, "b": two}, table=table)
        second = Dataset.from_arrays("d", {"b": two, "a": one}, table=table)
        assert (first.digest() == second.digest()) == (not table)


def test_the_first_value_looked_for_is_found_in_any_block(monkeypatch):
    monkeypatch.setattr("onnxscape.data.dataset._BLOCK_BYTES", 64)
    array = np.zeros((100, 3), np.int32)
    array[77, 1] = array[98, 2] = 5
    assert first_where(array, lambda block: block == 5) == ((77, 1), 2)
    assert first_where(array.T, lambda block: block == 5) == ((1, 77), 2)
    assert first_where(array, lambda block: block == 6) is None
