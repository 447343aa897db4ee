"""What users have, models and data made of their blobs, and what all users may use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from onnxscape.service.catalog.blob_grants import BlobGrants
from onnxscape.service.catalog.records import (
    DATA_SETS,
    LARGEST_AUDIT,
    MODELS,
    DataSetRecord,
    ModelRecord,
    data_set_of,
    model_of,
)
from onnxscape.service.catalog.shelf import Shelf

if TYPE_CHECKING:
    from onnxscape.storage.database import Database


class CatalogStore:
    """The catalog. Each method is for one user, who sees nothing of the others'.

    The methods may be called from several threads; they wait for the disk.

    Attributes:
        grants: The blobs that users have.
        models: The models.
        data_sets: The data sets.
    """

    def __init__(self, database: Database) -> None:
        self.grants = BlobGrants(database)
        self.models = ModelShelf(database)
        self.data_sets = DataSetShelf(database)


class ModelShelf(Shelf[ModelRecord]):
    """The models, with their audits."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, table="models", select=MODELS, read=model_of)

    def put(self, record: ModelRecord, *, audit: str) -> ModelRecord:
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
        kept = self.own(record.user, record.id)
        return record if kept is None else kept

    def rename(
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
        kept = self.own(user, identifier)
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


class DataSetShelf(Shelf[DataSetRecord]):
    """The data sets."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, table="data_sets", select=DATA_SETS, read=data_set_of)

    def put(self, record: DataSetRecord) -> DataSetRecord:
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
        kept = self.own(record.user, record.id)
        return record if kept is None else kept
