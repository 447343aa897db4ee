"""What a run looks like on a terminal, and in a log."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.grid import Point
    from onnxscape.evaluation.observer import Outline

_SECONDS_BETWEEN_LINES = 10.0


class Terminal:
    """An observer that writes for people: a progress bar, or plain lines in a log."""

    def __init__(self, *, quiet: bool, to_stderr: bool, explain: bool = False) -> None:
        """Choose where to write.

        Args:
            quiet: Write warnings only.
            to_stderr: Leave stdout to a program that reads it.
            explain: Say why it is run the way it is.
        """
        self._quiet = quiet
        self._explain = explain
        self._err = to_stderr
        self._console = Console(stderr=to_stderr, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._low, self._high = math.inf, -math.inf
        self._started = self._last_line = time.monotonic()
        self._computed = 0
        self._download: Progress | None = None
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Write a line."""
        self._end_download()
        if not self._quiet:
            click.echo(text, err=self._err)

    def warning(self, text: str) -> None:
        """Write a line to stderr, whatever else is asked for."""
        self._end_download()
        self.warnings.append(text)
        click.echo(f"onnxscape: warning: {text}", err=True)

    def bytes_read(self, done: int, total: int | None) -> None:
        """Move the bar of a download."""
        self._move_bytes("download", done, total)

    def bytes_sent(self, done: int, total: int) -> None:
        """Move the bar of an upload."""
        self._move_bytes("upload", done, total)

    def _move_bytes(self, what: str, done: int, total: int | None) -> None:
        if self._quiet or not self._console.is_terminal:
            return
        if self._download is None:
            self._download = Progress(
                TextColumn(what),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=self._console,
                transient=True,
            )
            self._download.start()
            self._task = self._download.add_task("", total=total)
        if self._task is not None:
            self._download.update(self._task, completed=done, total=total)

    def outline(self, outline: Outline) -> None:
        """Write what is going to happen."""
        self._end_download()
        self._started = self._last_line = time.monotonic()
        if outline.known is not None:
            self._low, self._high = outline.known
        if self._quiet:
            return
        left = outline.points - outline.reused
        reused = f" ({outline.reused} of them are there already)" if outline.reused else ""
        points = (
            f"{outline.points - 1} and the center" if outline.center_apart else outline.points
        )
        seconds = duration(left * outline.seconds_per_point)
        most = "at most " if outline.at_most else ""
        fewer = "at most " if outline.growing else ""
        each = duration(outline.seconds_per_point)
        rows = {
            "model": f"{outline.model}: {_counted(outline.moved, 'tensor')} of "
            f"{outline.elements:,} values {'moves' if outline.moved == 1 else 'move'}, "
            f"{_counted(outline.others, 'trainable one')} "
            f"{'stays' if outline.others == 1 else 'stay'}",
            "directions": outline.directions,
            "loss": outline.loss,
            "data": outline.data,
            "samples": f"{fewer}{outline.samples} of {outline.population}{_levels(outline)}",
            "points": f"{most}{points}{reused}",
            "device": outline.device,
            "strategy": outline.strategy,
            "estimate": f"{most or fewer}{seconds} ({each} per point)",
        }
        for name, text in rows.items():
            click.echo(f"{name:<10}  {text}", err=self._err)
        for line in outline.calibration if self._explain else ():
            click.echo(line, err=self._err)

    def point(self, point: Point, metrics: Mapping[str, float], done: int, total: int) -> None:
        """Move the bar, or write a line now and then."""
        loss = metrics["loss"]
        if math.isfinite(loss) and point.row >= 0:
            self._low, self._high = min(self._low, loss), max(self._high, loss)
        self._computed += 1
        if self._quiet:
            return
        if self._console.is_terminal:
            self._move_bar(done, total)
            return
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES or done == total:
            self._last_line = now
            rate = self._computed / max(now - self._started, 1e-9)
            left = f"  {duration((total - done) / rate)} left" if done < total else ""
            click.echo(
                f"{done}/{total} points  {self._loss()}  {rate:.3g} points/s{left}",
                err=self._err,
            )

    def close(self) -> None:
        """Take the bar away; what follows are plain lines."""
        self._end_download()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _move_bar(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
                TextColumn("{task.fields[rate]:.3g}/s"),
                TextColumn("left"),
                TimeRemainingColumn(compact=True),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                "", total=total, completed=done - 1, loss="", rate=0.0
            )
        if self._task is not None:
            rate = self._computed / max(time.monotonic() - self._started, 1e-9)
            self._bar.update(self._task, completed=done, loss=self._loss(), rate=rate)

    def _loss(self) -> str:
        if self._low > self._high:
            return "no finite loss"
        return f"loss {self._low:.4g} … {self._high:.4g}"

    def _end_download(self) -> None:
        if self._download is not None:
            self._download.stop()
            self._download = None
            self._task = None


def _levels(outline: Outline) -> str:
    """Return which points take fewer samples."""
    if outline.two_level is None:
        return ""
    whole, few = outline.two_level
    return f" at {_counted(whole, 'point')}, {few} at the others"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Write a time for people.

    Args:
        seconds: The time.

    Returns:
        For instance `42 s`, `3 min 20 s` or `2 h 5 min`.
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
