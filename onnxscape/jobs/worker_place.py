"""Where a worker or a check computes, and whom it tells what people should read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnxscape.jobs.worker_messages import MAX_TEXTS, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.grid import Point
    from onnxscape.evaluation.observer import Outline


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where a worker computes, and where it finds what it needs.

    Attributes:
        device: Its device.
        threads: On the CPU.
        blobs: Folder of the blobs.
        data_dir: Where data known by name are kept; None for the user's cache folder.
        offline: Whether such data must be there.
        cache: Jobs kept loaded, at least one.
    """

    device: str
    threads: int
    blobs: str
    data_dir: str | None
    offline: bool = True
    cache: int = 2

    def blob_path(self, sha: str) -> Path:
        """Return where a blob is.

        Args:
            sha: Its sha256, in hex digits.

        Returns:
            The file.

        Raises:
            ValueError: If it is no sha256: it might be a path.
        """
        if len(sha) != 64 or not set(sha) <= set("0123456789abcdef"):
            raise ValueError(f"expected 64 hex digits, got {sha!r}")
        return Path(self.blobs) / sha[:2] / sha

    @property
    def data_folder(self) -> Path | None:
        """Where data known by name are kept."""
        return None if self.data_dir is None else Path(self.data_dir)


@dataclass(slots=True)
class TextObserver:
    """Keeps what people should read, without repeats.

    Attributes:
        notes: What the user wants to know.
        warnings: What the user should look at.
    """

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep it."""
        _keep(self.notes, text)

    def warning(self, text: str) -> None:
        """Keep it."""
        _keep(self.warnings, text)

    def bytes_read(self, done: int, total: int | None) -> None:
        """Ignore it."""

    def outline(self, outline: Outline) -> None:
        """Ignore it."""

    def point(self, point: Point, metrics: Mapping[str, float], done: int, total: int) -> None:
        """Ignore it."""


def _keep(texts: list[str], text: str) -> None:
    text = shortened(text)
    if text not in texts and len(texts) < MAX_TEXTS:
        texts.append(text)
