"""Observers: how a run tells its user what it does, without knowing a terminal."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.grid import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a run is going to do, before it starts.

    Attributes:
        model: Name of the model.
        moved: Number of parameters that move.
        elements: Number of values in them.
        others: Number of trainable parameters that stay.
        directions: Where the directions come from, for people.
        loss: The loss and metrics, and why a loss was proposed, for people.
        data: Name of the data and its preprocessing, for people.
        samples: Number of samples used.
        population: Number of samples there are.
        points: Number of points, the center included.
        at_most: Whether it may take fewer of them.
        growing: Whether a point may take fewer samples.
        two_level: Number of points that take all samples, and how many samples the others
            take; None where all are alike.
        reused: How many of them are there already.
        center_apart: Whether the center is one of the points without being on the grid.
        known: Smallest and largest finite loss of the points that are there; None without any.
        device: Where it runs, for people.
        strategy: How, for people.
        seconds_per_point: Estimate.
        calibration: Why it is run that way, a line for each that was tried.
    """

    model: str
    moved: int
    elements: int
    others: int
    directions: str
    loss: str
    data: str
    samples: int
    population: int
    points: int
    at_most: bool = False
    growing: bool = False
    two_level: tuple[int, int] | None = None
    reused: int
    center_apart: bool
    known: tuple[float, float] | None
    device: str
    strategy: str
    seconds_per_point: float
    calibration: tuple[str, ...] = ()


class Observer(Protocol):
    """Told what happens; every method returns at once."""

    def note(self, text: str) -> None:
        """Something the user wants to know."""

    def warning(self, text: str) -> None:
        """Something the user should look at."""

    def bytes_read(self, done: int, total: int | None) -> None:
        """A download went on."""

    def outline(self, outline: Outline) -> None:
        """The evaluation is going to start."""

    def point(self, point: Point, metrics: Mapping[str, float], done: int, total: int) -> None:
        """A point is finished and stored."""


class OnnxscapeWarning(UserWarning):
    """Something about a landscape that its user should look at."""


class QuietObserver:
    """An observer that passes warnings on to Python's and says nothing else."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def warning(self, text: str) -> None:
        """Warn."""
        warnings.warn(text, OnnxscapeWarning, stacklevel=2)

    def bytes_read(self, done: int, total: int | None) -> None:
        """Ignore it."""

    def outline(self, outline: Outline) -> None:
        """Ignore it."""

    def point(self, point: Point, metrics: Mapping[str, float], done: int, total: int) -> None:
        """Ignore it."""
