"""The configuration of a server, and the quotas of its users."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_GIB = 1 << 30
_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UserQuota:
    """What a user may use.

    Attributes:
        jobs: Jobs that are not finished.
        kept_jobs: Jobs that are kept, finished or not.
        watchers: Streams of WatchJob at once.
        blob_bytes: Bytes of blobs.
        device_seconds: Time of devices in any 24 hours.
        weight: Share of devices when others wait, relative to theirs.
    """

    jobs: int = 20
    kept_jobs: int = 1000
    watchers: int = 20
    blob_bytes: int = 20 * _GIB
    device_seconds: float = _DAY
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All settings of a server.

    Each has its row in `settings.loading.SETTINGS`: how it is read, and what it means.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    port_file: Path | None = None
    http_port: int | None = None
    http_host: str = "127.0.0.1"
    http_insecure: bool = False
    data_dir: Path = Path("onnxscape-server")
    log_format: str = "text"
    log_level: str = "info"
    drain_seconds: float = 30.0

    auth: str = "none"
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None

    slots: tuple[str, ...] = ("auto",)
    threads: int = 1
    niceness: int = 10
    loaded_jobs: int = 2

    blob_bytes: int = 4 * _GIB
    grid_points: int = 1_000_000
    model_nodes: int = 100_000
    worker_memory: int = 8 * _GIB
    job_device_seconds: float = _DAY
    unfinished_jobs: int = 1000
    loading_seconds: float = 600.0
    point_seconds: float = 3600.0
    reading_seconds: int = 120
    reading_memory: int = 8 * _GIB
    readers: int = 1
    calls: int = 1000
    calls_per_user: int = 100
    free_kept: int = _GIB

    quota_jobs: int = 20
    quota_kept_jobs: int = 1000
    quota_watchers: int = 20
    quota_blob_bytes: int = 20 * _GIB
    quota_device_seconds: float = _DAY
    quota_weight: float = 1.0
    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    half_life: float = 4 * 3600.0
    lease_seconds: float = 30.0

    data: tuple[str, ...] = ("digits",)
    cache_dir: Path | None = None
    data_files: Mapping[str, Path] = field(default_factory=dict)
    models: Mapping[str, Path] = field(default_factory=dict)

    keep_jobs: float = 0.0
    keep_blobs: float = 14 * _DAY
    keep_uploads: float = _DAY

    def quota_of(self, user: str) -> UserQuota:
        """Return what a user may use.

        Args:
            user: Who.

        Returns:
            The user's own quotas where there are any, else those of everybody.
        """
        everybody = {
            "jobs": self.quota_jobs,
            "kept_jobs": self.quota_kept_jobs,
            "watchers": self.quota_watchers,
            "blob_bytes": self.quota_blob_bytes,
            "device_seconds": self.quota_device_seconds,
            "weight": self.quota_weight,
        }
        return UserQuota(**(everybody | dict(self.users.get(user, {}))))
