"""The specs of jobs that were asked for lately: a job is asked for many times."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxscape.v1 import jobs_pb2

_MOST = 1000
_LONGEST = 4096
"""Bytes of a spec that is remembered: all of them together stay small."""


class KnownSpecs:
    """Specs by the ID of their job, which never changes its own; for several threads."""

    def __init__(self) -> None:
        """Start with none."""
        self._specs: OrderedDict[str, jobs_pb2.JobSpec] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, job_id: str) -> jobs_pb2.JobSpec | None:
        """Return the spec of a job.

        Args:
            job_id: Which.

        Returns:
            The spec, not to be changed; None if it is not known.
        """
        with self._lock:
            spec = self._specs.get(job_id)
            if spec is not None:
                self._specs.move_to_end(job_id)
            return spec

    def add(self, job_id: str, spec: jobs_pb2.JobSpec) -> None:
        """Remember a spec.

        Args:
            job_id: Of which job.
            spec: The spec; a long one is not remembered.
        """
        if spec.ByteSize() > _LONGEST:
            return
        with self._lock:
            self._specs[job_id] = spec
            while len(self._specs) > _MOST:
                self._specs.popitem(last=False)
