"""What users have had of the devices, kept by the minute, and what share they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxscape.storage.database import Database

_KEPT_HALF_LIVES = 20
"""What is older counts for less than a millionth."""


class UsageTable:
    """Device-seconds and weights of all users.

    Args:
        database: The jobs' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def charge(self, user: str, job_id: str, seconds: float, now: float) -> None:
        """Add time of a device to what a user and a job have had.

        It is no change of the job: its revision stays.

        Args:
            user: Who.
            job_id: For which job, which may be gone by now.
            seconds: How long.
            now: Unix seconds.

        Raises:
            StorageError: If the disk fails; nothing is changed then.
        """
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO charges (user, minute, seconds) VALUES (?, ?, ?)"
                " ON CONFLICT (user, minute)"
                " DO UPDATE SET seconds = seconds + excluded.seconds",
                (user, int(now // 60), seconds),
            )
            connection.execute(
                "UPDATE jobs SET device_seconds = device_seconds + ? WHERE id = ?",
                (seconds, job_id),
            )

    def usage_since(self, user: str, since: float) -> float:
        """Return the device-seconds of a user since a moment.

        Args:
            user: Who.
            since: Unix seconds; rounded down to the minute.

        Returns:
            The seconds.
        """
        query = "SELECT total(seconds) FROM charges WHERE user = ? AND minute >= ?"
        return float(self._database.rows(query, (user, int(since // 60)))[0][0])

    def decayed_usage(self, half_life: float, now: float) -> dict[str, float]:
        """Return the device-seconds of all users, older ones counting less.

        Args:
            half_life: Seconds after which a second counts half.
            now: Unix seconds.

        Returns:
            User to decayed seconds; users without any are left out.
        """
        oldest = int((now - _KEPT_HALF_LIVES * half_life) // 60)
        query = "SELECT user, minute, seconds FROM charges WHERE minute >= ?"
        found: dict[str, float] = {}
        for user, minute, seconds in self._database.rows(query, (oldest,)):
            age = max(0.0, now - 60.0 * minute)
            found[user] = found.get(user, 0.0) + seconds * 0.5 ** (age / half_life)
        return found

    def set_weight(self, user: str, weight: float) -> None:
        """Set a user's share of the devices, relative to others'.

        Args:
            user: Who.
            weight: 1 is usual.

        Raises:
            StorageError: If the disk fails; nothing is changed then.
        """
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO weights (user, weight) VALUES (?, ?)"
                " ON CONFLICT (user) DO UPDATE SET weight = excluded.weight",
                (user, weight),
            )

    def weights(self) -> dict[str, float]:
        """Return the shares that were set, by user."""
        return dict(self._database.rows("SELECT user, weight FROM weights"))
