"""What is kept of one kind, models or data: each user's own, and what is for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from onnxscape.service.catalog.records import EVERYBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onnxscape.storage.database import Database

Record = TypeVar("Record")

_PAGE = "user IN (?, ?) AND number < ? ORDER BY number DESC LIMIT ?"


class Shelf(Generic[Record]):
    """Records of one kind, by their user and id. For several threads; waits for the disk."""

    def __init__(
        self,
        database: Database,
        *,
        table: str,
        select: str,
        read: Callable[[Sequence[Any]], Record],
    ) -> None:
        """Use a table.

        Args:
            database: Of the catalog.
            table: Its name.
            select: Begin of a query whose rows `read` takes.
            read: Makes a record of a row.
        """
        self._database = database
        self._table, self._select, self._record_of = table, select, read

    def own(self, user: str, identifier: str) -> Record | None:
        """Return what is the user's own.

        Args:
            user: Who.
            identifier: Its id.

        Returns:
            The record; None if the user has none of that id.
        """
        rows = self._database.rows(f"{self._select}user = ? AND id = ?", (user, identifier))
        return self._record_of(rows[0]) if rows else None

    def get(self, user: str, identifier: str) -> Record | None:
        """Return what a user may use.

        Args:
            user: Who.
            identifier: Its id.

        Returns:
            The user's own, or one for all; None if there is none.
        """
        return self.own(user, identifier) or self.own(EVERYBODY, identifier)

    def page(self, user: str, *, limit: int, before: int | None = None) -> list[Record]:
        """Return what a user may use, the newest first.

        Args:
            user: Who.
            limit: How many at most.
            before: Number of the last one seen.

        Returns:
            The records.
        """
        last = (1 << 62) if before is None else before
        rows = self._database.rows(self._select + _PAGE, (user, EVERYBODY, last, limit))
        return [self._record_of(row) for row in rows]

    def count(self, user: str) -> int:
        """Return how many a user has.

        Args:
            user: Who.

        Returns:
            How many, without those for all.
        """
        query = f"SELECT count(*) FROM {self._table} WHERE user = ?"  # noqa: S608 - our own
        return int(self._database.rows(query, (user,))[0][0])

    def delete(self, user: str, identifier: str) -> bool:
        """Forget what is a user's own.

        Args:
            user: Whose.
            identifier: Its id.

        Returns:
            Whether there was one.
        """
        query = f"DELETE FROM {self._table} WHERE user = ? AND id = ?"  # noqa: S608 - our own
        with self._database.writing() as connection:
            return connection.execute(query, (user, identifier)).rowcount > 0
