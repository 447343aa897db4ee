"""What users have, models and data made of their blobs, and what all users may use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from onnxscape.service.catalog.blob_grants import BlobGrants
from onnxscape.service.catalog.records import (
    DATA_SETS,
    EVERYBODY,
    LARGEST_AUDIT,
    MODELS,
    DataSetRecord,
    ModelRecord,
    data_set_of,
    model_of,
)

if TYPE_CHECKING:
    from onnxscape.storage.database import Database

_PAGE = "user IN (?, ?) AND number < ? ORDER BY number DESC LIMIT ?"


class CatalogStore:
    """The catalog. Each method is for one user, who sees nothing of the others'.

    The methods may be called from several threads; they wait for the disk.

    Attributes:
        grants: The blobs that users have.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.grants = BlobGrants(database)

    def put_model(self, record: ModelRecord, *, audit: str) -> ModelRecord:
        """Keep a model; one with the same id gets a new name and audit.

        Args:
            record: The model.
            audit: Its audit as JSON; one above `LARGEST_AUDIT` is not kept.

        Returns:
            The model as it is kept.
        """
        if len(audit.encode()) > LARGEST_AUDIT:
            audit = ""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO models (user, id, display_name, sha256, size, created,"
                " parameters, moved, audit, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (user, id) DO UPDATE SET display_name = excluded.display_name,"
                " sha256 = excluded.sha256, size = excluded.size,"
                " parameters = excluded.parameters, moved = excluded.moved,"
                " audit = excluded.audit, version = excluded.version",
                (
                    record.user,
                    record.id,
                    record.display_name,
                    record.sha256,
                    record.size,
                    record.created,
                    record.parameters,
                    record.moved,
                    audit,
                    record.version,
                ),
            )
        kept = self.own_model(record.user, record.id)
        return record if kept is None else kept

    def rename_model(
        self, user: str, identifier: str, display_name: str, *, version: str
    ) -> ModelRecord | None:
        """Give a model of a user another name, if its audit is of this version.

        Args:
            user: Whose.
            identifier: Its id.
            display_name: The name; empty to leave it as it is.
            version: Of onnxscape.

        Returns:
            The model; None if there is none of that version.
        """
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE models SET display_name = ?"
                " WHERE user = ? AND id = ? AND version = ? AND ? <> ''",
                (display_name, user, identifier, version, display_name),
            )
        kept = self.own_model(user, identifier)
        return None if kept is None or kept.version != version else kept

    def audit(self, user: str, identifier: str) -> str | None:
        """Return the audit of a model that is the user's own.

        It may be long, so that no other method reads it.

        Args:
            user: Who; empty for a model that is for all.
            identifier: The model's id.

        Returns:
            JSON; None if the user has no such model, or the audit was too long to be kept.
        """
        query = "SELECT audit FROM models WHERE user = ? AND id = ?"
        rows = self._database.rows(query, (user, identifier))
        return rows[0][0] or None if rows else None

    def own_model(self, user: str, identifier: str) -> ModelRecord | None:
        """Return a model that is the user's own.

        Args:
            user: Who.
            identifier: Its id.

        Returns:
            The model; None if the user has none of that id.
        """
        rows = self._database.rows(MODELS + "user = ? AND id = ?", (user, identifier))
        return model_of(rows[0]) if rows else None

    def model(self, user: str, identifier: str) -> ModelRecord | None:
        """Return a model that a user may use.

        Args:
            user: Who.
            identifier: Its id.

        Returns:
            The user's own, or one for all; None if there is none.
        """
        return self.own_model(user, identifier) or self.own_model(EVERYBODY, identifier)

    def models(self, user: str, *, limit: int, before: int | None = None) -> list[ModelRecord]:
        """Return models that a user may use, the newest first.

        Args:
            user: Who.
            limit: How many at most.
            before: Number of the last one seen.

        Returns:
            The models.
        """
        rows = self._database.rows(MODELS + _PAGE, _page(user, limit, before))
        return [model_of(row) for row in rows]

    def count_models(self, user: str) -> int:
        """Return how many models a user has.

        Args:
            user: Who.

        Returns:
            How many, without those for all.
        """
        query = "SELECT count(*) FROM models WHERE user = ?"
        return int(self._database.rows(query, (user,))[0][0])

    def delete_model(self, user: str, identifier: str) -> bool:
        """Forget a model of a user.

        Args:
            user: Whose.
            identifier: Its id.

        Returns:
            Whether there was one.
        """
        with self._database.writing() as connection:
            done = connection.execute(
                "DELETE FROM models WHERE user = ? AND id = ?", (user, identifier)
            )
        return done.rowcount > 0

    def put_data_set(self, record: DataSetRecord) -> DataSetRecord:
        """Keep a data set; one with the same id gets a new name.

        Args:
            record: The data set.

        Returns:
            The data set as it is kept.
        """
        form = {
            "layout": record.layout,
            "preprocessing": record.preprocessing,
            "table": record.table,
        }
        arrays = [[entry.name, entry.dtype, list(entry.shape)] for entry in record.arrays]
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO data_sets (user, id, display_name, sha256, size, created, format,"
                " arrays, splits) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (user, id) DO UPDATE SET display_name = excluded.display_name,"
                " sha256 = excluded.sha256, size = excluded.size, format = excluded.format,"
                " arrays = excluded.arrays, splits = excluded.splits",
                (
                    record.user,
                    record.id,
                    record.display_name,
                    record.sha256,
                    record.size,
                    record.created,
                    json.dumps(form),
                    json.dumps(arrays),
                    json.dumps(record.splits),
                ),
            )
        kept = self.own_data_set(record.user, record.id)
        return record if kept is None else kept

    def own_data_set(self, user: str, identifier: str) -> DataSetRecord | None:
        """Return a data set that is the user's own.

        Args:
            user: Who.
            identifier: Its id.

        Returns:
            The data set; None if the user has none of that id.
        """
        rows = self._database.rows(DATA_SETS + "user = ? AND id = ?", (user, identifier))
        return data_set_of(rows[0]) if rows else None

    def data_set(self, user: str, identifier: str) -> DataSetRecord | None:
        """Return a data set that a user may use.

        Args:
            user: Who.
            identifier: Its id.

        Returns:
            The user's own, or one for all; None if there is none.
        """
        own = self.own_data_set(user, identifier)
        return own or self.own_data_set(EVERYBODY, identifier)

    def data_sets(
        self, user: str, *, limit: int, before: int | None = None
    ) -> list[DataSetRecord]:
        """Return data sets that a user may use, the newest first.

        Args:
            user: Who.
            limit: How many at most.
            before: Number of the last one seen.

        Returns:
            The data sets.
        """
        rows = self._database.rows(DATA_SETS + _PAGE, _page(user, limit, before))
        return [data_set_of(row) for row in rows]

    def count_data_sets(self, user: str) -> int:
        """Return how many data sets a user has.

        Args:
            user: Who.

        Returns:
            How many, without those for all.
        """
        query = "SELECT count(*) FROM data_sets WHERE user = ?"
        return int(self._database.rows(query, (user,))[0][0])

    def delete_data_set(self, user: str, identifier: str) -> bool:
        """Forget a data set of a user.

        Args:
            user: Whose.
            identifier: Its id.

        Returns:
            Whether there was one.
        """
        with self._database.writing() as connection:
            done = connection.execute(
                "DELETE FROM data_sets WHERE user = ? AND id = ?", (user, identifier)
            )
        return done.rowcount > 0


def _page(user: str, limit: int, before: int | None) -> tuple[Any, ...]:
    return (user, EVERYBODY, (1 << 62) if before is None else before, limit)
