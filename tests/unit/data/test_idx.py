from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc

import numpy as np
import pytest

from onnxscape.data.idx import idx_md5, read_idx
from onnxscape.errors import DataError


def idx(code, shape, content):
    return struct.pack(f">4B{len(shape)}I", 0, 0, code, len(shape), *shape) + content


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("code", "dtype"),
    [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")],
)
def test_every_type_is_read_plain_or_packed(tmp_path, pack, code, dtype):
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "x").write_bytes(pack(idx(code, x.shape, x.tobytes())))
    found = read_idx(tmp_path / "x")
    assert found.dtype == x.dtype.newbyteorder("=")
    assert np.array_equal(found, x)


def test_the_checksum_is_that_of_the_plain_file():
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    expected = hashlib.md5(idx(8, x.shape, x.tobytes()), usedforsecurity=False).hexdigest()
    assert idx_md5(x) == expected


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(8, (4,), b"123"), "claim"),
        (idx(8, (4,), b"12345"), "claim"),
        (idx(8, (1 << 31, 1 << 31), b"123"), "claim"),
        (idx(8, (1 << 30,), b"123"), "claim"),
        (idx(10, (4,), b"1234"), "does not start like an IDX file"),
        (b"\0\0\x08\0", "does not start like an IDX file"),
        (b"\0\0\x08\x02\0\0\0\x01", "ends within the header"),
        (b"\0\0", "does not start like an IDX file"),
        (b"hello, world", "does not start like an IDX file"),
    ],
)
def test_files_that_lie_are_refused_before_memory_is_taken(tmp_path, pack, content, said):
    (tmp_path / "x").write_bytes(pack(content))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            read_idx(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_decompression_bomb_is_refused(tmp_path):
    packed = gzip.compress(idx(8, (70 << 20,), bytes(70 << 20)), compresslevel=6)
    (tmp_path / "x.gz").write_bytes(packed)
    with pytest.raises(DataError, match="decompression bomb"):
        read_idx(tmp_path / "x.gz")


def test_damaged_packed_files_are_an_error(tmp_path):
    content = bytearray(gzip.compress(idx(8, (1000,), bytes(range(250)) * 4)))
    (tmp_path / "cut").write_bytes(content[:-20])
    content[30] ^= 255
    (tmp_path / "changed").write_bytes(content)
    for name in ("cut", "changed", "missing"):
        with pytest.raises(DataError):
            read_idx(tmp_path / name)
