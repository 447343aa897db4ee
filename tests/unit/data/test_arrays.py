from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from onnxscape.data.arrays import npz_names, read_npy, read_npz
from onnxscape.errors import DataError


def header(shape, descr="<f4", fortran=False, version=1):
    """A .npy header that claims whatever it likes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


def npz(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "i8", "f2", "?"])
def test_what_numpy_saves_is_read(tmp_path, save, dtype):
    x = (np.arange(24) % 3).reshape(2, 3, 4).astype(dtype)
    save(tmp_path / "d.npz", x=x, y=np.asfortranarray(x[0]), z=np.zeros((0, 3)))
    arrays = read_npz(tmp_path / "d.npz")
    assert sorted(arrays) == ["x", "y", "z"]
    assert arrays["x"].dtype == x.dtype
    assert np.array_equal(arrays["x"], x)
    assert np.array_equal(arrays["y"], x[0])
    assert arrays["z"].shape == (0, 3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_single_array_is_read(tmp_path, order):
    x = np.array(np.arange(6.0).reshape(2, 3), order=order)
    np.save(tmp_path / "x.npy", x)
    assert np.array_equal(read_npy(tmp_path / "x.npy"), x)


def test_a_long_header_is_read(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        file.write(header((2,), version=2) + np.ones(2, "<f4").tobytes())
    assert read_npy(tmp_path / "x.npy").tolist() == [1.0, 1.0]


def test_only_the_arrays_asked_for_are_read(tmp_path):
    npz(tmp_path / "d.npz", good=_npy(np.arange(3)), bad=b"nothing")
    assert list(read_npz(tmp_path / "d.npz", only=["good"])) == ["good"]
    assert npz_names(tmp_path / "d.npz") == ["good", "bad"]


def _npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(DataError, match=r"x\.npy in .*d\.npz holds object values"):
        read_npz(tmp_path / "d.npz")


@pytest.mark.parametrize(
    "array", [np.array(["text"]), np.zeros(2, "M8[s]"), np.zeros(2, "V8")]
)
def test_arrays_that_hold_no_numbers_are_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match="expected numbers"):
        read_npy(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((1 << 40, 1024)) + b"1234", "claims 4096.0 TiB; expected at most 32.0 GiB"),
        (header((1 << 20, 1024)) + b"1234", "but holds 4"),
        (header((2,)) + b"1234", "but holds 4"),
        (header((1,)) + b"12345678", "but holds 8"),
        (header((-1,)) + b"1234", "impossible shape"),
        (header("(1,) * 40") + b"1234", "no array in .npy format"),
        (header((1,) * 33) + b"1234", "impossible shape"),
        (header((1,), version=3) + b"1234", "version 3.0"),
        (header((1,), descr="|O") + b"1234", "expected numbers"),
        (header((1,), descr="nonsense") + b"1234", "no array in .npy format"),
        (b"\x93NUMPY\x01\x00\x05\x00((((\n", "no array in .npy format"),
        (b"\x93NUMPY\x01\x00" + b"\xff\xff" + b"(" * 65535, "no array in .npy format"),
        (b"\x93NUM", "no array in .npy format"),
        (b"", "no array in .npy format"),
        (b"PK\x03\x04 not this", "no array in .npy format"),
    ],
)
def test_headers_that_lie_are_refused_before_memory_is_taken(tmp_path, content, said):
    (tmp_path / "x.npy").write_bytes(content)
    npz(tmp_path / "d.npz", x=content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said) as caught:
            read_npy(tmp_path / "x.npy")
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match=said):
            read_npz(tmp_path / "d.npz")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    # 80 MiB of zeros in 80 KiB.
    with (
        zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(header((20 << 20,)))
        zeros = bytes(1 << 24)
        for _ in range(5):
            member.write(zeros)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="decompression bomb"):
            read_npz(tmp_path / "d.npz")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_small_arrays_may_compress_as_well_as_they_like(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((1000, 1000), np.float32))
    assert read_npz(tmp_path / "d.npz")["x"].shape == (1000, 1000)


@pytest.mark.parametrize("cut", [10, 200, 400])
def test_a_file_that_is_cut_short_is_an_error(tmp_path, cut):
    np.savez(tmp_path / "d.npz", x=np.arange(100))
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[:-cut])
    with pytest.raises(DataError, match=r"no readable \.npz"):
        read_npz(tmp_path / "d.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_byte_is_noticed(tmp_path, save):
    save(tmp_path / "d.npz", x=np.random.default_rng(0).random(100))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[400] ^= 1
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError):
        read_npz(tmp_path / "d.npz")


def test_damaged_files_raise_nothing_but_data_errors(tmp_path):
    random = np.random.default_rng(1)
    np.savez_compressed(tmp_path / "d.npz", x=np.arange(50), y=np.arange(50))
    np.save(tmp_path / "d.npy", np.arange(50))
    for name, read in (("d.npz", read_npz), ("d.npy", read_npy)):
        whole = (tmp_path / name).read_bytes()
        for _ in range(150):
            broken = bytearray(whole)
            for _ in range(int(random.integers(1, 8))):
                broken[random.integers(len(broken))] = random.integers(256)
            (tmp_path / name).write_bytes(broken)
            try:
                read(tmp_path / name)
            except DataError:
                continue


def test_other_members_than_arrays_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"holds 'readme.txt'"):
        read_npz(tmp_path / "d.npz")


def test_other_compressions_are_refused(tmp_path):
    npz(tmp_path / "d.npz", zipfile.ZIP_LZMA, x=_npy(np.zeros(3)))
    with pytest.raises(DataError, match="method 14"):
        read_npz(tmp_path / "d.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", _npy(np.zeros(3)))
        archive.writestr("x.npy", _npy(np.ones(3)))
    with pytest.raises(DataError, match="x more than once"):
        read_npz(tmp_path / "d.npz")


def test_a_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"x\.npy cannot be read: No such file"):
        read_npy(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"^there is no file .*x\.npz$"):
        read_npz(tmp_path / "x.npz")
