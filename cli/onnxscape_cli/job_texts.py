"""Jobs and servers in words, and as JSON."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from onnxscape.files.limits import human_bytes
from onnxscape_cli.terminal import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnxscape.service.client.job_info import JobInfo, ServerInfo
    from onnxscape.service.client.request_messages import Offered


def table(jobs: Sequence[JobInfo]) -> str:
    """Return jobs, a line each."""
    rows = [("JOB", "STATE", "POINTS", "ORDERED", "NAME")]
    rows += [
        (
            info.id,
            info.state.value,
            f"{info.done}/{info.total}",
            _time(info.created),
            info.display_name,
        )
        for info in jobs
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    return "\n".join(
        "  ".join([*(f"{row[at]:<{widths[at]}}" for at in range(4)), row[4]]).rstrip()
        for row in rows
    )


def job_text(info: JobInfo) -> str:
    """Return all that is known of a job, a line for each thing."""
    estimate = info.estimate
    takes = f"{estimate.points} points, {duration(estimate.device_seconds)} of a device"
    if estimate.memory:
        takes += f", {human_bytes(estimate.memory)} of memory"
    if estimate.completion_seconds is not None:
        takes += f"; finished in {duration(estimate.completion_seconds)}"
    failed = f", {info.failed} failed" if info.failed else ""
    rows = {
        "job": info.id,
        "name": info.display_name,
        "state": info.state.value if info.id else "",
        "error": "" if info.reason is None else f"{info.reason}: {info.message}",
        "points": f"{info.done} of {info.total}{failed}" if info.id else "",
        "estimate": takes,
        "priority": str(info.priority) if info.priority else "",
        "ordered": _time(info.created) if info.id else "not yet: it was only checked",
        "started": _time(info.started),
        "ended": _time(info.ended),
        "device": duration(info.device_seconds) if info.device_seconds else "",
        "model": "" if info.outline is None else info.outline.model,
        "data": "" if info.outline is None else info.outline.data,
        "loss": "" if info.outline is None else info.outline.loss,
    }
    lines = [f"{name:<10}  {text}" for name, text in rows.items() if text]
    lines += [f"{'warning':<10}  {text}" for text in info.warnings]
    return "\n".join(lines)


def job_values(info: JobInfo) -> dict[str, Any]:
    """Return a job as plain JSON values."""
    values = {
        field.name: getattr(info, field.name)
        for field in dataclasses.fields(info)
        if field.name not in {"outline", "estimate"}
    }
    for name in ("created", "started", "ended"):
        values[name] = values[name] and values[name].isoformat()
    for name in ("spec", "plan"):
        values[name] = values[name] and values[name].to_dict()
    values["state"] = info.state.value if info.id else None
    values["id"] = info.id or None
    values["estimate"] = dataclasses.asdict(info.estimate)
    return values


def server_text(info: ServerInfo, offered: Mapping[str, Offered]) -> str:
    """Return what a server is, a line for each thing."""
    devices = [f"{d.name} ({d.description}, {d.slots} at a time)" for d in info.devices]
    rows = {
        "version": info.version,
        "user": info.user,
        "devices": "; ".join(devices),
        "data": ", ".join(sorted(offered)),
        "limits": _limits(info.limits),
        "quota": ", ".join(_quota(info.quota)),
    }
    return "\n".join(f"{name:<10}  {text}" for name, text in rows.items() if text)


def _limits(limits: Mapping[str, float]) -> str:
    """Return the limits that a user meets first."""
    grid = f"grids of {limits.get('grid_points', 0):.0f} points"
    blob = f"files of {human_bytes(int(limits.get('blob_bytes', 0)))}"
    return (
        f"{grid}, {blob}, jobs of {duration(limits.get('job_device_time', 0.0))} of a device"
    )


def _quota(quota: Mapping[str, float]) -> list[str]:
    """Return what is used of each quota."""
    texts = []
    for name, unit in (
        ("active_jobs", ""),
        ("kept_jobs", ""),
        ("watchers", ""),
        ("blob_bytes", "bytes"),
        ("device_time", "seconds"),
    ):
        used, limit = quota.get(name, 0), quota.get(f"{name}_limit", 0)
        show = {"": "{:.0f}".format, "bytes": human_bytes, "seconds": duration}[unit]
        what = name.replace("_", " ")
        texts.append(f"{what} {show(used)}" + (f" of {show(limit)}" if limit else ""))
    return texts


def server_values(info: ServerInfo, offered: Mapping[str, Offered]) -> dict[str, Any]:
    """Return what a server is as plain JSON values."""
    values = dataclasses.asdict(info)
    values["offered"] = {name: list(entry.splits) for name, entry in sorted(offered.items())}
    for group in ("limits", "quota"):
        values[group] = {
            name: value if math.isfinite(value) else None
            for name, value in values[group].items()
        }
    return values


def _time(when: datetime | None) -> str:
    return "" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
