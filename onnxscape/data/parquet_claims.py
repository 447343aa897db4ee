"""How much memory a Parquet file asks of a reader: told before a reader believes it.

A reader makes room for what page headers claim; nothing else compares these with the footer.
The format: https://parquet.apache.org/docs/file-format/ and parquet.thrift, named there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from onnxscape.data.limits import check_size
from onnxscape.data.thrift import Struct, ThriftError, ThriftReader
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = b"PAR1"
_MAX_FOOTER = 16 << 20
_MAX_PAGES = 1_000_000

_HEADER_BYTES = 4096
"""Headers of pages of numbers have some 50 bytes, with statistics some 100."""

_VALUE_BYTES = 8 + 4
"""Most bytes that a reader takes for a number, and for its place within lists."""

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_COUNTED_IN = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""Kind of page to the field of its header that starts with the number of values."""


def check_claims(stream: IO[bytes], what: str) -> None:
    """Refuse a file that claims more values than it can hold, or claims them inconsistently.

    Args:
        stream: The file.
        what: Its name, for messages.

    Raises:
        DataError: If it is refused, or damaged.
    """
    stored = stream.seek(0, os.SEEK_END)
    total = count = 0
    try:
        for chunk in _chunks(_footer(stream, stored), stored):
            total += chunk.values * _VALUE_BYTES
            check_size(total, what, stored=stored)
            for size in _page_sizes(stream, chunk):
                count += 1
                total += size
                if count > _MAX_PAGES:
                    raise DataError(f"{what} has more than {_MAX_PAGES} pages")
            check_size(total, what, stored=stored)
    except ThriftError as error:
        raise DataError(f"{what} is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The run of pages that holds one column of one group of rows."""

    start: int
    end: int
    values: int


def _footer(stream: IO[bytes], stored: int) -> Struct:
    stream.seek(max(0, stored - 8))
    tail = stream.read(8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or size > stored - 8:
        raise ThriftError("it does not end as a Parquet file")
    if size > _MAX_FOOTER:
        raise ThriftError(f"its footer has {size} bytes; expected at most {_MAX_FOOTER}")
    stream.seek(stored - 8 - size)
    return ThriftReader(stream.read(size)).struct()


def _chunks(footer: Struct, stored: int) -> Iterator[_Chunk]:
    for group in _structs(footer, 4):
        for column in _structs(group, 1):
            if column.get(1):
                raise ThriftError("a column is in another file; only whole files are read")
            about = _struct(column, 3)
            start, size = _number(about, 9), _number(about, 7)
            first = about.get(11)
            if isinstance(first, int) and 0 < first < start:
                start = first  # its dictionary comes before its values
            if start + size > stored:
                raise ThriftError("the pages of a column end behind the file")
            yield _Chunk(start, start + size, _number(about, 5))


def _page_sizes(stream: IO[bytes], chunk: _Chunk) -> Iterator[int]:
    # Bytes of each page when unpacked, as far as a reader would go.
    at, seen = chunk.start, 0
    while seen < chunk.values:
        stream.seek(at)
        reader = ThriftReader(stream.read(min(_HEADER_BYTES, chunk.end - at)))
        header = reader.struct()
        kind, size = _number(header, 1), _number(header, 2)
        at += reader.at + _number(header, 3)
        if at > chunk.end:
            raise ThriftError("a page ends behind its column")
        if kind in _COUNTED_IN:
            count = _number(_struct(header, _COUNTED_IN[kind]), 1)
            if kind != _DICTIONARY:
                seen += count
            elif count > size:
                raise ThriftError("a dictionary claims more values than it has bytes")
            yield size
    if seen != chunk.values:
        raise ThriftError(f"pages hold {seen} values, the footer claims {chunk.values}")


def _number(struct: Struct, field: int) -> int:
    value = struct.get(field)
    if not isinstance(value, int) or value < 0:
        raise ThriftError(f"a number is missing (field {field})")
    return value


def _struct(struct: Struct, field: int) -> Struct:
    value = struct.get(field)
    if not isinstance(value, dict):
        raise ThriftError(f"a struct is missing (field {field})")
    return value


def _structs(struct: Struct, field: int) -> list[Any]:
    value = struct.get(field)
    return value if isinstance(value, list) else []
