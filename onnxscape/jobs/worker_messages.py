"""Messages between a server and its worker processes: one line of JSON each.

Numbers keep all their bits: JSON's shortest decimal of a float64 is exact, and NaN and
infinities are written as Python's `json` does. What comes from a worker is checked: it runs
native code on what strangers wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxscape.core.grid import Point
from onnxscape.core.plan import Plan
from onnxscape.errors import OnnxscapeError
from onnxscape.jobs.executor import (
    Beat,
    Chunk,
    Failed,
    Finished,
    PointDone,
    Ready,
    Replanned,
)
from onnxscape.jobs.order import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onnxscape.jobs.executor import ChunkEvent

MAX_LINE = 1 << 20
"""Bytes of the longest line that a worker may send."""

MAX_TEXT = 4000
"""Characters of the longest message for people."""

MAX_TEXTS = 100
"""Most notes, or warnings, of a job."""

_MAX_METRICS = 1000


class MessageError(ValueError):
    """A line that is no message."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker has loaded now.

    Attributes:
        jobs: IDs of the jobs.
    """

    jobs: tuple[str, ...]


def chunk_line(chunk: Chunk) -> bytes:
    """Return the message that asks a worker for a chunk.

    Args:
        chunk: The chunk.
    """
    return _line(
        {
            "kind": "chunk",
            "job": chunk.job,
            "lease": chunk.lease,
            "order": chunk.order.to_json(),
            "plan": chunk.plan,
            "spec": chunk.spec,
            "points": [_point_values(point) for point in chunk.points],
            "total": chunk.total,
        }
    )


def give_back_line(lease: int) -> bytes:
    """Return the message that asks a worker to end a chunk.

    Args:
        lease: The chunk's.
    """
    return _line({"kind": "give_back", "lease": lease})


def request_of(line: bytes) -> Chunk | int:
    """Read in a worker what the server wrote.

    Args:
        line: From `chunk_line` or `give_back_line`.

    Returns:
        The chunk to compute, or the lease to give back.
    """
    values = json.loads(line)
    if values.pop("kind") == "give_back":
        return int(values["lease"])
    values["order"] = Order.from_json(values["order"])
    values["points"] = tuple(Point(*point) for point in values["points"])
    return Chunk(**values)


def event_line(lease: int, event: ChunkEvent | Loaded) -> bytes:
    """Return the message that tells a server what happened.

    Args:
        lease: The chunk's.
        event: Anything but `Lost`, which a worker cannot tell.

    Returns:
        The line.

    Raises:
        TypeError: If it is another event.
    """
    match event:
        case Ready():
            values: dict[str, Any] = {
                "kind": "ready",
                "plan": event.plan,
                "provenance": dict(event.provenance),
                "outline": dict(event.outline),
                "seconds_per_point": event.seconds_per_point,
                "notes": list(event.notes),
                "warnings": list(event.warnings),
            }
        case PointDone():
            values = {
                "kind": "point",
                "point": _point_values(event.point),
                "metrics": dict(event.metrics),
                "seconds": event.seconds,
            }
        case Beat():
            values = {"kind": "beat", "memory": event.memory}
        case Replanned():
            values = {"kind": "replanned", "plan": event.plan, "warning": event.warning}
        case Failed():
            values = {"kind": "failed", "reason": event.reason, "message": event.message}
        case Finished():
            values = {"kind": "finished"}
        case Loaded():
            values = {"kind": "loaded", "jobs": list(event.jobs)}
        case _:
            raise TypeError(f"a worker does not tell of {event!r}")
    return _line({"lease": lease} | values)


def event_of(line: bytes) -> tuple[int, ChunkEvent | Loaded]:
    """Read what a worker wrote.

    Args:
        line: One line.

    Returns:
        The lease, and the event.

    Raises:
        MessageError: If it is no message that `event_line` writes.
    """
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise MessageError(f"expected an object, got {type(values).__name__}")
        return _integer(values["lease"]), _READERS[values["kind"]](values)
    except (KeyError, ValueError, TypeError, RecursionError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"[:200]
        raise MessageError(f"a worker sent what is no message ({what})") from error


def _ready(values: Mapping[str, Any]) -> Ready:
    return Ready(
        plan=_plan(values["plan"]),
        provenance=_object(values["provenance"]),
        outline=_object(values["outline"]),
        seconds_per_point=_number(values["seconds_per_point"]),
        notes=_texts(values["notes"]),
        warnings=_texts(values["warnings"]),
    )


def _point_done(values: Mapping[str, Any]) -> PointDone:
    return PointDone(
        point=_point(values["point"]),
        metrics=_metrics(values["metrics"]),
        seconds=_number(values["seconds"]),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], ChunkEvent | Loaded]] = {
    "ready": _ready,
    "point": _point_done,
    "beat": lambda values: Beat(_integer(values["memory"])),
    "replanned": lambda values: Replanned(_plan(values["plan"]), _text(values["warning"])),
    "failed": lambda values: Failed(_text(values["reason"]), _text(values["message"])),
    "finished": lambda _values: Finished(),
    "loaded": lambda values: Loaded(_texts(values["jobs"])),
}
"""Kind of a message to what reads it."""


def shortened(text: str) -> str:
    """Return a text for people, cut where it is longer than a message may be.

    Args:
        text: Any.
    """
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _point_values(point: Point) -> list[Any]:
    return [point.row, point.column, float(point.alpha), float(point.beta), point.samples]


def _point(values: Any) -> Point:
    row, column, alpha, beta, samples = values
    return Point(
        _integer(row),
        _integer(column),
        _number(alpha),
        _number(beta),
        None if samples is None else _integer(samples),
    )


def _metrics(values: Any) -> dict[str, float]:
    if not 1 <= len(_object(values)) <= _MAX_METRICS or "loss" not in values:
        raise MessageError("expected the loss, and not too many other metrics")
    return {_text(name): _number(value) for name, value in values.items()}


def _plan(value: Any) -> str:
    """Return the canonical text of a plan.

    Raises:
        MessageError: If it is none.
    """
    try:
        plan = Plan.from_dict(_object(json.loads(_text(value))))
    except OnnxscapeError as error:
        raise MessageError(str(error)) from error
    if plan.to_json() != value:
        raise MessageError("expected a plan in its canonical form")
    return str(value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MessageError(f"expected an object, got {type(value).__name__}")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise MessageError(f"expected a whole number, got {type(value).__name__}")
    return value


def _number(value: Any) -> float:
    if type(value) not in {int, float}:
        raise MessageError(f"expected a number, got {type(value).__name__}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise MessageError(f"expected a text of at most {MAX_TEXT} characters")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > MAX_TEXTS:
        raise MessageError(f"expected at most {MAX_TEXTS} texts")
    return tuple(map(_text, values))
