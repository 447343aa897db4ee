"""How busy the GPU is meanwhile, as `nvidia-smi` says it."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETTLING = 0.5
"""Seconds at the start of an interval that still tell of what was before."""


class Watch:
    """Asks `nvidia-smi` five times a second until it is stopped."""

    FIELDS = (
        "utilization.gpu",
        "utilization.memory",
        "clocks.sm",
        "power.draw",
        "memory.used",
    )

    def __init__(self, device: str) -> None:
        """Start.

        Args:
            device: `cuda`, or anything else to watch nothing.
        """
        self._process = None
        self._rows: list[tuple[float, list[float]]] = []
        if device == "cuda":
            query = f"--query-gpu={','.join(self.FIELDS)}"
            self._process = subprocess.Popen(
                ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "200"],
                stdout=subprocess.PIPE,
                text=True,
            )
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                row = [float(value) for value in line.split(",")]
            except ValueError:
                continue
            if len(row) == len(self.FIELDS):
                self._rows.append((time.perf_counter(), row))

    def stop(self) -> dict[str, float]:
        """Stop.

        Returns:
            The medians by field; nothing where nothing was seen.
        """
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._reader.join(5)
        return self._medians([row for _, row in self._rows])

    def during(self, intervals: Sequence[tuple[float, float]]) -> dict[str, float]:
        """Say what was seen in some intervals.

        Args:
            intervals: Start and end of each, of `time.perf_counter()`.

        Returns:
            The medians by field; nothing where nothing was seen.
        """
        return self._medians(
            [
                row
                for moment, row in self._rows
                if any(start + _SETTLING <= moment <= end for start, end in intervals)
            ]
        )

    def _medians(self, rows: list[list[float]]) -> dict[str, float]:
        if not rows:
            return {}
        columns = zip(*rows, strict=True)
        return dict(zip(self.FIELDS, map(statistics.median, columns), strict=True))
