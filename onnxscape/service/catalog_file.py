"""The SQLite file of the catalog: who has which blobs, models and data, and who may call."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from onnxscape.errors import DiskFullError, OutputError, StorageError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

APPLICATION_ID = 0x6F786361
"""`oxca`: marks a SQLite file as a catalog of onnxscape."""

FORMAT = 1
"""Version of the tables below, kept as SQLite's `user_version`."""

_SCHEMA = f"""
CREATE TABLE grants (
    user TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL,
    PRIMARY KEY (user, sha256)) WITHOUT ROWID;
CREATE INDEX grants_by_blob ON grants (sha256);
CREATE TABLE models (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL, id TEXT NOT NULL, display_name TEXT NOT NULL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL, created REAL NOT NULL,
    parameters INTEGER NOT NULL, moved INTEGER NOT NULL,
    audit TEXT NOT NULL, version TEXT NOT NULL,
    UNIQUE (user, id));
CREATE TABLE data_sets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL, id TEXT NOT NULL, display_name TEXT NOT NULL,
    sha256 TEXT, size INTEGER NOT NULL, created REAL NOT NULL,
    format TEXT NOT NULL, arrays TEXT NOT NULL, splits TEXT NOT NULL,
    UNIQUE (user, id));
CREATE TABLE tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, hash TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL, name TEXT NOT NULL,
    created REAL NOT NULL, expires REAL, revoked REAL, used REAL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""

_BUSY_SECONDS = 30.0


class CatalogFile:
    """The catalog's database; safe to be used by several threads, and processes.

    Every write is a durable transaction. Made by `CatalogFile.open`.
    """

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self._writer, self._writing = writer, threading.Lock()
        self._reader, self._reading = reader, threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file; make it if it is new.

        Args:
            path: The file, in a folder that is there.

        Returns:
            The file.

        Raises:
            OutputError: If it cannot be opened or is none of ours.
        """
        connections: list[sqlite3.Connection] = []
        try:
            for _ in range(2):
                connections.append(_connect(path))
                if len(connections) == 1:
                    _prepare(connections[0], path)
        except BaseException as error:
            for connection in connections:
                connection.close()
            if isinstance(error, sqlite3.Error | UnicodeDecodeError):
                raise OutputError(
                    f"cannot open the catalog {path}: {reason(error)}; "
                    "name a writable folder on a local disk by --data-dir"
                ) from error
            raise
        return cls(*connections)

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
        with self._reading, self._translated():
            return self._reader.execute(query, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction, which is durable when the `with` block ends well.

        Yields:
            The connection to write by.

        Raises:
            StorageError: If the disk fails; nothing is changed then.
        """
        with self._writing, self._translated():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        with self._reading, self._writing:
            self._reader.close()
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
                raise
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            kind = DiskFullError if full else StorageError
            raise kind(
                f"cannot read or write the server's catalog: {reason(error)}; what was stored "
                "before is kept: try again when the disk has room and works"
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")  # or another process makes the tables as well
    try:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if tables == 0 and found == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
        elif found != APPLICATION_ID:
            raise OutputError(
                f"{path} is a database of another program, not a catalog of onnxscape; "
                "name another folder by --data-dir"
            )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise OutputError(
                f"the catalog {path} has format {version}, this version reads {FORMAT}; "
                "use the onnxscape that wrote it, or another --data-dir"
            )
    finally:
        connection.execute("COMMIT")
