"""Reads the one kind of pickle that CIFAR-10 is published in, and executes nothing.

A pickle is a program that can call anything. Here it may only build dicts, lists, tuples,
numbers, bytes and numpy arrays of bytes: every instruction is checked against a list before
the first one runs, and the names of numpy's constructors lead to stand-ins that only record
what they are given.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, NoReturn

import numpy as np

from onnxscape.errors import DataError

_OPCODES = frozenset(
    {
        *("PROTO", "FRAME", "STOP", "MARK"),
        *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "DICT", "LIST"),
        *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG1"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
        *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
        *("APPEND", "APPENDS", "SETITEM", "SETITEMS"),
        *("GLOBAL", "REDUCE", "BUILD"),
    }
)
_GLOBALS = frozenset(
    {
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
    }
)
_MAX_MEMO = 1_000_000
"""The unpickler makes room for as many objects as the largest number of one."""


class _DtypeRecord:
    def __init__(self, *arguments: object) -> None:
        self.code = arguments[0] if arguments else None

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment mean nothing for bytes."""


class _ArrayRecord:
    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise DataError("a pickled array has no values")
        _, shape, dtype, fortran, values = self.state
        is_bytes = isinstance(dtype, _DtypeRecord) and dtype.code in {b"u1", "u1"}
        if not (is_bytes and isinstance(values, bytes)):
            raise DataError("a pickled array holds something else than bytes")
        try:
            flat = np.frombuffer(values, dtype=np.uint8)
            return flat.reshape(shape, order="F" if fortran else "C")
        except (ValueError, TypeError) as error:
            raise DataError(f"a pickled array does not fit its shape: {error}") from error


def _reconstruct(*_arguments: object) -> _ArrayRecord:
    return _ArrayRecord()


class _ArrayClass:
    """Stands for `numpy.ndarray`, which pickles name but do not call."""

    def __new__(cls) -> NoReturn:
        raise DataError("a pickle calls numpy.ndarray directly")


class _Unpickler(pickle.Unpickler):  # noqa: S301 - restricted below, and by _check
    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in _GLOBALS:
            raise DataError(f"a pickle names {module}.{name}, which is not allowed")
        return {"_reconstruct": _reconstruct, "ndarray": _ArrayClass, "dtype": _DtypeRecord}[
            name
        ]


def read_pickle(content: bytes, what: str) -> dict[bytes, Any]:
    """Read a pickled dict of plain values and arrays of bytes.

    Args:
        content: The pickle.
        what: Its name, for messages.

    Returns:
        The dict, strings as bytes, arrays as uint8.

    Raises:
        DataError: If it holds any other instruction, name or value.
    """
    try:
        _check(content)
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return {_plain(key): _plain(item) for key, item in value.items()}
    except Exception as error:
        # Broken bytes make the unpickler fail in many ways.
        raise DataError(f"{what} is no pickle that is read here: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, _ArrayRecord):
        return value.array()
    return value.encode() if isinstance(value, str) else value


def _check(content: bytes) -> None:
    for opcode, argument, position in pickletools.genops(content):
        if opcode.name not in _OPCODES:
            raise DataError(f"instruction {opcode.name} at byte {position} is not allowed")
        if opcode.name == "GLOBAL" and argument not in _GLOBALS:
            raise DataError(f"it names {argument!r}, which is not allowed")
        if (
            opcode.name in {"PUT", "LONG_BINPUT"}
            and isinstance(argument, int)
            and argument > _MAX_MEMO
        ):
            raise DataError(f"it numbers an object {argument}; expected at most {_MAX_MEMO}")
