from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import pytest

from onnxscape.files.hdf5_heaps import are_walkable

if TYPE_CHECKING:
    from pathlib import Path

MARK = b"GCOL\1\0\0\0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        for number in range(500):  # more than one heap
            file.attrs[f"text {number}"] = "some text " * number
    return tmp_path / "texts.h5"


def walkable(path: Path) -> bool:
    with path.open("rb") as stream:
        return are_walkable(stream)


def test_heaps_as_hdf5_writes_them_are_walkable(path: Path) -> None:
    assert path.read_bytes().count(MARK) > 1
    assert walkable(path)


@pytest.mark.parametrize(
    ("offset", "length", "value"),
    [
        (8, 8, 2**40),  # a heap larger than the file
        (16 + 8, 8, 2**64 - 16),  # an object that takes a walker back to its start
        (16 + 8, 8, 2**20),  # an object larger than its heap
    ],
)
@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_heap_is_found_wherever_it_is(
    path: Path, offset: int, length: int, value: int, which: int
) -> None:
    content = bytearray(path.read_bytes())
    start = content.find(MARK) if which == 0 else content.rfind(MARK)
    content[start + offset : start + offset + length] = value.to_bytes(length, "little")
    path.write_bytes(content)
    assert not walkable(path)


def test_free_space_without_a_size_is_found(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.find(MARK) + 16
    content[place : place + 16] = bytes(16)
    path.write_bytes(content)
    assert not walkable(path)
