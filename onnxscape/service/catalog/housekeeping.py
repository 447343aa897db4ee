"""Housekeeping: blobs that nothing needs any longer make room."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.service.settings.config import ServerConfig
    from onnxscape.storage.blob_folder import BlobFolder

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 3600.0

GRACE_SECONDS = 3600.0
"""Blobs stay so long after the last user has let go of them: an order may be on its way."""


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


async def keep_house(clean: Callable[[], int], *, every: float = _EVERY_SECONDS) -> None:
    """Collect what is not needed, now and then, until cancelled.

    Args:
        clean: Does it; returns the bytes that have become free.
        every: Seconds between two times.
    """
    while True:
        try:
            freed = await asyncio.to_thread(clean)
            if freed:
                _log.info("blobs collected", extra={"bytes": freed})
        except Exception:  # noqa: BLE001 - the next time may go well, and nobody else cleans
            _log.exception("collecting blobs failed")
        await asyncio.sleep(every)
