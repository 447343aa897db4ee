"""What a server offers to all of its users: models and data of its configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from onnxscape.data import list_datasets
from onnxscape.errors import OnnxscapeError, UsageError
from onnxscape.jobs.order import DataRef
from onnxscape.service.catalog.records import (
    EVERYBODY,
    ArrayEntry,
    DataSetRecord,
    ModelRecord,
)
from onnxscape.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnxscape.data import DatasetInfo
    from onnxscape.service.catalog.reader import Reader
    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.service.settings.config import ServerConfig
    from onnxscape.storage.blob_folder import BlobFolder


async def offer(
    config: ServerConfig, *, folder: BlobFolder, catalog: CatalogStore, reader: Reader
) -> None:
    """Make the catalog hold what the configuration offers, and nothing else, for everybody.

    Args:
        config: What is offered.
        folder: Where the bytes go.
        catalog: Where it is registered.
        reader: Reads models and data.

    Raises:
        UsageError: If something of it is not there, or cannot be read.
    """
    clash = set(config.data) & set(config.data_files)
    if clash:
        raise UsageError(f"data and data_files both offer {min(clash)!r}; rename one of them")
    for record in catalog.models.page(EVERYBODY, limit=1 << 30):
        if record.id not in config.models:
            catalog.models.delete(EVERYBODY, record.id)
    for data_set in catalog.data_sets.page(EVERYBODY, limit=1 << 30):
        if data_set.id not in {*config.data, *config.data_files}:
            catalog.data_sets.delete(EVERYBODY, data_set.id)
    for name, path in config.models.items():
        await _offer_model(name, path, folder, catalog, reader)
    for name, path in config.data_files.items():
        await _offer_file(name, path, folder, catalog, reader)
    known = {info.name: info for info in list_datasets(data_dir=config.cache_dir)}
    for name in config.data:
        catalog.data_sets.put(_named(name, known, config.cache_dir))


async def _offer_model(
    name: str, path: Path, folder: BlobFolder, catalog: CatalogStore, reader: Reader
) -> None:
    sha256, size = folder.add(path)
    kept = catalog.models.own(EVERYBODY, name)
    if kept is not None and (kept.sha256, kept.version) == (sha256, __version__):
        return
    try:
        facts = await reader.audit_model(sha256)
    except OnnxscapeError as error:
        raise UsageError(f"cannot offer the model {name} of {path}: {error}") from error
    catalog.models.put(
        ModelRecord(
            id=name,
            user=EVERYBODY,
            display_name=name,
            sha256=sha256,
            size=size,
            created=time.time(),
            parameters=facts.parameters,
            moved=facts.moved,
            version=__version__,
        ),
        audit=facts.audit_json,
    )


async def _offer_file(
    name: str, path: Path, folder: BlobFolder, catalog: CatalogStore, reader: Reader
) -> None:
    sha256, size = folder.add(path)
    kept = catalog.data_sets.own(EVERYBODY, name)
    if kept is not None and kept.sha256 == sha256:
        return
    try:
        arrays = await reader.inspect_data(sha256, DataRef(name=name, blob=sha256))
    except OnnxscapeError as error:
        raise UsageError(f"cannot offer the data {name} of {path}: {error}") from error
    catalog.data_sets.put(
        DataSetRecord(
            id=name,
            user=EVERYBODY,
            display_name=name,
            sha256=sha256,
            size=size,
            created=time.time(),
            arrays=tuple(ArrayEntry(n, dtype, tuple(shape)) for n, dtype, shape in arrays),
        )
    )


def _named(
    name: str, known: Mapping[str, DatasetInfo], cache_dir: Path | None
) -> DataSetRecord:
    info = known.get(name)
    if info is None:
        raise UsageError(
            f"expected data known by name ({', '.join(known)}), got {name!r}; offer files by "
            "data_files"
        )
    if not info.here:
        where = "" if cache_dir is None else f" --data-dir {cache_dir}"
        raise UsageError(
            f"the data {name} is not here; get it by `onnxscape data get {name}{where}`, or "
            "offer other data"
        )
    return DataSetRecord(
        id=name,
        user=EVERYBODY,
        display_name=info.description,
        sha256=None,
        size=0,
        created=time.time(),
        preprocessing=info.preprocessing.as_json(),
        splits=tuple(info.samples),
    )
