"""The live store: every finished point is on the disk as soon as it is put there."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from onnxscape.errors import (
    SpecConflictError,
    StorageError,
    SurfaceFileError,
)
from onnxscape.files.closing import Closing
from onnxscape.files.location import real_path
from onnxscape.files.reason import reason
from onnxscape.storage.recorded import (
    plan_from_json,
    provenance_from_json,
    provenance_to_json,
    spec_from_json,
)
from onnxscape.storage.sqlite_file import (
    connect,
    damage,
    delete,
    discard,
    transaction,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnxscape.core.grid import Point
    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec


class PointStore(Closing):
    """The points of one landscape while it is being computed, in a SQLite file.

    Each `put` is one durable transaction: after it returns, the point survives a kill and a
    power cut. Other processes may read at any time; that only one writes is the business of
    `WriterLock`. Made by `PointStore.open`.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._names: dict[tuple[str, ...], int] = {}

    @staticmethod
    def location(output: Path, store_dir: Path | None = None) -> Path:
        """Return where the points of an output are kept.

        Args:
            output: The surface file to be.
            store_dir: Folder for the points, if not beside the output: a fast local disk, say.

        Returns:
            `STEM.h5.points.sqlite` beside the output; in `store_dir` a name that also tells
            apart outputs of one name in several folders.

        Raises:
            OutputError: If the output's path is no path.
        """
        target = real_path(output)
        if store_dir is None:
            return target.with_name(f"{target.name}.points.sqlite")
        mark = hashlib.sha256(os.fsencode(target)).hexdigest()[:12]
        return real_path(store_dir) / f"{target.name}.{mark}.points.sqlite"

    @classmethod
    def open(
        cls, output: Path, *, store_dir: Path | None = None, restart: bool = False
    ) -> Self:
        """Open the points of an output; make an empty store if there are none.

        Args:
            output: The surface file to be.
            store_dir: Folder for the points, if not beside the output.
            restart: Throw away what is there first, damaged or not.

        Returns:
            The store.

        Raises:
            OutputError: If the place cannot be written.
            OutputBusyError: If another process holds the file for itself.
            SurfaceFileError: If the file there is damaged, or not ours.
        """
        path = cls.location(output, store_dir)
        if restart:
            discard(path)
        return cls(connect(path), path)

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._path

    @property
    def spec(self) -> EvalSpec | None:
        """The spec the points belong to; None before `begin`."""
        return spec_from_json(self._meta("spec"), self._path)

    @property
    def plan(self) -> Plan | None:
        """The plan the points are computed by; None before `begin`."""
        return plan_from_json(self._meta("plan"), self._path)

    @property
    def provenance(self) -> dict[str, Any]:
        """What `begin` was told about the run; empty before."""
        return provenance_from_json(self._meta("provenance"), self._path)

    @property
    def count(self) -> int:
        """Number of points stored, a center off the grid included."""
        with translated(self._path):
            query = self._connection.execute("SELECT count(*) FROM points")
            return int(query.fetchone()[0])

    def begin(self, spec: EvalSpec, plan: Plan, provenance: Mapping[str, Any]) -> None:
        """Record what the points to come belong to.

        Beginning again with the same spec and plan changes nothing, the provenance neither.

        Args:
            spec: What defines the numbers.
            plan: What defines their bits.
            provenance: For people: names, versions, machine, times; plain values.

        Raises:
            SpecConflictError: If the store holds another spec or plan.
            StorageError: If it could not be written.
            SurfaceFileError: If the stored spec or plan is damaged.
        """
        stored_spec, stored_plan = self.spec, self.plan
        if stored_spec is not None and stored_plan is not None:
            differences = stored_spec.differences(spec) + stored_plan.differences(plan)
            if differences:
                raise SpecConflictError(
                    f"{self._path} holds points of another landscape: "
                    f"{', '.join(differences)}; use the same options, "
                    "--restart to compute anew, or another --out"
                )
            return
        rows = {
            "spec": spec.to_json(),
            "plan": plan.to_json(),
            "provenance": provenance_to_json(provenance),
        }
        with translated(self._path), transaction(self._connection):
            self._connection.executemany(
                'INSERT OR REPLACE INTO meta ("key", "value") VALUES (?, ?)', rows.items()
            )

    def replan(self, plan: Plan) -> None:
        """Record that the points to come have another plan than those before.

        Args:
            plan: What defines their bits.

        Raises:
            StorageError: If it could not be written.
        """
        with translated(self._path), transaction(self._connection):
            self._connection.execute(
                'INSERT OR REPLACE INTO meta ("key", "value") VALUES (?, ?)',
                ("plan", plan.to_json()),
            )

    def put(self, point: Point, metrics: Mapping[str, float]) -> None:
        """Store one point for good; a point that is already there stays as it is.

        Args:
            point: Where; the center off the grid has row and column -1.
            metrics: Metric name to value; NaN and infinities are kept to the bit.

        Raises:
            StorageError: If it could not be written; the points before it are kept.
        """
        blob = struct.pack(f"<{len(metrics)}d", *metrics.values())
        with translated(self._path):
            self._connection.execute(
                'INSERT INTO points ("row", "column", alpha, beta, metrics, "values")'
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    point.row,
                    point.column,
                    point.alpha,
                    point.beta,
                    self._names_id(tuple(metrics)),
                    blob,
                ),
            )

    def results(self) -> dict[tuple[int, int], Mapping[str, float]]:
        """Return all points, in the order in which they were stored.

        Returns:
            (row, column) to the metrics as they were put; (-1, -1) is a center off the grid.

        Raises:
            SurfaceFileError: If the file is damaged.
        """
        with translated(self._path):
            try:
                return self._read_points()
            except (KeyError, ValueError, TypeError, struct.error, RecursionError) as error:
                raise SurfaceFileError(damage(self._path, error)) from error

    def clear(self) -> None:
        """Forget everything, as for `--restart`.

        Raises:
            StorageError: If it could not be written.
        """
        with translated(self._path), transaction(self._connection):
            for table in ("points", "metrics", "meta"):
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names
        self._names.clear()

    def close(self) -> None:
        """Close the file; the points stay. May be called twice."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def remove(self) -> None:
        """Close and delete the file, once the surface is written.

        Raises:
            StorageError: If it could not be deleted.
        """
        self.close()
        try:
            delete(self._path)
        except OSError as error:
            raise StorageError(
                f"cannot remove {self._path}: {reason(error)}; remove it by hand"
            ) from error

    def _meta(self, key: str) -> str | None:
        with translated(self._path):
            query = 'SELECT "value" FROM meta WHERE "key" = ?'
            found = self._connection.execute(query, (key,)).fetchone()
        return None if found is None else str(found[0])

    def _names_id(self, names: tuple[str, ...]) -> int:
        """Return the number that stands for a set of metric names, in their order."""
        if names not in self._names:
            text = json.dumps(names)
            self._connection.execute(
                "INSERT INTO metrics (names) VALUES (?) ON CONFLICT DO NOTHING", (text,)
            )
            query = self._connection.execute("SELECT id FROM metrics WHERE names = ?", (text,))
            self._names[names] = int(query.fetchone()[0])
        return self._names[names]

    def _read_points(self) -> dict[tuple[int, int], Mapping[str, float]]:
        names = {
            number: tuple(map(str, json.loads(text)))
            for number, text in self._connection.execute("SELECT id, names FROM metrics")
        }
        query = 'SELECT "row", "column", metrics, "values" FROM points ORDER BY rowid'
        found: dict[tuple[int, int], Mapping[str, float]] = {}
        for row, column, number, blob in self._connection.execute(query):
            keys = names[number]
            values = struct.unpack(f"<{len(keys)}d", blob)
            found[int(row), int(column)] = dict(zip(keys, values, strict=True))
        return found
