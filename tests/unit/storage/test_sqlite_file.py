from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from onnxscape.core.grid import Point
from onnxscape.errors import OutputBusyError, OutputError, StorageError, SurfaceFileError
from onnxscape.storage import PointStore
from onnxscape.storage.sqlite_file import APPLICATION_ID

if TYPE_CHECKING:
    from pathlib import Path

    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec


def test_every_put_is_synced(store: PointStore) -> None:
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize(("local", "mode"), [(True, "wal"), (False, "delete")])
def test_the_journal_follows_the_file_system_also_for_an_old_store(
    output: Path, monkeypatch: pytest.MonkeyPatch, local: bool, mode: str
) -> None:
    for answer in (not local, local):
        monkeypatch.setattr("onnxscape.storage.sqlite_file.is_local", lambda _, a=answer: a)
        with PointStore.open(output) as store:
            store.put(Point(0, int(answer), 0.0, 0.0), {"loss": 1.0})
            last = store._connection.execute("PRAGMA journal_mode").fetchone()
    assert last == (mode,)
    with PointStore.open(output) as store:
        assert store.count == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (sqlite3.SQLITE_FULL, "database or disk is full"),
        (sqlite3.SQLITE_IOERR, "disk I/O error"),
        (sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error"),
        (sqlite3.SQLITE_READONLY, "attempt to write a readonly database"),
        (sqlite3.SQLITE_BUSY, "database is locked"),
    ],
)
def test_what_sqlite_reports_while_running_is_a_storage_error(
    store: PointStore, code: int, message: str
) -> None:
    class Failing:
        def execute(self, *_: object) -> object:
            error = sqlite3.OperationalError(message)
            error.sqlite_errorcode = code
            raise error

        def close(self) -> None:
            pass

    sound, store._connection = store._connection, Failing()  # type: ignore[assignment]
    with pytest.raises(StorageError, match=f"{message}.*are kept") as caught:
        store.put(Point(0, 0, 0.0, 0.0), {"loss": 1.0})
    assert "\n" not in str(caught.value)
    store._connection = sound


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        PointStore.open(tmp_path / "absent" / "out.h5")
    with pytest.raises(OutputError, match="there is no folder"):
        PointStore.open(tmp_path / "out.h5", store_dir=tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_refused(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser would be let in
    with pytest.raises(OutputError, match=r"not writable.*--store"):
        PointStore.open(output)


def test_a_store_that_another_holds_for_itself_is_busy(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxscape.storage.sqlite_file._BUSY_SECONDS", 0.05)
    monkeypatch.setattr("onnxscape.storage.sqlite_file.is_local", lambda _: False)
    with PointStore.open(output) as store:
        store._connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutputBusyError, match="locked by another process"):
            PointStore.open(output)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, spec: EvalSpec, plan: Plan) -> bytes:
    """The bytes of a store with 200 points."""
    output = tmp_path_factory.mktemp("whole") / "out.h5"
    with PointStore.open(output) as store:
        store.begin(spec, plan, {})
        for column in range(200):
            store.put(Point(0, column, 0.0, 0.0), {"loss": 1.0, "accuracy": 0.5})
    return store.path.read_bytes()


@pytest.fixture
def stored(output: Path, whole: bytes) -> Path:
    """The SQLite file of a store with 200 points, closed."""
    path = PointStore.location(output)
    path.write_bytes(whole)
    return path


def test_a_file_that_is_no_database_is_refused_and_restart_replaces_it(output: Path) -> None:
    path = PointStore.location(output)
    path.write_bytes(b"something else entirely, long enough to be read " * 50)
    with pytest.raises(SurfaceFileError, match=r"damaged .*--restart"):
        PointStore.open(output)
    with PointStore.open(output, restart=True) as store:
        assert store.count == 0


def test_a_truncated_store_is_refused_and_restart_replaces_it(
    output: Path, stored: Path
) -> None:
    stored.write_bytes(stored.read_bytes()[: stored.stat().st_size // 2])
    with pytest.raises(SurfaceFileError, match=r"damaged .*--restart"):
        PointStore.open(output)
    with PointStore.open(output, restart=True) as store:
        assert store.count == 0
        assert store.spec is None


@pytest.mark.parametrize("place", range(4096, 20480, 1024))
def test_a_damaged_page_is_never_a_traceback(output: Path, stored: Path, place: int) -> None:
    content = bytearray(stored.read_bytes())
    content[place : place + 64] = b"\xff" * 64
    stored.write_bytes(content)
    message = "--restart"
    try:
        with PointStore.open(output) as store:
            store.spec  # noqa: B018 - reading is the test
            store.plan  # noqa: B018
            store.results()
    except SurfaceFileError as error:
        message = str(error)
    assert "--restart" in message
    assert "\n" not in message


def test_a_missing_table_is_damage(output: Path, stored: Path) -> None:
    with closing(sqlite3.connect(stored)) as connection:
        connection.execute("DROP TABLE points")
    with (
        PointStore.open(output) as store,
        pytest.raises(SurfaceFileError, match=r"damaged .*--restart"),
    ):
        store.results()


@pytest.mark.parametrize(
    "change",
    [
        'UPDATE points SET "values" = x\'00\' WHERE "column" = 3',
        'UPDATE points SET "values" = \'text\' WHERE "column" = 3',
        "UPDATE points SET metrics = 99",
        "UPDATE metrics SET names = '{'",
        "UPDATE metrics SET names = '3'",
        "UPDATE metrics SET names = CAST(x'ff' AS TEXT)",
    ],
)
def test_rows_without_sense_are_damage(output: Path, stored: Path, change: str) -> None:
    with closing(sqlite3.connect(stored)) as connection, connection:
        connection.execute(change)
    with (
        PointStore.open(output) as store,
        pytest.raises(SurfaceFileError, match=r"damaged .*--restart"),
    ):
        store.results()


@pytest.mark.parametrize("text", ["{", "3", "null", "{}", '{"x": 1}'])
def test_a_spec_or_plan_without_sense_is_damage(output: Path, stored: Path, text: str) -> None:
    with closing(sqlite3.connect(stored)) as connection, connection:
        connection.execute('UPDATE meta SET "value" = ?', (text,))
    with PointStore.open(output) as store:
        with pytest.raises(SurfaceFileError, match="--restart"):
            store.spec  # noqa: B018 - reading is the test
        with pytest.raises(SurfaceFileError, match="--restart"):
            store.plan  # noqa: B018


def test_a_database_of_another_program_is_never_touched(output: Path) -> None:
    path = PointStore.location(output)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE precious (x)")
    before = path.read_bytes()
    for restart in (False, True):
        with pytest.raises(SurfaceFileError, match="another program"):
            PointStore.open(output, restart=restart)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(store: PointStore, output: Path) -> None:
    store._connection.execute("PRAGMA user_version = 2")
    with pytest.raises(SurfaceFileError, match=r"format 2, this version reads 1.*--restart"):
        PointStore.open(output)


def test_the_file_carries_our_mark(store: PointStore) -> None:
    store.close()
    header = store.path.read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert APPLICATION_ID.to_bytes(4, "big") == b"oxsc"


def test_a_folder_in_place_of_the_store_is_refused(output: Path) -> None:
    PointStore.location(output).mkdir()
    with pytest.raises(OutputError, match="no file"):
        PointStore.open(output)
