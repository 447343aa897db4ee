"""The tables of the catalog's database: who has which blobs, models and data; who may call."""

from __future__ import annotations

from onnxscape.storage.database import Schema

SCHEMA = Schema(
    what="catalog",
    application_id=0x6F786361,  # `oxca`
    version=1,
    tables="""
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
    created REAL NOT NULL, expires REAL, revoked REAL, used REAL)
""",
)
