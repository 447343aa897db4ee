"""How jobs are coordinated: times and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxscape.jobs.scheduler import SchedulerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """How jobs are coordinated; times in seconds.

    Attributes:
        turns: How turns are given.
        lease_seconds: Without a sign of life a lease is given to others.
        longest_chunk: A chunk that takes longer is asked back after the point under way.
        chunk_points: Points of a chunk at most.
        strikes: Workers that may be lost on a point, or while loading a job.
        stop_seconds: What chunks of a stopped job have for the point under way.
        rest_seconds: How long a slot is left alone after the executor failed there.
        retry_seconds: How long to wait before a failed disk is tried again.
        look_seconds: How often to look for new slots.
    """

    turns: SchedulerConfig = field(default_factory=SchedulerConfig)
    lease_seconds: float = 30.0
    longest_chunk: float = 5.0
    chunk_points: int = 2000
    strikes: int = 3
    stop_seconds: float = 10.0
    rest_seconds: float = 5.0
    retry_seconds: float = 2.0
    look_seconds: float = 1.0
