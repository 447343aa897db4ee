"""Which arrays are believed; whole harmful files are tested with the kinds that are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from onnxscape.errors import DataError, SurfaceFileError
from onnxscape.files.guarded_hdf5 import open_untrusted
from onnxscape.files.limits import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SMALL = Limits(most=1 << 20, ratio=10, always_fine=1 << 12)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.h5"


def read(path: Path, *names: str, **options: Any) -> list[NDArray[Any]]:
    with open_untrusted(path, DataError, **options) as source:
        return [source.array(name, kinds="biuf") for name in names]


def refused(path: Path, match: str, *names: str, **options: Any) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read(path, *names, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arrays_and_members_are_listed(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(3.0)
        file["group/b"] = np.arange(2)
    with open_untrusted(path, DataError) as source:
        assert source.members() == ["a", "group"]
        assert source.arrays() == ["a"]
        assert source.arrays("group") == ["b"]
        assert source.shape_and_type("b", "group") == ((2,), np.dtype(np.int64))
        assert source.array("b", "group", kinds="i").tolist() == [0, 1]
        with pytest.raises(DataError, match="expected a group 'a', found an array"):
            source.arrays("a")


@pytest.mark.parametrize("error", [DataError, SurfaceFileError])
def test_faults_are_the_error_that_is_asked_for(path: Path, error: type[Exception]) -> None:
    path.write_bytes(b"no HDF5")
    with pytest.raises(error, match="not a whole HDF5 file"), open_untrusted(path, error):  # type: ignore[arg-type]
        pytest.fail("opened")
    with h5py.File(path, "w") as file:
        file["a"] = 1.0
    with (
        pytest.raises(error, match="it has no 'b'"),
        open_untrusted(path, error) as source,  # type: ignore[arg-type]
    ):
        source.array("b")


def test_values_come_in_the_byte_order_of_this_machine(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.array([1.5, -2.0], ">f4")
    (values,) = read(path, "a")
    assert values.dtype == np.float32
    assert values.dtype.isnative
    assert values.tolist() == [1.5, -2.0]


def test_kinds_that_are_not_asked_for_are_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(3)
    with (
        open_untrusted(path, DataError) as source,
        pytest.raises(DataError, match=r"has type int64, .* expected numbers \(floats\)"),
    ):
        source.array("a")


def test_plain_arrays_may_take_what_is_stored(path: Path) -> None:
    values = np.arange(100_000, dtype=np.float64)
    with h5py.File(path, "w") as file:
        file["a"] = values
        file["b"] = values[:31_000]
    (found,) = read(path, "a", limits=SMALL)
    assert np.array_equal(found, values)
    refused(
        path,
        r"'b', with those read before it, claims 1023\.4 KiB; ",
        "a",
        "b",
        limits=Limits(most=1_000_000, ratio=10),
    )
    refused(
        path,
        r"'a' claims 781\.2 KiB; expected at most",
        "a",
        limits=Limits(most=1 << 19, ratio=10),
    )


def test_chunks_left_out_are_read_where_other_programs_may_have_written(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", (400,), "u1", chunks=(100,), fillvalue=7)
        data[:100] = 1
    refused(path, "more than the 100 bytes that are stored", "a")
    (values,) = read(path, "a", foreign=True)
    assert values.tolist() == [1] * 100 + [7] * 300


def test_rounded_arrays_are_read_where_other_programs_may_have_written(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.arange(100), scaleoffset=0)
    refused(path, "packed by filter 6", "a")
    assert read(path, "a", foreign=True)[0].tolist() == list(range(100))


def test_packed_values_may_be_larger_than_the_file_by_a_ratio(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros(400_000, np.uint8), compression="gzip")
    size = path.stat().st_size
    assert read(path, "a", limits=Limits(most=1 << 30, ratio=500_000 // size + 1))
    refused(path, "decompression bomb", "a", limits=SMALL)


def test_a_chunk_larger_than_the_file_can_pack_is_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "a", (4,), "u1", maxshape=(None,), chunks=(1 << 19,), compression="gzip"
        )
    refused(path, r"'a' is cut into chunks of 512\.0 KiB", "a", limits=SMALL)


def test_one_array_under_many_names_is_counted_each_time(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["0"] = np.zeros(10_000, np.uint8)
        for number in range(1, 50):
            file[str(number)] = file["0"]
    names = [str(number) for number in range(50)]
    assert len(read(path, *names[:5], limits=SMALL)) == 5
    refused(path, "with those read before it, claims", *names, limits=SMALL)
