"""A SQLite database of a server: opened, checked, written in durable transactions."""

from __future__ import annotations

import errno
import queue
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from onnxscape.errors import DiskFullError, OnnxscapeError, OutputError, StorageError
from onnxscape.files.closing import Closing
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BUSY_SECONDS = 30.0

_READERS = 4
"""Connections that read at the same time: a large answer does not hold up the small ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What is in a database.

    Attributes:
        what: What people call it: `catalog`.
        application_id: Marks the file as ours.
        version: Of the tables, kept as SQLite's `user_version`.
        tables: Statements that make them, separated by semicolons.
    """

    what: str
    application_id: int
    version: int
    tables: str


class Database(Closing):
    """A database; safe to be used by several threads, and processes.

    Every write is a durable transaction, and reads do not wait for it. Made by `open`.
    """

    def __init__(
        self, writer: sqlite3.Connection, readers: Sequence[sqlite3.Connection], what: str
    ) -> None:
        self._writer, self._writing = writer, threading.Lock()
        self._readers = tuple(readers)
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for reader in self._readers:
            self._idle.put(reader)
        self._what = what

    @classmethod
    def open(cls, path: Path, schema: Schema) -> Self:
        """Open a database; make it if it is new.

        Args:
            path: The file, in a folder that is there.
            schema: What has to be in it.

        Returns:
            The database.

        Raises:
            OutputError: If it cannot be opened or is none of ours.
        """
        connections: list[sqlite3.Connection] = []
        try:
            for _ in range(1 + _READERS):
                connections.append(_connect(path))
                if len(connections) == 1:
                    _prepare(connections[0], path, schema)
        except BaseException as error:
            for connection in connections:
                connection.close()
            if isinstance(error, sqlite3.Error | UnicodeDecodeError):
                raise OutputError(
                    f"cannot open the {schema.what} {path}: {reason(error)}; "
                    "name a writable folder on a local disk by --data-dir"
                ) from error
            raise
        writer, *readers = connections
        return cls(writer, readers, schema.what)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read.

        Args:
            query: A SELECT.
            values: For its question marks.

        Returns:
            All rows.

        Raises:
            StorageError: If the disk fails.
        """
        return self._read(self._idle.get(), query, values)

    def rows_now(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]] | None:
        """Read without waiting for others; for short answers.

        Args:
            query: A SELECT.
            values: For its question marks.

        Returns:
            All rows; None if it would have to wait.

        Raises:
            StorageError: If the disk fails.
        """
        try:
            reader = self._idle.get_nowait()
        except queue.Empty:
            return None
        return self._read(reader, query, values)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction, which is durable when the `with` block ends well.

        Yields:
            The connection to write by.

        Raises:
            StorageError: If the disk fails; nothing is changed then.
        """
        with self._writing, self._translated(), _transaction(self._writer):
            yield self._writer

    def close(self) -> None:
        """Close the file."""
        readers = [self._idle.get() for _ in self._readers]  # whoever reads is waited for
        for reader in readers:
            reader.close()
            self._idle.put(reader)  # who reads later gets an error
        with self._writing:
            self._writer.close()

    def _read(
        self, reader: sqlite3.Connection, query: str, values: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        try:
            with self._translated():
                return reader.execute(query, values).fetchall()
        finally:
            self._idle.put(reader)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
            raise  # mistakes of ours
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, OnnxscapeError):
                raise
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) == errno.ENOSPC
            kind = DiskFullError if full else StorageError
            raise kind(
                f"cannot read or write the server's {self._what}: {reason(error)}; what was "
                "stored before is kept: try again when the disk has room and works"
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    with _transaction(connection):  # or another process makes the tables as well
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if tables == 0 and found == 0:
            for statement in filter(str.strip, schema.tables.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.application_id}")
            connection.execute(f"PRAGMA user_version = {schema.version}")
        elif found != schema.application_id:
            raise OutputError(
                f"{path} is a database of another program, not the {schema.what} of "
                "onnxscape; name another folder by --data-dir"
            )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != schema.version:
            raise OutputError(
                f"the {schema.what} {path} has format {version}, this version reads "
                f"{schema.version}; use the onnxscape that wrote it, or another --data-dir"
            )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have rolled it back already
            connection.execute("ROLLBACK")
        raise
