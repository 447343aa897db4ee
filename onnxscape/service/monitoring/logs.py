"""Log lines that programs read: one JSON object each, with the call they belong to.

Everything logs by `logging` as usual; the message is the event, in words that stay the same,
and `extra` holds what it was about: `log.info("job finished", extra={"job": job.id})`. What
`bind` was told (the request's id, its user) is added to every line of the same call.

Users are named as they are: the log is for the administrator, who has to know whose job filled
the disk, and whose list of users lies on the same machine. Tokens, what a request holds, and
addresses are never logged.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import secrets
import sys
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOUND: ContextVar[Mapping[str, Any] | None] = ContextVar("log_fields", default=None)

_LONGEST = 8192
"""Characters of a value; a traceback may be long, a line has an end."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes of a record that are logging's, not the event's."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def bind(**fields: Any) -> None:
    """Add fields to all log lines to come of this call (this task, and threads it waits for).

    Args:
        **fields: Name to value; they replace those of the same name.
    """
    _BOUND.set({**(_BOUND.get() or {}), **fields})


def bound() -> Mapping[str, Any]:
    """Return what `bind` was told in this call."""
    return _BOUND.get() or {}


def request_id(asked: str | None = None) -> str:
    """Return the id of a request: the client's own, or a new one.

    Args:
        asked: What the client sent; taken if it is short and plain, so that no client can
            write into the log what it likes.

    Returns:
        The id.
    """
    if asked is not None and _REQUEST_ID.fullmatch(asked):
        return asked
    return secrets.token_hex(8)


def configure(
    *, form: str = "text", level: str = "info", stream: TextIO | None = None
) -> None:
    """Send the log of this process to a stream.

    Args:
        form: `json` or `text`.
        level: The least severe level that is written: `debug`, `info`, `warning`, `error`.
        stream: Where; stderr if not given.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record says, as the fields of a line.

    Args:
        record: The record.

    Returns:
        `time` (UTC), `level`, `event`, `logger`, what is bound, what the event is about, and
        the `error` with its `traceback`.
    """
    when = dt.datetime.fromtimestamp(record.created, dt.UTC)
    fields: dict[str, Any] = {
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": _plain(record.getMessage()),
        "logger": record.name,
    }
    own = {name: value for name, value in vars(record).items() if name not in _OWN}
    for name, value in {**bound(), **own}.items():
        fields.setdefault(name, _plain(value))
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["error"] = type(error).__name__
        fields["traceback"] = _plain("".join(traceback.format_exception(error)))
    return fields


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; texts have an end."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record.

        Args:
            record: The record.

        Returns:
            The line, without its end.
        """
        return json.dumps(fields_of(record), default=str)


class TextFormatter(logging.Formatter):
    """Lines for people: time, level, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record.

        Args:
            record: The record.

        Returns:
            The line; behind it the traceback, if there is one.
        """
        fields = fields_of(record)
        when, level, event = (fields.pop(name) for name in ("time", "level", "event"))
        fields.pop("logger")
        trace = fields.pop("traceback", None)
        told = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
        line = f"{when} {level:<7} {_quoted(event)} {told}".rstrip()
        return line if trace is None else f"{line}\n{trace.rstrip()}"


def _quoted(value: Any) -> str:
    """Return a value for people; what could be mistaken for a line of its own is escaped."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)
