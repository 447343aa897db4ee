"""Where a server's configuration comes from: flags, then variables, then a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxscape.errors import UsageError
from onnxscape.files.reason import reason
from onnxscape.service.settings.config import ServerConfig
from onnxscape.service.settings.values import (
    QUOTA_READERS,
    choice,
    integer,
    listed,
    named_paths,
    number,
    path,
    place,
    size,
    switch,
    text,
    user_quotas,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PREFIX = "ONNXSCAPE_"
"""Of the environment variables: `ONNXSCAPE_DATA_DIR`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a field of `ServerConfig` is given.

    Attributes:
        section: Heading it stands under in the help text.
        read: Makes its value of a text, or of what TOML holds; raises ValueError.
        meaning: For the help text.
    """

    section: str
    read: Callable[[Any], Any]
    meaning: str


_SERVER, _WHO, _DEVICES = "Server", "Who may call", "Devices"
_LIMITS, _QUOTAS, _TURNS = "Limits, whoever asks", "Quotas of a user", "Turns"
_OFFERED, _KEPT = "Offered to all users", "What is kept"

SETTINGS: Mapping[str, Setting] = {
    "host": Setting(_SERVER, text, "Address to listen on."),
    "port": Setting(_SERVER, integer(0, 65535), "Port to listen on; 0 for a free one."),
    "port_file": Setting(_SERVER, path, "File to write the port to, once it listens."),
    "http_port": Setting(
        _SERVER,
        integer(0, 65535),
        "Port of /healthz, /readyz and /metrics; 0 for a free one. None of them without.",
    ),
    "http_host": Setting(_SERVER, text, "Address of these."),
    "http_insecure": Setting(
        _SERVER, switch, "Answer HTTP to other machines too, without authentication."
    ),
    "data_dir": Setting(_SERVER, place, "Folder of jobs, blobs and surfaces."),
    "log_format": Setting(_SERVER, choice("text", "json"), "Form of the log: text or json."),
    "log_level": Setting(
        _SERVER,
        choice("debug", "info", "warning", "error"),
        "What is logged: debug, info, warning or error.",
    ),
    "drain_seconds": Setting(
        _SERVER,
        number(0),
        "How long points and transfers under way may take when the server goes down.",
    ),
    "auth": Setting(
        _WHO, choice("none", "token", "mtls"), "How callers are known: none, token or mtls."
    ),
    "insecure": Setting(
        _WHO, switch, "Be open to other machines without auth, or to tokens without TLS."
    ),
    "tls_cert": Setting(_WHO, path, "Certificate of the server (PEM)."),
    "tls_key": Setting(_WHO, path, "Its key (PEM)."),
    "client_ca": Setting(_WHO, path, "Authorities of the clients' certificates (PEM)."),
    "slots": Setting(
        _DEVICES,
        listed,
        "Workers by device, as cpu:2,cuda:0; auto for one on each GPU, or on the CPU.",
    ),
    "threads": Setting(_DEVICES, integer(1), "Threads of a worker on the CPU."),
    "niceness": Setting(_DEVICES, integer(0, 19), "Niceness of workers, and of checks."),
    "loaded_jobs": Setting(_DEVICES, integer(1), "Jobs that a worker keeps loaded."),
    "blob_bytes": Setting(_LIMITS, size, "Largest blob, as 512M or 4GiB."),
    "grid_points": Setting(_LIMITS, integer(1), "Points of a grid."),
    "model_nodes": Setting(_LIMITS, integer(1), "Nodes of a model."),
    "worker_memory": Setting(_LIMITS, size, "Resident memory of a worker."),
    "job_device_seconds": Setting(_LIMITS, number(0), "Estimated device time of a job."),
    "unfinished_jobs": Setting(_LIMITS, integer(1), "Unfinished jobs of all users."),
    "loading_seconds": Setting(_LIMITS, number(0), "Time for a worker to load a job."),
    "point_seconds": Setting(_LIMITS, number(0), "Time for one point."),
    "reading_seconds": Setting(_LIMITS, integer(1), "Time for reading a model or data."),
    "reading_memory": Setting(_LIMITS, size, "Memory for reading a model or data."),
    "readers": Setting(_LIMITS, integer(1), "Models or data read at once."),
    "calls": Setting(_LIMITS, integer(1), "Calls under way at once."),
    "calls_per_user": Setting(_LIMITS, integer(1), "Those of a single user."),
    "free_kept": Setting(
        _LIMITS, size, "Bytes of the disk that uploads and large surfaces leave free."
    ),
    "quota_jobs": Setting(_QUOTAS, QUOTA_READERS["jobs"], "Jobs that are not finished."),
    "quota_kept_jobs": Setting(
        _QUOTAS, QUOTA_READERS["kept_jobs"], "Jobs that are kept, finished or not."
    ),
    "quota_watchers": Setting(_QUOTAS, QUOTA_READERS["watchers"], "Jobs watched at once."),
    "quota_blob_bytes": Setting(_QUOTAS, QUOTA_READERS["blob_bytes"], "Bytes of blobs."),
    "quota_device_seconds": Setting(
        _QUOTAS, QUOTA_READERS["device_seconds"], "Device time in any 24 hours."
    ),
    "quota_weight": Setting(
        _QUOTAS, QUOTA_READERS["weight"], "Share of devices when others wait."
    ),
    "users": Setting(
        _QUOTAS, user_quotas, "Quotas of single users, as alice.jobs=50,alice.weight=2."
    ),
    "half_life": Setting(_TURNS, number(1), "Seconds after which used time counts half."),
    "lease_seconds": Setting(
        _TURNS, number(1), "Silence after which a worker's points are given to another."
    ),
    "data": Setting(_OFFERED, listed, "Data sets known by name, as digits,cifar10."),
    "cache_dir": Setting(_OFFERED, path, "Where these are kept, if not in the user's cache."),
    "data_files": Setting(_OFFERED, named_paths, "Other data, as NAME=FILE.npz,..."),
    "models": Setting(_OFFERED, named_paths, "Models, as NAME=FILE.onnx,..."),
    "keep_jobs": Setting(
        _KEPT, number(0), "Seconds that finished jobs and their surfaces are kept; 0: always."
    ),
    "keep_blobs": Setting(_KEPT, number(0), "Seconds that blobs are kept unused."),
    "keep_uploads": Setting(_KEPT, number(0), "Seconds that unfinished uploads are kept."),
}
"""Every field of `ServerConfig` has its row; a test proves it."""


def load_config(
    flags: Mapping[str, Any], *, environment: Mapping[str, str], file: Path | None
) -> ServerConfig:
    """Return the configuration of a server.

    Args:
        flags: Settings from the command line, by name; those not given are left out.
        environment: All environment variables.
        file: The TOML file; None for none.

    Returns:
        The configuration.

    Raises:
        UsageError: If the file cannot be read, or a setting is not known or means nothing.
    """
    values = {} if file is None else _from_file(file)
    for name in SETTINGS:
        variable = PREFIX + name.upper()
        if variable in environment:
            values[name] = _read(name, environment[variable], f"the variable {variable}")
    for name, value in flags.items():
        values[name] = _read(name, value, f"--{name.replace('_', '-')}")
    return ServerConfig(**values)


def _from_file(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read the configuration {file}: {reason(error)}; expected a TOML file"
        ) from error
    unknown = [key for key in found if key not in SETTINGS]
    if unknown:
        raise UsageError(
            f"the configuration {file} has the setting {unknown[0]!r}, which is not known; "
            f"expected some of {', '.join(SETTINGS)}"
        )
    return {name: _read(name, value, f"{name} in {file}") for name, value in found.items()}


def _read(name: str, value: Any, where: str) -> Any:
    try:
        return SETTINGS[name].read(value)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
