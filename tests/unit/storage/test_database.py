"""A server's database is read by several at once, and says so when it is closed."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from onnxscape.storage.database import Database, Schema

SCHEMA = Schema(
    what="store of tests", application_id=7, version=1, tables="CREATE TABLE t (x INTEGER)"
)
LONG = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000000) "
    "SELECT count(*) FROM n"
)


@pytest.fixture
def database(tmp_path):
    with Database.open(tmp_path / "t.sqlite", SCHEMA) as made:
        yield made


def test_a_long_answer_does_not_hold_up_a_short_one(database):
    found = []
    slow = threading.Thread(target=lambda: found.append(database.rows(LONG)))
    slow.start()
    assert database.rows("SELECT count(*) FROM t") == [(0,)]
    assert slow.is_alive()
    slow.join()
    assert found == [[(3000000,)]]


def test_who_cannot_wait_is_told_when_all_readers_are_busy(database):
    assert database.rows_now("SELECT count(*) FROM t") == [(0,)]
    taken = [database._idle.get() for _ in database._readers]
    try:
        assert database.rows_now("SELECT count(*) FROM t") is None
    finally:
        for reader in taken:
            database._idle.put(reader)
    assert database.rows_now("SELECT count(*) FROM t") == [(0,)]


def test_all_readers_see_what_was_written(database):
    with database.writing() as connection:
        connection.execute("INSERT INTO t VALUES (3)")
    for _ in range(10):
        assert database.rows("SELECT x FROM t") == [(3,)]


def test_who_reads_a_closed_database_gets_an_error_and_does_not_wait(tmp_path):
    database = Database.open(tmp_path / "t.sqlite", SCHEMA)
    database.close()
    database.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.rows("SELECT x FROM t")
