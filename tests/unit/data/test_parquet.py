from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onnxscape.core.samples import TensorSignature
from onnxscape.data import load_dataset, prepare_samples
from onnxscape.data.parquet import read_parquet
from onnxscape.errors import DataError

RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(0, 50_000, (300, 7))
IMAGES = RANDOM.random((300, 2, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "d.parquet"


def write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("rows", [300, 70])
def test_what_arrow_writes_is_read(path, version, compression, dictionary, rows):
    columns = {
        "input_ids": IDS.tolist(),
        "x": IMAGES.tolist(),
        "fixed": pa.FixedSizeListArray.from_arrays(IDS.ravel().astype(np.int32), 7),
        "mask": (IDS % 2 == 0).tolist(),
        "y": np.arange(300, dtype=np.uint8),
    }
    write(
        path,
        columns,
        data_page_version=version,
        compression=compression,
        use_dictionary=dictionary,
        row_group_size=rows,
        data_page_size=500,
        write_page_checksum=True,
    )
    arrays = read_parquet(path)
    assert list(arrays) == list(columns)
    assert np.array_equal(arrays["input_ids"], IDS)
    assert np.array_equal(arrays["x"].astype(np.float32), IMAGES)
    assert np.array_equal(arrays["fixed"], IDS)
    assert arrays["fixed"].dtype == np.int32
    assert np.array_equal(arrays["mask"], IDS % 2 == 0)
    assert np.array_equal(arrays["y"], np.arange(300) % 256)


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
)
def test_numbers_keep_their_type(path, dtype):
    values = (np.arange(20) % 7).astype(dtype)
    read = read_parquet(write(path, {"x": values}))["x"]
    assert read.dtype == values.dtype
    assert np.array_equal(read, values)


def test_a_file_is_a_data_set_with_weights(path):
    write(path, {"x": IDS.tolist(), "y": np.arange(300) % 3, "sample_weight": np.ones(300)})
    data = load_dataset(str(path))
    assert (data.name, data.table, len(data)) == ("d.parquet", True, 300)
    signature = TensorSignature("tokens", (None, None), np.dtype(np.int64))
    samples = prepare_samples(data, [signature], samples=None)
    assert np.array_equal(samples.inputs["tokens"], IDS)
    assert samples.labels.tolist() == (np.arange(300) % 3).tolist()
    assert samples.weights.tolist() == [1.0] * 300


def test_columns_of_numbers_make_the_rows_of_a_single_input(path):
    write(path, {"b": np.arange(4), "y": np.zeros(4), "a": np.arange(4) / 2})
    signature = TensorSignature("input", (None, 2), np.dtype(np.float32))
    samples = prepare_samples(load_dataset(str(path)), [signature], samples=None)
    assert samples.inputs["input"].tolist() == [[0, 0], [1, 0.5], [2, 1], [3, 1.5]]


def test_the_nameless_index_of_pandas_is_left_out(path):
    write(path, {"x": np.arange(4), "__index_level_0__": np.arange(4) * 7})
    assert list(read_parquet(path)) == ["x"]


def test_columns_may_have_dots_in_their_names(path):
    write(path, {"a": np.zeros(3), "a.b": np.ones(3), "a.b.list": IDS[:3].tolist()})
    arrays = read_parquet(path)
    assert arrays["a.b"].tolist() == [1, 1, 1]
    assert arrays["a.b.list"].shape == (3, 7)


@pytest.mark.parametrize("rows", [10, 2])
def test_a_missing_value_is_named_by_its_row(path, rows):
    write(path, {"x": [1.0, 2.0, 3.0, None, None]}, row_group_size=rows)
    with pytest.raises(DataError, match=r"column 'x' of .* no value in row 3 \(\d missing\)"):
        read_parquet(path)
    write(path, {"x": [[[1], [2]], [[1], [2]], [[1], [None]]]}, row_group_size=rows)
    with pytest.raises(DataError, match=r"no value in row 2 \(1 missing\)"):
        read_parquet(path)
    write(path, {"x": [[1], [2], None, [4]]}, row_group_size=rows)
    with pytest.raises(DataError, match="no value in row 2"):
        read_parquet(path)


def test_a_number_that_is_none_is_not_missing(path):
    write(path, {"x": pa.array([1.0, np.nan], from_pandas=False)})
    assert np.isnan(read_parquet(path)["x"][1])


@pytest.mark.parametrize(
    ("rows", "said"),
    [(10, "3 values in row 0, 2 in row 3"), (3, r"\[3\] values in row 0, \[2\] in row 3")],
)
def test_lists_of_two_lengths_are_named_by_two_rows(path, rows, said):
    write(path, {"ids": [[1, 2, 3]] * 3 + [[1, 2]]}, row_group_size=rows)
    with pytest.raises(DataError, match=f"{said}; pad them.*attention_mask"):
        read_parquet(path)


def test_inner_lists_of_two_lengths_are_named_too(path):
    write(path, {"x": [[[1], [2]], [[1], [2]], [[1], [2, 3]]]})
    with pytest.raises(DataError, match="1 values in row 0, 2 in row 2"):
        read_parquet(path)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (["a", "b"], "holds string"),
        ([b"a", b"b"], "holds binary"),
        ([["a"], ["b"]], "holds list<.*string"),
        ([{"a": 1}, {"a": 2}], "holds struct"),
        ([None, None], "holds null"),
        (np.array([1, 2], "M8[s]"), "holds timestamp"),
        (pa.array(["a", "b"]).dictionary_encode(), "holds dictionary"),
        (pa.array([1, 2]).cast(pa.decimal128(20)), "holds decimal"),
    ],
)
def test_columns_that_hold_no_numbers_are_refused(path, column, said):
    write(path, {"x": [1, 2], "other": column})
    with pytest.raises(DataError, match=f"column 'other' of .*{said}.*leave it out"):
        read_parquet(path)


def test_a_column_that_is_there_twice_is_refused(path):
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["x", "x"]), path)
    with pytest.raises(DataError, match="holds the column x more than once"):
        read_parquet(path)


def test_an_empty_file_is_an_error(path):
    write(path, {"x": pa.array([], pa.int64())})
    with pytest.raises(DataError, match="0 rows"):
        read_parquet(path)


def test_too_many_columns_are_refused(path):
    write(path, {f"c{index}": [1] for index in range(1001)})
    with pytest.raises(DataError, match="1001 columns; expected at most 1000"):
        read_parquet(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 4, b"hello" * 100])
def test_a_file_that_is_no_parquet_is_an_error_of_one_line(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"no readable Parquet file") as caught:
        read_parquet(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_is_an_error(path):
    with pytest.raises(DataError, match="No such file"):
        read_parquet(path)
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(str(path))


def test_without_pyarrow_the_error_says_what_to_install(path, monkeypatch):
    write(path, {"x": [1]})
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"pip install 'onnxscape\[parquet\]'"):
        load_dataset(str(path))


def test_a_folder_of_files_asks_for_one(tmp_path):
    for index in range(2):
        write(tmp_path / f"part-{index}.parquet", {"x": [1]})
    with pytest.raises(DataError, match=r"2 Parquet files \(part-0\.parquet"):
        load_dataset(str(tmp_path))
