"""Structs in Thrift's compact protocol, as Parquet files hold them, from untrusted bytes.

The format: doc/specs/thrift-compact-protocol.md in github.com/apache/thrift.
"""

from __future__ import annotations

from typing import Any

Struct = dict[int, Any]
"""Values by field number: whole numbers, bytes, structs, lists of structs; else None."""

_MAX_DEPTH = 16
_BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 3, 7, 8, 9, 10, 12
_TRUTHS, _INTEGERS = frozenset({1, 2}), frozenset({4, 5, 6})


class ThriftError(ValueError):
    """Bytes that are no struct."""


class ThriftReader:
    """Reads structs; keeps whole numbers, bytes, and structs alone or in lists."""

    def __init__(self, buffer: bytes) -> None:
        """Start at the first byte.

        Args:
            buffer: The bytes.
        """
        self._buffer = buffer
        self.at = 0
        """Where the next value starts."""

    def struct(self, depth: int = 0) -> Struct:
        """Read a struct.

        Args:
            depth: Number of structs and lists around it.

        Returns:
            Its values.

        Raises:
            ThriftError: If it is damaged, or nested too deep.
        """
        if depth > _MAX_DEPTH:
            raise ThriftError("structs are nested too deep")
        fields: Struct = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            # A truth value is its own type.
            fields[number] = None if kind in _TRUTHS else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            length = self._varint()
            self._skip(length)
            return self._buffer[self.at - length : self.at]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in {_LIST, _SET}:
            return self._list(depth + 1)
        if kind in {_BYTE, _DOUBLE, *_TRUTHS}:
            self._skip(8 if kind == _DOUBLE else 1)
            return None
        raise ThriftError(f"a value has the unknown type {kind}")

    def _list(self, depth: int) -> list[Any] | None:
        if depth > _MAX_DEPTH:
            raise ThriftError("lists are nested too deep")
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        values = []
        for _ in range(count):
            value = self._value(head & 15, depth)
            if head & 15 == _STRUCT:
                values.append(value)
        return values if head & 15 == _STRUCT else None

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError("a number has more than 64 bits")

    def _byte(self) -> int:
        self._skip(1)
        return self._buffer[self.at - 1]

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._buffer):
            raise ThriftError("a struct is cut short")
