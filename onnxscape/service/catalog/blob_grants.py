"""Which blobs a user has: those that this user has written, whoever else has the bytes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnxscape.storage.database import Database

_USED_STEP = 3600.0
"""Seconds between two notes that a blob is in use."""


class BlobGrants:
    """Who has written which blobs.

    The methods may be called from several threads; they wait for the disk.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: str, sha256: str, size: int, *, now: float | None = None) -> None:
        """Note that a user has written a blob.

        Args:
            user: Who.
            sha256: The blob.
            size: Its bytes.
            now: Unix time, if not the present one.
        """
        now = time.time() if now is None else now
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO grants VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET used = excluded.used",
                (user, sha256, size, now, now),
            )

    def size(self, user: str, sha256: str) -> int | None:
        """Return the size of a blob that a user has written; it counts as used now.

        Args:
            user: Who.
            sha256: The blob.

        Returns:
            Bytes; None if this user has not written it.
        """
        return self.sizes(user, [sha256]).get(sha256)

    def sizes(self, user: str, digests: Collection[str]) -> dict[str, int]:
        """Return which of some blobs a user has written; they count as used now.

        Args:
            user: Who.
            digests: sha256 (hex) of each.

        Returns:
            Bytes of each one that the user has written.
        """
        now = time.time()
        marks = ", ".join("?" * len(digests))
        found = self._database.rows(
            f"SELECT sha256, size, used FROM grants WHERE user = ? AND sha256 IN ({marks})",  # noqa: S608 - question marks
            (user, *digests),
        )
        old = [(now, user, sha256) for sha256, _, used in found if used < now - _USED_STEP]
        if old:
            with self._database.writing() as connection:
                connection.executemany(
                    "UPDATE grants SET used = ? WHERE user = ? AND sha256 = ?", old
                )
        return {sha256: size for sha256, size, _ in found}

    def total(self, user: str) -> int:
        """Return the size of all blobs that a user has written.

        Args:
            user: Who.

        Returns:
            Bytes.
        """
        query = "SELECT coalesce(sum(size), 0) FROM grants WHERE user = ?"
        return int(self._database.rows(query, (user,))[0][0])

    def stored(self) -> int:
        """Return the size of all blobs that somebody has, or that all may use.

        Returns:
            Bytes; what several users have counts once.
        """
        query = (
            "SELECT coalesce(sum(size), 0) FROM (SELECT sha256, size FROM grants"
            " UNION SELECT sha256, size FROM models"
            " UNION SELECT sha256, size FROM data_sets WHERE sha256 IS NOT NULL)"
        )
        return int(self._database.rows(query)[0][0])

    def release(
        self, user: str, sha256: str | None, *, needed: Collection[str] = frozenset()
    ) -> bool:
        """Forget that a user has written a blob, unless the user's catalog refers to it.

        Args:
            user: Who.
            sha256: The blob; None for none.
            needed: Blobs that jobs of the user refer to; these are not forgotten either.

        Returns:
            Whether it is forgotten.
        """
        if sha256 is None or sha256 in needed:
            return False
        with self._database.writing() as connection:
            done = connection.execute(
                "DELETE FROM grants WHERE user = ? AND sha256 = ?"
                " AND sha256 NOT IN (SELECT sha256 FROM models WHERE user = ?)"
                " AND sha256 NOT IN"
                " (SELECT sha256 FROM data_sets WHERE user = ? AND sha256 IS NOT NULL)",
                (user, sha256, user, user),
            )
        return done.rowcount > 0

    def stale(self, before: float) -> list[tuple[str, str]]:
        """Return grants that were not used for long.

        Args:
            before: Unix time.

        Returns:
            User and sha256 of each.
        """
        query = "SELECT user, sha256 FROM grants WHERE used < ?"
        return [(user, sha256) for user, sha256 in self._database.rows(query, (before,))]

    def needed(self) -> set[str]:
        """Return all blobs that a user, a model or a data set refers to.

        Returns:
            sha256 (hex) of each.
        """
        query = (
            "SELECT sha256 FROM grants UNION SELECT sha256 FROM models"
            " UNION SELECT sha256 FROM data_sets WHERE sha256 IS NOT NULL"
        )
        return {sha256 for (sha256,) in self._database.rows(query)}
