"""What users have had of the devices, kept by the minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from onnxscape.storage.database import Database

_KEPT_HALF_LIVES = 20
"""What is older counts for less than a millionth."""


def add_charge(connection: sqlite3.Connection, user: str, seconds: float, now: float) -> None:
    """Add to what a user has had, within a transaction.

    Args:
        connection: From `Database.writing`.
        user: Who.
        seconds: Of a device.
        now: Unix seconds.
    """
    connection.execute(
        "INSERT INTO charges (user, minute, seconds) VALUES (?, ?, ?)"
        " ON CONFLICT (user, minute) DO UPDATE SET seconds = seconds + excluded.seconds",
        (user, int(now // 60), seconds),
    )


def usage_since(database: Database, user: str, since: float) -> float:
    """Return the device-seconds of a user.

    Args:
        database: The jobs' database.
        user: Who.
        since: Unix seconds; rounded down to the minute.
    """
    query = "SELECT total(seconds) FROM charges WHERE user = ? AND minute >= ?"
    return float(database.rows(query, (user, int(since // 60)))[0][0])


def decayed_usage(database: Database, half_life: float, now: float) -> dict[str, float]:
    """Return the device-seconds of all users, older ones counting less.

    Args:
        database: The jobs' database.
        half_life: Seconds after which a second counts half.
        now: Unix seconds.

    Returns:
        User to decayed seconds; users without any are left out.
    """
    oldest = int((now - _KEPT_HALF_LIVES * half_life) // 60)
    query = "SELECT user, minute, seconds FROM charges WHERE minute >= ?"
    found: dict[str, float] = {}
    for user, minute, seconds in database.rows(query, (oldest,)):
        age = max(0.0, now - 60.0 * minute)
        found[user] = found.get(user, 0.0) + seconds * 0.5 ** (age / half_life)
    return found
