"""The SQLite file under the point store: opened, checked, and its errors made ours."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from onnxscape.errors import OutputBusyError, OutputError, StorageError, SurfaceFileError
from onnxscape.files.reason import reason
from onnxscape.storage.file_system import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION_ID = 0x6F787363
"""`oxsc`: marks a SQLite file as a point store of onnxscape."""

FORMAT = 1
"""Version of the tables below, kept as SQLite's `user_version`."""

_SCHEMA = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
    'CREATE TABLE meta ("key" TEXT PRIMARY KEY, "value" TEXT NOT NULL) WITHOUT ROWID',
    "CREATE TABLE metrics (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE)",
    # values: little-endian float64, because SQLite's own REAL turns NaN into NULL.
    """CREATE TABLE points (
        "row" INTEGER NOT NULL, "column" INTEGER NOT NULL,
        alpha REAL NOT NULL, beta REAL NOT NULL,
        metrics INTEGER NOT NULL REFERENCES metrics (id), "values" BLOB NOT NULL,
        PRIMARY KEY ("row", "column"))""",
)

_BUSY_SECONDS = 60.0
"""How long a writer waits for a reader, and a reader for a writer."""

_MAGIC = b"SQLite format 3\0"

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""The last is a statement without sense: ours are fixed, so that the tables are at fault."""

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def connect(path: Path) -> sqlite3.Connection:
    """Open a point store's database, checked; make its tables if it is new.

    Args:
        path: The database; a missing or empty file becomes a new one.

    Returns:
        A connection in which every statement is a transaction of its own.

    Raises:
        OutputError: If the place cannot be written.
        OutputBusyError: If another process holds the file for itself.
        SurfaceFileError: If the file is damaged, not ours, or of another version.
    """
    _check_place(path)
    with translated(path, opening=True):
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make the statements of a `with` block happen all or not at all.

    Args:
        connection: One made by `connect`.

    Yields:
        Nothing.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has already rolled it back
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Turn SQLite's errors into ours; a misuse of its interface stays what it is.

    Args:
        path: The database, for messages.
        opening: Whether nothing has been computed yet, so that nothing can be lost.

    Yields:
        Nothing.

    Raises:
        StorageError: If the disk fails while running.
        OutputError: If it fails on opening.
        OutputBusyError: If another process keeps the file locked on opening.
        SurfaceFileError: If the file is damaged.
    """  # noqa: DOC501 - a misuse is an internal error, no part of the promise
    try:
        yield
    except UnicodeDecodeError as error:  # in the text of SQLite's own message
        raise SurfaceFileError(damage(path, error)) from error
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.ProgrammingError):
            raise
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            raise SurfaceFileError(damage(path, error)) from error
        if not opening:
            raise StorageError(
                f"cannot read or write the points in {path}: {reason(error)}; "
                "the points stored before are kept: free space or mend the disk, "
                "then run the same command again"
            ) from error
        if code in _BUSY:
            raise OutputBusyError(
                f"{path} is locked by another process; wait for it, or choose another --out"
            ) from error
        raise OutputError(
            f"cannot keep points in {path}: {reason(error)}; "
            "free space, choose another --out, or name a local folder by --store"
        ) from error


def damage(path: Path, error: Exception) -> str:
    """Return the message for a store whose content makes no sense.

    Args:
        path: The database.
        error: What was found.

    Returns:
        The message of a SurfaceFileError.
    """
    return (
        f"the points in {path} are damaged ({reason(error)}); "
        "restore a copy of the file, or use --restart to compute anew"
    )


def _check_place(path: Path) -> None:
    folder = path.parent
    why = None
    if not folder.is_dir():
        why = f"there is no folder {folder}; create it or choose another place"
    elif path.exists() and not path.is_file():
        why = "something that is no file has this name; move it away"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = "its folder is not writable; choose another --out, or a folder by --store"
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        why = "it may not be read and written; change its mode, or choose another --out"
    if why is not None:
        raise OutputError(f"cannot keep points in {path}: {why}")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # Checks that a database is ours and whole; makes its tables if it is new.
    # A damaged text shall be found out by its reader, not be an error without a number.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: else the drive's cache may be lost
    if _is_new(connection):
        with transaction(connection):
            if _is_new(connection):  # and was not made by another process just now
                for statement in _SCHEMA:
                    connection.execute(statement)
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise SurfaceFileError(_foreign(path))
    version = _pragma(connection, "user_version")
    if version != FORMAT:
        raise SurfaceFileError(
            f"the points in {path} have format {version}, this version reads {FORMAT}; "
            "use the onnxscape that wrote them, or --restart to compute anew"
        )
    wanted = "wal" if is_local(path.parent) else "delete"
    if _pragma(connection, "journal_mode") != wanted:
        obtained = _pragma(connection, f"journal_mode = {wanted}")
        if obtained != wanted:
            connection.execute("PRAGMA journal_mode = DELETE")
    verdict = _pragma(connection, "quick_check(1)")
    if verdict != "ok":
        raise SurfaceFileError(damage(path, ValueError(str(verdict))))


def _is_new(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == (0,) and _pragma(connection, "application_id") == 0)


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    with closing(connection.execute(f"PRAGMA {name}")) as query:
        found = query.fetchone()
    return None if found is None else found[0]


def _foreign(path: Path) -> str:
    return (
        f"{path} is a database of another program, not points of onnxscape; "
        "move it away, or choose another --out"
    )


def discard(path: Path) -> None:
    """Delete a store, damaged or not, but never a database of another program.

    Args:
        path: The database; it may be missing.

    Raises:
        OutputError: If it cannot be deleted.
        SurfaceFileError: If it belongs to another program.
    """
    try:
        with suppress(FileNotFoundError), path.open("rb") as file:
            header = file.read(100)
            mark = int.from_bytes(header[68:72], "big")
            if header.startswith(_MAGIC) and mark != APPLICATION_ID:
                raise SurfaceFileError(_foreign(path))
        delete(path)
    except OSError as error:
        raise OutputError(
            f"cannot remove {path}: {reason(error)}; "
            "remove it by hand, or choose another --out"
        ) from error


def delete(path: Path) -> None:
    """Delete a database with its journals, as far as they exist.

    Args:
        path: The database.

    Raises:
        OSError: If it cannot be deleted.
    """
    # The database first: SQLite ignores journals of a database that is not there, but a
    # database without its journal would be a damaged one.
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
