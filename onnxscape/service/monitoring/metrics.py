"""What a server tells a monitor: counts, times and stocks, never of single users.

Names follow Prometheus' conventions. What happens while calls are answered is counted here;
the rest is read from those who know it when the monitor asks (`Reading`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from onnxscape.jobs.states import FINISHED, JobState
from onnxscape.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of `ServerMetrics.exposition`."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the parts of a server know at a moment.

    Attributes:
        jobs: Number of jobs in each state.
        points: Points stored since the server started.
        points_failed: Points given up since then.
        device_seconds: Time that devices were used since then.
        jobs_begun: Jobs that had their first turn since then.
        jobs_ended: State to the number of jobs that came to it since then.
        queue_seconds: What the begun jobs had waited, together.
        leases: Chunks leased since then.
        leases_lost: Reason to the number of chunks that did not come to their end.
        workers_started: Workers started since then.
        workers_lost: Reason to the number of workers lost since then.
        slots: Places for workers.
        slots_busy: Those in use.
        watchers: Open streams of WatchJob.
        blob_bytes: Bytes of all blobs.
        disk_free_bytes: What the disk of the data folder has left.
        draining: Whether the server is going down.
    """

    jobs: Mapping[JobState, int] = field(default_factory=dict)
    points: int = 0
    points_failed: int = 0
    device_seconds: float = 0.0
    jobs_begun: int = 0
    jobs_ended: Mapping[str, int] = field(default_factory=dict)
    queue_seconds: float = 0.0
    leases: int = 0
    leases_lost: Mapping[str, int] = field(default_factory=dict)
    workers_started: int = 0
    workers_lost: Mapping[str, int] = field(default_factory=dict)
    slots: int = 0
    slots_busy: int = 0
    watchers: int = 0
    blob_bytes: int = 0
    disk_free_bytes: int = 0
    draining: bool = False


class _Readings:
    """Makes metrics of a reading whenever a monitor asks."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        now = self._read()
        jobs = GaugeMetricFamily("onnxscape_jobs", "Jobs by state.", labels=["state"])
        for state in JobState:  # also those without jobs: a gap is not a zero
            jobs.add_metric([state.value], now.jobs.get(state, 0))
        yield jobs
        ended = {str(state): now.jobs_ended.get(state, 0) for state in FINISHED}
        yield _counter("jobs_begun", "Jobs that had their first turn.", now.jobs_begun)
        yield _counters("jobs_ended", "Jobs that ended, by state.", ended, label="state")
        yield _counter("queue_seconds", "What begun jobs had waited.", now.queue_seconds)
        yield _counter("points", "Points stored.", now.points)
        yield _counter("points_failed", "Points given up.", now.points_failed)
        yield _counter("device_seconds", "Time that devices were used.", now.device_seconds)
        yield _counter("leases", "Chunks of points leased to workers.", now.leases)
        yield _counters("leases_lost", "Chunks without an end.", now.leases_lost)
        yield _counter("workers_started", "Workers started.", now.workers_started)
        yield _counters("workers_lost", "Workers that died.", now.workers_lost)
        yield _gauge("slots", "Places for workers.", now.slots)
        yield _gauge("slots_busy", "Places whose worker has a chunk.", now.slots_busy)
        yield _gauge("watchers", "Open streams of WatchJob.", now.watchers)
        yield _gauge("blob_bytes", "Bytes of all blobs.", now.blob_bytes)
        yield _gauge("disk_free_bytes", "Room left for the data folder.", now.disk_free_bytes)
        yield _gauge("draining", "1 while the server is going down.", now.draining)


class ServerMetrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        """Begin to count.

        Args:
            read: Returns what the parts of the server know; called from other threads.
        """
        self.registry = CollectorRegistry()
        self.registry.register(_Readings(read))
        ProcessCollector(registry=self.registry)
        about = Gauge(
            "onnxscape_build_info", "1, with the version.", ["version"], registry=self.registry
        )
        about.labels(__version__).set(1)
        self._durations = Histogram(
            "onnxscape_rpc_duration_seconds",
            "From the arrival of a call to its status, streams included.",
            ["method", "code"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._under_way = Gauge(
            "onnxscape_rpcs_in_flight", "Calls under way.", ["method"], registry=self.registry
        )
        self.refused = Counter(
            "onnxscape_unauthenticated_total",
            "Calls without valid credentials.",
            registry=self.registry,
        )

    def call_begins(self, method: str) -> None:
        """Count a call that has come.

        Args:
            method: Its full name, one that the server has.
        """
        self._under_way.labels(method).inc()

    def call_ends(self, method: str, code: str, seconds: float) -> None:
        """Count a call that is over.

        Args:
            method: Its full name.
            code: Name of its status.
            seconds: What it took.
        """
        self._under_way.labels(method).dec()
        self._durations.labels(method, code).observe(seconds)
        if code == "UNAUTHENTICATED":
            self.refused.inc()

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"onnxscape_{name}", meaning, value=value)


def _counters(
    name: str, meaning: str, values: Mapping[str, int], *, label: str = "reason"
) -> Metric:
    family = CounterMetricFamily(f"onnxscape_{name}", meaning, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"onnxscape_{name}", meaning, value=value)
