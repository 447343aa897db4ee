"""An observer that keeps what it is told."""

from __future__ import annotations

from onnxscape.evaluation.observer import QuietObserver


class Recorder(QuietObserver):
    """Keeps all it is told; interrupts after a number of points if asked to."""

    def __init__(self, interrupt_after=None):
        self.warnings: list[str] = []
        self.notes, self.outlines, self.points = [], [], []
        self._interrupt_after = interrupt_after

    def note(self, text):
        self.notes.append(text)

    def warning(self, text):
        self.warnings.append(text)

    def outline(self, outline):
        self.outlines.append(outline)

    def point(self, point, metrics, done, total):
        self.points.append((point, dict(metrics), done, total))
        if len(self.points) == self._interrupt_after:
            raise KeyboardInterrupt
