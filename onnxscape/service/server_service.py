"""ServerService: what the server is, and what the caller may ask of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from onnxscape.service.answers.times import duration
from onnxscape.service.caller import current_user
from onnxscape.service.catalog.blob_service import LARGEST_PIECE
from onnxscape.v1 import server_pb2, server_pb2_grpc
from onnxscape.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc.aio

    from onnxscape.jobs.job_store import JobStore
    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.service.settings.config import ServerConfig

    Context = grpc.aio.ServicerContext[Any, Any]

MESSAGE_BYTES = 4 << 20
"""Of any message."""

_DAY = 86400.0


class ServerServicer(server_pb2_grpc.ServerServiceServicer):
    """Tells of the server."""

    def __init__(
        self,
        *,
        config: ServerConfig,
        store: JobStore,
        catalog: CatalogStore,
        devices: Sequence[server_pb2.Device],
        watchers: Callable[[str], int],
    ) -> None:
        """Tell of its parts.

        Args:
            config: Limits and quotas.
            store: What users have used.
            catalog: What users have.
            devices: The devices.
            watchers: Returns how many jobs a user watches.
        """
        self._config = config
        self._store = store
        self._catalog = catalog
        self._devices = devices
        self._watchers = watchers

    async def GetServerInfo(
        self, request: server_pb2.GetServerInfoRequest, context: Context
    ) -> server_pb2.GetServerInfoResponse:
        """Tell what the server is.

        Args:
            request: Nothing.
            context: The call's.

        Returns:
            Version, limits, devices, and the caller's quota.
        """
        config = self._config
        limits = server_pb2.Limits(
            blob_bytes=config.blob_bytes,
            message_bytes=MESSAGE_BYTES,
            chunk_bytes=LARGEST_PIECE,
            grid_points=config.grid_points,
            model_nodes=config.model_nodes,
            memory_bytes=config.worker_memory,
            job_device_time=duration(config.job_device_seconds),
        )
        quota = await asyncio.to_thread(self._quota, current_user())
        return server_pb2.GetServerInfoResponse(
            version=__version__, limits=limits, devices=self._devices, quota=quota
        )

    def _quota(self, user: str) -> server_pb2.Quota:
        quota = self._config.quota_of(user)
        return server_pb2.Quota(
            user=user,
            active_jobs_limit=quota.jobs,
            active_jobs=self._store.active(user)[0],
            kept_jobs_limit=quota.kept_jobs,
            kept_jobs=self._store.kept_count(user),
            watchers_limit=quota.watchers,
            watchers=self._watchers(user),
            blob_bytes_limit=quota.blob_bytes,
            blob_bytes=self._catalog.grants.total(user),
            device_time_limit=duration(quota.device_seconds),
            device_time=duration(self._store.usage_since(user, time.time() - _DAY)),
            weight=quota.weight,
        )
