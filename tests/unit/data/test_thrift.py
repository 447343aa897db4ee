from __future__ import annotations

import pytest

from onnxscape.data.thrift import ThriftError, ThriftReader


def read(*parts):
    return ThriftReader(b"".join(parts)).struct()


def test_numbers_bytes_structs_and_lists_of_structs_are_kept():
    # Worked out by hand from the protocol's specification.
    content = [
        b"\x15\xd0\x0f",  # field 1, i32: zigzag of 1000
        b"\x16\x01",  # field 2, i64: -1
        b"\x11",  # field 3, true
        b"\x18\x03abc",  # field 4, binary
        b"\x1c\x15\x02\x00",  # field 5, a struct with field 1 = 1
        b"\x19\x2c\x15\x04\x00\x15\x06\x00",  # field 6, a list of two structs
        b"\x19\x35\x02\x04\x06",  # field 7, a list of three numbers
        b"\x13\x07",  # field 8, a byte
        b"\x17" + bytes(8),  # field 9, a double
        b"\x05\xc8\x01\x08",  # i32 in field 100, whose number is written out
        b"\x00",
    ]
    assert read(*content) == {
        1: 1000,
        2: -1,
        3: None,
        4: b"abc",
        5: {1: 1},
        6: [{1: 2}, {1: 3}],
        7: None,
        8: None,
        9: None,
        100: 4,
    }


def test_the_reader_stands_behind_what_it_read():
    reader = ThriftReader(b"\x15\x02\x00rest")
    reader.struct()
    assert reader.at == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cut short"),
        (b"\x15", "cut short"),
        (b"\x18\x7fabc", "cut short"),
        (b"\x18" + b"\xff" * 9 + b"\x01", "cut short"),
        (b"\x19\xf1" + b"\xff" * 8 + b"\x01", "cut short"),
        (b"\x19\xfc" + b"\xff" * 8 + b"\x01" + bytes(100), "cut short"),
        (b"\x15" + b"\xff" * 20, "64 bits"),
        (b"\x1f\x00", "unknown type 15"),
        (b"\x1c" * 1000, "nested too deep"),
        (b"\x19" * 1000, "nested too deep"),
        (b"\x19" + b"\x19" * 1000, "nested too deep"),
    ],
)
def test_damaged_structs_are_an_error(content, said):
    with pytest.raises(ThriftError, match=said):
        read(content)
