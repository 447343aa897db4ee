"""Values of settings: read from the text of a flag or variable, or from what TOML holds."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def text(value: Any) -> str:
    """Read a text that is not empty.

    Args:
        value: What was given.

    Returns:
        The text.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a text, got {value!r}")
    return value


def path(value: Any) -> Path | None:
    """Read a path.

    Args:
        value: What was given; an empty text for none.

    Returns:
        The path.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"expected a path, got {value!r}")
    return Path(value).expanduser() if value else None


def place(value: Any) -> Path:
    """Read a path that there has to be.

    Args:
        value: What was given.

    Returns:
        The path.

    Raises:
        ValueError: If it is none.
    """
    found = path(value)
    if found is None:
        raise ValueError(f"expected a path, got {value!r}")
    return found


def switch(value: Any) -> bool:
    """Read yes or no.

    Args:
        value: What was given.

    Returns:
        Whether it is yes.

    Raises:
        ValueError: If it is neither.
    """
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError(f"expected true or false, got {value!r}")
    return words[value.lower()]


def choice(*words: str) -> Callable[[Any], str]:
    """Return what reads one of some words.

    Args:
        words: The words.

    Returns:
        The reader.
    """

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"expected {', '.join(words[:-1])} or {words[-1]}, got {value!r}")
        return str(value)

    return read


def integer(least: int, most: int | None = None) -> Callable[[Any], int]:
    """Return what reads a whole number.

    Args:
        least: The smallest.
        most: The largest; None for no limit.

    Returns:
        The reader.
    """
    wanted = f"a whole number of at least {least}" if most is None else f"{least} to {most}"

    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or value < least
            or (most is not None and value > most)
        ):
            raise ValueError(f"expected {wanted}, got {value!r}")
        return value

    return read


def number(least: float) -> Callable[[Any], float]:
    """Return what reads a number.

    Args:
        least: The smallest.

    Returns:
        The reader.
    """

    def read(value: Any) -> float:
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not (math.isfinite(found) and found >= least):
            raise ValueError(f"expected a number of at least {least:g}, got {value!r}")
        return found

    return read


def size(value: Any) -> int:
    """Read a number of bytes.

    Args:
        value: What was given: a number, or a text such as `512M` or `4GiB`.

    Returns:
        Bytes.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = re.fullmatch(r"([0-9]{1,18})\s*([KMGT]?)(i?B)?", str(value))
    if found is None or isinstance(value, bool):
        raise ValueError(f"expected bytes, such as 512M or 4GiB, got {value!r}")
    return int(found[1]) << _UNITS[found[2]]


def listed(value: Any) -> tuple[str, ...]:
    """Read words.

    Args:
        value: What was given: a list, or a text with commas.

    Returns:
        The words.

    Raises:
        ValueError: If they are none.
    """
    if isinstance(value, str):
        value = [word.strip() for word in value.split(",")] if value.strip() else []
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
        raise ValueError(f"expected words with commas between them, got {value!r}")
    return tuple(value)


def named_paths(value: Any) -> Mapping[str, Path]:
    """Read files by name.

    Args:
        value: What was given: a table, or a text like `NAME=FILE,NAME=FILE`.

    Returns:
        Name to file.

    Raises:
        ValueError: If it is none, or if a name could not stand in a resource's name.
    """
    entries = _table(value, "NAME=FILE")
    for name, file in entries.items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,30}", name):
            raise ValueError(
                "expected names of at most 31 lower-case letters, digits, dots and dashes, "
                f"got {name!r}"
            )
        if not isinstance(file, str | Path) or not str(file):
            raise ValueError(f"expected a file for {name!r}, got {file!r}")
    return {name: Path(file).expanduser() for name, file in entries.items()}


QUOTA_READERS: Mapping[str, Callable[[Any], Any]] = {
    "jobs": integer(0),
    "kept_jobs": integer(0),
    "watchers": integer(0),
    "blob_bytes": size,
    "device_seconds": number(0),
    "weight": number(0.001),
}
"""Quota of a user to what reads it."""


def user_quotas(value: Any) -> Mapping[str, Mapping[str, Any]]:
    """Read quotas of single users.

    Args:
        value: What was given: a table of tables, or a text like `alice.jobs=5,bob.weight=2`.

    Returns:
        User to quotas by name.

    Raises:
        ValueError: If it is none.
    """
    tables: dict[str, dict[str, Any]] = {}
    for key, entry in _table(value, "USER.QUOTA=VALUE").items():
        if isinstance(entry, dict):
            tables.setdefault(key, {}).update(entry)
        else:
            user, _, quota = key.rpartition(".")
            tables.setdefault(user, {})[quota] = entry
    for user, quotas in tables.items():
        for quota, entry in quotas.items():
            if quota not in QUOTA_READERS or not user:
                raise ValueError(
                    f"expected one of {', '.join(QUOTA_READERS)} for a user, got "
                    f"{user}.{quota}"
                )
            try:
                quotas[quota] = QUOTA_READERS[quota](entry)
            except ValueError as error:
                raise ValueError(f"{user}.{quota}: {error}") from error
    return tables


def _table(value: Any, form: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return dict(value)
    entries = [entry.partition("=") for entry in listed(value)]
    if not all(name and equals for name, equals, _ in entries):
        raise ValueError(f"expected {form} with commas between, got {value!r}")
    return {name.strip(): entry.strip() for name, _, entry in entries}
