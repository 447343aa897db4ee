"""The server: all parts put together, started, and taken down so that nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from onnxscape.files.atomic import write_atomically
from onnxscape.service.access.authentication import AuthInterceptor
from onnxscape.service.access.call_limits import CallLimits
from onnxscape.service.answers.status import StatusInterceptor
from onnxscape.service.catalog.housekeeping import keep_house
from onnxscape.service.catalog.offers import offer
from onnxscape.service.data_folder import lock_folder
from onnxscape.service.listening import listen, refuse_taken, shown
from onnxscape.service.monitoring.metrics import ServerMetrics
from onnxscape.service.monitoring.observation import ObservingInterceptor
from onnxscape.service.monitoring.operations import Operations
from onnxscape.service.parts import Parts
from onnxscape.service.server_service import MESSAGE_BYTES
from onnxscape.service.settings.exposure import check_exposure
from onnxscape.v1 import blobs_pb2, catalog_pb2, jobs_pb2, server_pb2
from onnxscape.v1 import blobs_pb2_grpc as blobs_grpc
from onnxscape.v1 import catalog_pb2_grpc as catalog_grpc
from onnxscape.v1 import jobs_pb2_grpc as jobs_grpc
from onnxscape.v1 import server_pb2_grpc as server_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from onnxscape.service.settings.config import ServerConfig

_log = logging.getLogger(__name__)

_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (blobs_pb2, "BlobService"),
        (catalog_pb2, "CatalogService"),
        (jobs_pb2, "JobService"),
        (server_pb2, "ServerService"),
    )
)

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.max_concurrent_streams", 200),  # of a connection
    # A second server on the same port would get some of the calls, instead of an error.
    ("grpc.so_reuseport", 0),
    # Clients that are gone are found out within two minutes; those who ping more often than
    # every ten seconds are sent away.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)

_STOP_SECONDS = 2.0
"""For calls that are still under way at the end; streams were told before."""

_SWITCH_SECONDS = 0.0005
"""In which a thread gives way to others: a call changes threads several times, and would wait
for ten times as long each time while other calls compute."""

_LOOK_SECONDS = 0.1
"""Between looks at what is still under way."""


class Server:
    """One server on one folder; an async context manager.

    Attributes:
        port: Where it listens.
        address: Likewise, as HOST:PORT.
        resumed: Jobs of before that it goes on with.
        http_address: Of its HTTP side; None if it has none.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Take a configuration; nothing is opened yet.

        Args:
            config: All settings.

        Raises:
            UsageError: If it would be open to strangers by mistake.
        """
        check_exposure(config)
        self._config = config
        self._stack = contextlib.AsyncExitStack()
        self._trouble: str | None = "the server starts"
        self._health = health.aio.HealthServicer()
        self._limits = CallLimits(of_user=config.calls_per_user)
        self.port = 0
        self.resumed = 0
        self.address = ""
        self.http_address: str | None = None

    async def __aenter__(self) -> Self:
        """Start: open the folder, go on with its jobs, listen.

        Returns:
            This server.

        Raises:
            UsageError: If the folder or an address is in use, or something offered is amiss.
            OutputError: If the folder cannot be used.
            StorageError: If its disk fails.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop at once; what is not stored is computed again after the next start."""
        await self._stack.aclose()

    async def drain(self) -> None:
        """Go down: take no orders, tell watchers, let points and transfers end, then stop."""
        self._trouble = "the server is going down"
        self._limits.draining = True
        _log.info("draining", extra={"seconds": self._config.drain_seconds})
        await self._health.enter_graceful_shutdown()
        parts, seconds = self._parts, self._config.drain_seconds
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        parts.jobs.drain()
        await parts.coordinator.drain(seconds)
        # Uploads and fetches may come to their end as well; watchers need not have read all.
        while self._limits.of_users > parts.jobs.watchers.total and loop.time() < end:
            await asyncio.sleep(_LOOK_SECONDS)
        await self._server.stop(_STOP_SECONDS)

    async def _start(self) -> None:
        config, stack = self._config, self._stack
        refuse_taken(config)
        lock_folder(config.data_dir, stack)
        parts = self._parts = Parts.open(config, stack)
        metrics = ServerMetrics(parts.reading)
        if config.http_port is not None:
            operations = Operations(
                metrics,
                ready=lambda: self._trouble or _told(parts.coordinator.trouble),
                host=config.http_host,
                port=config.http_port,
            )
            stack.push_async_callback(asyncio.to_thread, operations.close)
            self.http_address = operations.address
        await offer(config, folder=parts.folder, catalog=parts.catalog, reader=parts.validator)
        stack.push_async_callback(parts.coordinator.close)
        self.resumed = await parts.coordinator.start()
        stack.push_async_callback(parts.close)
        self._server = self._assembled(metrics)
        stack.push_async_callback(self._server.stop, 0)
        self.port = listen(self._server, config)
        self.address = f"{shown(config.host)}:{self.port}"
        await self._server.start()
        for name in ("", *_SERVICES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        cleaning = asyncio.create_task(keep_house(parts.clean), name="housekeeping")
        stack.push_async_callback(_ended, cleaning)
        if config.port_file is not None:
            write_atomically(config.port_file, f"{self.port}\n".encode())
        self._trouble = None

    def _assembled(self, metrics: ServerMetrics) -> grpc.aio.Server:
        parts = self._parts
        server = grpc.aio.server(
            interceptors=(
                ObservingInterceptor(metrics),
                StatusInterceptor(),
                AuthInterceptor(parts.authenticator, limits=self._limits),
            ),
            options=_OPTIONS,
            maximum_concurrent_rpcs=self._config.calls,
        )
        for add, servicer in (
            (blobs_grpc.add_BlobServiceServicer_to_server, parts.blobs),
            (catalog_grpc.add_CatalogServiceServicer_to_server, parts.models),
            (jobs_grpc.add_JobServiceServicer_to_server, parts.jobs),
            (server_grpc.add_ServerServiceServicer_to_server, parts.about),
        ):
            add(servicer, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server


async def run_server(config: ServerConfig, announce: Callable[[str], None]) -> None:
    """Run a server until the process is asked to end.

    The first signal drains it, another one stops it at once.

    Args:
        config: All settings.
        announce: Told in one line where it listens.

    Raises:
        UsageError: If the settings do not go together, or something is in use.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    async with Server(config) as server:
        gc.collect()
        gc.freeze()  # what the modules hold need not be looked through while calls wait
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.put_nowait, number)
        if server.http_address is not None:
            announce(f"healthz, readyz and metrics on {server.http_address}")
        announce(f"listening on {server.address}")
        if server.resumed:
            jobs = "job" if server.resumed == 1 else "jobs"
            announce(f"going on with {server.resumed} unfinished {jobs}")
        await signals.get()
        draining = asyncio.create_task(server.drain())
        hurry = asyncio.create_task(signals.get())
        await asyncio.wait([draining, hurry], return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not draining.done():
            draining.cancel()
            await asyncio.wait([draining])
        elif draining.exception() is not None:
            await draining


def _told(trouble: str | None) -> str | None:
    """Return what strangers may know of trouble: its text, which may name files, is logged."""
    if trouble is None:
        return None
    _log.warning("not ready", extra={"trouble": trouble})
    return "the server cannot store anything now; its log says why"


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
