"""Admission: whether the server takes one more job, and what it says if it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxscape.service.answers.rich_errors import Exceeded, ExhaustedError

if TYPE_CHECKING:
    from onnxscape.jobs.records import Estimate
    from onnxscape.service.settings.config import ServerConfig

DAY = 86400.0
"""Seconds in which device time counts towards the quota."""

FULL_SECONDS = 10.0
"""When to try again while the server is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is used when a job is ordered.

    Attributes:
        active: Unfinished jobs of the user.
        kept: All jobs of the user.
        used_seconds: Device time that the user got in the last day.
        awaited_seconds: Device time that these jobs are still going to take.
        server: Unfinished jobs of all users.
    """

    active: int
    kept: int
    used_seconds: float
    awaited_seconds: float
    server: int


def refuse_excess(user: str, estimate: Estimate, load: Load, config: ServerConfig) -> None:
    """Refuse a job that a limit or a quota has no room for.

    Limits come first: what is above one is never accepted, whatever else is waited for.

    Args:
        user: Who orders it.
        estimate: What it costs.
        load: What is used.
        config: Limits and quotas.

    Raises:
        ExhaustedError: If it is refused.
    """
    _refuse_too_large(estimate, config)
    quota = config.quota_of(user)
    if load.active >= quota.jobs:
        text = f"{load.active} of your jobs are not finished, of at most {quota.jobs}"
        raise ExhaustedError(
            "JOBS_QUOTA",
            f"{text}; wait for one of them, or cancel it",
            exceeded=[Exceeded("jobs", text)],
        )
    if load.kept >= quota.kept_jobs:
        text = f"{load.kept} jobs of yours are kept, of at most {quota.kept_jobs}"
        raise ExhaustedError(
            "KEPT_JOBS_QUOTA",
            f"{text}; delete some that are finished",
            exceeded=[Exceeded("kept_jobs", text)],
        )
    expected = load.used_seconds + load.awaited_seconds + estimate.device_seconds
    if expected > quota.device_seconds:
        text = (
            f"the job takes about {estimate.device_seconds:.4g} s of device time; of "
            f"{quota.device_seconds:.6g} s in 24 hours you have used {load.used_seconds:.4g}, "
            f"and your other jobs are going to take {load.awaited_seconds:.4g}"
        )
        raise ExhaustedError(
            "DEVICE_TIME_QUOTA",
            f"{text}; order fewer points or samples, or wait",
            exceeded=[Exceeded("device_time", text)],
        )
    if load.server >= config.unfinished_jobs:
        raise ExhaustedError(
            "SERVER_FULL",
            f"the server has {load.server} unfinished jobs and takes no more; try again later",
            retry_seconds=FULL_SECONDS,
        )


def _refuse_too_large(estimate: Estimate, config: ServerConfig) -> None:
    """Refuse a job that would be too large on an idle server.

    Raises:
        ExhaustedError: If it is.
    """
    for subject, expected, limit, unit in (
        ("memory", estimate.memory, config.worker_memory, "bytes of memory"),
        (
            "job_device_time",
            estimate.device_seconds,
            config.job_device_seconds,
            "s of device time",
        ),
    ):
        if expected > limit:
            text = f"the job takes about {expected:.4g} {unit}, a job may take {limit:.4g}"
            raise ExhaustedError(
                "JOB_TOO_LARGE",
                f"{text}; order fewer points or samples, or a smaller batch",
                exceeded=[Exceeded(subject, text)],
            )
