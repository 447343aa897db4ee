"""Housekeeping: what nothing needs any longer makes room."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.service.settings.config import ServerConfig
    from onnxscape.storage.blob_folder import BlobFolder

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 3600.0

GRACE_SECONDS = 3600.0
"""Blobs stay so long after the last user has let go of them: an order may be on its way."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What housekeeping has deleted.

    Attributes:
        jobs: Finished jobs, with their points and surfaces.
        blob_bytes: Bytes of blobs.
    """

    jobs: int
    blob_bytes: int


def collect(
    config: ServerConfig,
    *,
    folder: BlobFolder,
    catalog: CatalogStore,
    needed: Callable[[str | None], Collection[str]],
    now: float | None = None,
) -> int:
    """Delete blobs that no user and no job refers to.

    Users lose what they have not used for long, unless their catalog or a job of theirs refers
    to it.

    Args:
        config: How long what is kept.
        folder: The bytes.
        catalog: Who has which.
        needed: Returns the blobs that the jobs of a user refer to; of None, those of all jobs.
        now: Unix time, if not the present one.

    Returns:
        Bytes that have become free.
    """
    now = time.time() if now is None else now
    of_jobs = functools.cache(needed)
    for user, sha256 in catalog.grants.stale(now - config.keep_blobs):
        if catalog.grants.release(user, sha256, needed=of_jobs(user)):
            folder.touch(sha256)
    before = now - GRACE_SECONDS
    return folder.collect(
        lambda: catalog.grants.needed() | set(needed(None)),
        before=before,
        uploads_before=now - config.keep_uploads,
    )


async def keep_house(
    clean: Callable[[], Awaitable[Cleaned]], *, every: float = _EVERY_SECONDS
) -> None:
    """Delete what is not needed, now and then, until cancelled.

    Args:
        clean: Does it.
        every: Seconds between two times.
    """
    while True:
        try:
            went = await clean()
            if went.jobs or went.blob_bytes:
                _log.info("cleaned up", extra=asdict(went))
        except Exception:  # noqa: BLE001 - the next time may go well, and nobody else cleans
            _log.exception("cleaning up failed")
        await asyncio.sleep(every)
