"""What calibration found, kept for the next run of the same model on the same machine."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from onnxscape.errors import OnnxscapeError
from onnxscape.files.atomic import write_atomically
from onnxscape.runtime.calibration import Calibration, Choice, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST = 200
"""Calibrations kept; the oldest go first."""

_MAX_BYTES = 2**22


def cache_file() -> Path:
    """Return where calibrations are kept: in the user's cache folder."""
    folder = platformdirs.user_cache_dir("onnxscape", appauthor=False)
    return Path(folder) / "calibration.json"


def remembered(
    circumstances: Mapping[str, Any],
    calibrate: Callable[[], Calibration],
    path: Path | None = None,
) -> Calibration:
    """Return what calibration found under the same circumstances, or let it find out.

    A cache that cannot be read or written is as good as none.

    Args:
        circumstances: All that the answer depends on; plain JSON values.
        calibrate: Finds out.
        path: The cache; None for the user's.

    Returns:
        The calibration; only what was tried is kept.
    """
    path = path or cache_file()
    key = hashlib.sha256(json.dumps(circumstances, sort_keys=True).encode()).hexdigest()
    kept = _read(path)
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        return _from_json(kept[key])
    found = calibrate()
    if len(found.trials) > 1:
        # Read again: another process may have written meanwhile.
        newest = list((_read(path) | {key: _to_json(found)}).items())[-MOST:]
        with contextlib.suppress(OnnxscapeError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(dict(newest)).encode())
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _to_json(calibration: Calibration) -> dict[str, Any]:
    return {
        "chosen": dataclasses.asdict(calibration.chosen),
        "trials": [
            {
                "choice": dataclasses.asdict(trial.choice),
                "seconds": None if math.isnan(trial.seconds) else trial.seconds,
                "refusal": trial.refusal,
            }
            for trial in calibration.trials
        ],
    }


def _from_json(values: Mapping[str, Any]) -> Calibration:
    """Return what `_to_json` wrote.

    Raises:
        ValueError: If a value makes no sense.
    """
    trials = tuple(
        Trial(
            choice=_choice(trial["choice"]),
            seconds=math.nan if trial["seconds"] is None else float(trial["seconds"]),
            refusal=str(trial["refusal"]),
        )
        for trial in values["trials"]
    )
    return Calibration(
        chosen=_choice(values["chosen"]), reason="the fastest when last tried", trials=trials
    )


def _choice(values: Mapping[str, Any]) -> Choice:
    choice = Choice(**values)
    numbers = (choice.batch, choice.workers, choice.threads)
    if not all(type(number) is int and 0 < number < 2**31 for number in numbers):
        raise ValueError("no choice")
    return choice
