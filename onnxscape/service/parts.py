"""The parts of a server, made from its configuration."""

from __future__ import annotations

import asyncio
import functools
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from onnxscape.jobs.configuration import CoordinatorConfig
from onnxscape.jobs.coordinator import Coordinator
from onnxscape.jobs.executor import WorkerLimits
from onnxscape.jobs.failpoints import reach
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.local_workers import LocalExecutor
from onnxscape.jobs.scheduler import SchedulerConfig
from onnxscape.jobs.validation import ValidationLimits, Validator
from onnxscape.service.access.authentication import (
    CertificateAuthenticator,
    LocalAuthenticator,
    TokenAuthenticator,
)
from onnxscape.service.access.tokens import TokenStore
from onnxscape.service.catalog.blob_service import BlobServicer
from onnxscape.service.catalog.catalog_service import CatalogServicer
from onnxscape.service.catalog.housekeeping import Cleaned, collect
from onnxscape.service.catalog.store import CatalogStore
from onnxscape.service.catalog.tables import SCHEMA
from onnxscape.service.jobs.job_service import JobServicer
from onnxscape.service.monitoring.metrics import Reading
from onnxscape.service.server_service import ServerServicer
from onnxscape.service.settings.slots import device_messages, kinds_of, slots_of
from onnxscape.storage.blob_folder import BlobFolder
from onnxscape.storage.database import Database

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence

    from onnxscape.jobs.executor import Slot
    from onnxscape.service.access.authentication import Authenticator
    from onnxscape.service.settings.config import ServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a server consists of.

    Attributes:
        config: All settings.
        store: The jobs.
        folder: The blobs.
        catalog: What users have.
        validator: Reads what strangers wrote.
        executor: Computes.
        coordinator: Has jobs computed.
        authenticator: Knows callers.
        blobs: Answers for blobs.
        models: Answers for models and data.
        jobs: Answers for jobs.
        about: Answers for the server.
    """

    config: ServerConfig
    store: JobStore
    folder: BlobFolder
    catalog: CatalogStore
    validator: Validator
    executor: LocalExecutor
    coordinator: Coordinator
    authenticator: Authenticator
    blobs: BlobServicer
    models: CatalogServicer
    jobs: JobServicer
    about: ServerServicer

    @classmethod
    def open(cls, config: ServerConfig, stack: contextlib.AsyncExitStack) -> Self:
        """Make all parts; none of them is started.

        Args:
            config: All settings.
            stack: Told what to close.

        Returns:
            The parts.

        Raises:
            UsageError: If a setting means nothing.
            OutputError: If the folder cannot be used.
        """
        slots = slots_of(config.slots)
        store = stack.enter_context(JobStore.open(config.data_dir / "jobs.sqlite"))
        database = stack.enter_context(
            Database.open(config.data_dir / "catalog.sqlite", SCHEMA)
        )
        folder = BlobFolder(
            config.data_dir / "blobs",
            free_kept=config.free_kept,
            before_rename=functools.partial(reach, "upload.before_rename"),
        )
        folder.create()
        catalog = CatalogStore(database)
        validator = _validator(config, slots, folder)
        stack.push_async_callback(validator.close)
        executor = _executor(config, slots, folder)
        _weigh(config, store)
        coordinator = Coordinator(
            store,
            executor,
            surfaces=config.data_dir / "surfaces",
            config=CoordinatorConfig(
                turns=SchedulerConfig(half_life=config.half_life),
                lease_seconds=config.lease_seconds,
            ),
        )
        jobs = JobServicer(
            store=store,
            coordinator=coordinator,
            validator=validator,
            catalog=catalog,
            config=config,
            devices=kinds_of(slots),
        )
        return cls(
            config=config,
            store=store,
            folder=folder,
            catalog=catalog,
            validator=validator,
            executor=executor,
            coordinator=coordinator,
            authenticator=_authenticator(config, database),
            blobs=BlobServicer(folder=folder, catalog=catalog, config=config),
            models=CatalogServicer(
                folder=folder,
                catalog=catalog,
                reader=validator,
                needed=store.referenced_blobs,
            ),
            jobs=jobs,
            about=ServerServicer(
                config=config,
                store=store,
                catalog=catalog,
                devices=device_messages(slots, threads=config.threads),
                watchers=jobs.watchers.of,
            ),
        )

    async def close(self) -> None:
        """Wait for what calls have left behind; no call is under way any more."""
        await self.jobs.close()
        self.blobs.close()

    async def clean(self) -> Cleaned:
        """Delete jobs whose time is over, and blobs that nothing needs.

        Returns:
            What went.
        """
        freed = await asyncio.to_thread(  # first: a full disk may need it for all else
            collect,
            self.config,
            folder=self.folder,
            catalog=self.catalog,
            needed=self.store.referenced_blobs,
        )
        keep = self.config.keep_jobs
        jobs = await self.jobs.expire(time.time() - keep) if keep else 0
        return Cleaned(jobs=jobs, blob_bytes=freed)

    def reading(self) -> Reading:
        """Return what the parts know now, for monitors; may be called by any thread."""
        tally, counters = self.coordinator.tally, self.executor.counters
        return Reading(
            jobs=self.store.counts_by_state(),
            points=tally.points,
            points_failed=tally.points_failed,
            device_seconds=tally.device_seconds,
            jobs_begun=tally.jobs_begun,
            jobs_ended=dict(tally.jobs_ended),
            queue_seconds=tally.queue_seconds,
            leases=tally.leases,
            leases_lost=dict(tally.lost),
            workers_started=counters.started,
            workers_lost=dict(counters.lost),
            slots=len(self.executor.slots),
            slots_busy=self.coordinator.leases_under_way,
            watchers=self.jobs.watchers.total,
            blob_bytes=self.catalog.grants.stored(),
            disk_free_bytes=shutil.disk_usage(self.config.data_dir).free,
            draining=self.coordinator.draining,
        )


def _validator(config: ServerConfig, slots: Sequence[Slot], folder: BlobFolder) -> Validator:
    return Validator(
        folder.root,
        config.cache_dir,
        limits=ValidationLimits(
            seconds=config.reading_seconds,
            memory=config.reading_memory,
            threads=config.threads,
            model_nodes=config.model_nodes,
            niceness=config.niceness,
        ),
        parallel=config.readers,
        devices=sorted(kinds_of(slots), reverse=True),  # the faster one first
        spare=True,
    )


def _executor(
    config: ServerConfig, slots: Sequence[Slot], folder: BlobFolder
) -> LocalExecutor:
    return LocalExecutor(
        slots,
        blobs=folder.root,
        data_dir=config.cache_dir,
        limits=WorkerLimits(
            memory=config.worker_memory,
            loading_seconds=config.loading_seconds,
            point_seconds=config.point_seconds,
            threads=config.threads,
            niceness=config.niceness,
            cache=config.loaded_jobs,
        ),
    )


def _authenticator(config: ServerConfig, database: Database) -> Authenticator:
    match config.auth:
        case "token":
            return TokenAuthenticator(TokenStore(database))
        case "mtls":
            return CertificateAuthenticator()
        case _:
            return LocalAuthenticator()


def _weigh(config: ServerConfig, store: JobStore) -> None:
    """Give users the weights of the configuration; 1 is everybody's."""
    for user in {*config.users, *store.weights()}:
        store.set_weight(user, config.quota_of(user).weight / config.quota_weight)
