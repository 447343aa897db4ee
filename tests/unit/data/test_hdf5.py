from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from onnxscape.data.hdf5 import hdf5_names, read_hdf5
from onnxscape.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "d.h5"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (1, 3)},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf"},
    ],
)
@pytest.mark.parametrize("dtype", ["u1", ">f4", "f8", "i2"])
def test_plain_data_sets_are_read(path, options, dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, **options)
        file["y"] = [0, 1]
    arrays = read_hdf5(path)
    assert sorted(arrays) == ["x", "y"]
    assert np.array_equal(arrays["x"], x)
    assert arrays["y"].tolist() == [0, 1]


def test_single_values_are_read(path):
    with h5py.File(path, "w") as file:
        file["rate"] = 16000
    assert read_hdf5(path)["rate"].shape == ()
    assert read_hdf5(path)["rate"] == 16000


def test_only_the_arrays_asked_for_are_read(path):
    with h5py.File(path, "w") as file:
        file["good"], file["bad"] = np.arange(3), "text"
    assert hdf5_names(path) == ["bad", "good"]
    assert list(read_hdf5(path, only=["good"])) == ["good"]


def test_a_hard_link_is_an_ordinary_name(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
        file["again"] = file["x"]
    assert read_hdf5(path)["again"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("chunks", [None, (1 << 10, 1 << 10)])
def test_a_small_file_that_claims_terabytes_is_refused(path, chunks):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(1 << 20, 1 << 20), dtype="f4", chunks=chunks)
    assert path.stat().st_size < 4096
    with pytest.raises(DataError, match=r"claims 4\.0 TiB"):
        read_hdf5(path)


@pytest.mark.parametrize(
    ("chunks", "said"), [(None, "never written"), ((1 << 10, 1 << 10), "decompression bomb")]
)
def test_values_that_were_never_written_are_refused(path, chunks, said):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(1 << 14, 1 << 14), dtype="u1", chunks=chunks)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            read_hdf5(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_decompression_bomb_is_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", data=np.zeros(70 << 20, np.uint8), compression="gzip", chunks=(10 << 20,)
        )
    with pytest.raises(DataError, match="decompression bomb"):
        read_hdf5(path)


def test_a_chunk_far_larger_than_what_is_stored_is_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x",
            shape=(4,),
            maxshape=(None,),
            chunks=(1 << 27,),
            dtype="u1",
            compression="gzip",
        )
    with pytest.raises(DataError, match=r"chunks of 128\.0 MiB"):
        read_hdf5(path)


def test_external_storage_is_refused(path, tmp_path):
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", shape=(8,), dtype="u1", external=[(str(tmp_path / "secret"), 0, 8)]
        )
    with pytest.raises(DataError, match="other files"):
        read_hdf5(path)


def test_virtual_data_sets_are_refused(path, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(4)
    layout = h5py.VirtualLayout(shape=(4,), dtype="i8")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", shape=(4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)
    with pytest.raises(DataError, match="other files"):
        read_hdf5(path)


@pytest.mark.parametrize("link", [h5py.SoftLink("/x"), h5py.ExternalLink("/etc/passwd", "/x")])
def test_soft_and_external_links_are_refused(path, link):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
        file["y"] = link
    with pytest.raises(DataError, match="'y' is a soft or external link"):
        read_hdf5(path)


def test_a_filter_that_would_load_a_plug_in_is_refused(path):
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((4,))
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4,))
        properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, properties)
    with pytest.raises(DataError, match="filter 32015"):
        read_hdf5(path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["text"], "expected numbers"),
        (np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]), "expected numbers"),
        (h5py.Empty("f4"), "is empty"),
    ],
)
def test_data_sets_that_are_no_arrays_of_numbers_are_refused(path, value, said):
    with h5py.File(path, "w") as file:
        file["x"] = value
    with pytest.raises(DataError, match=said):
        read_hdf5(path)


def test_groups_are_refused(path):
    with h5py.File(path, "w") as file:
        file["model/x"] = np.zeros(3)
    with pytest.raises(DataError, match="expected an array 'model', found a group"):
        read_hdf5(path)


def test_a_file_that_is_no_hdf5_is_an_error_of_one_line(path):
    path.write_bytes(b"hello")
    with pytest.raises(DataError, match="not a whole HDF5 file") as caught:
        read_hdf5(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="No such file"):
        read_hdf5(path.with_name("missing.h5"))


def test_damaged_files_raise_nothing_but_data_errors(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(50)
        file.create_dataset("y", data=np.arange(50), compression="gzip")
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(100):
        broken = bytearray(whole)
        for _ in range(int(random.integers(1, 8))):
            broken[random.integers(len(broken))] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_hdf5(path)
        except DataError:
            continue
