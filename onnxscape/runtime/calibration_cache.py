"""What calibration found, kept for the next run of the same model on the same machine."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from onnxscape.errors import OnnxscapeError
from onnxscape.files.atomic import write_atomically
from onnxscape.runtime.calibration import Calibration, Choice, Trial, fastest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST = 200
"""Calibrations kept; the oldest go first."""

OLDEST = 30 * 24 * 3600.0
"""Seconds after which a calibration counts no more: machines change."""

_MAX_BYTES = 2**22


def cache_file() -> Path:
    """Return where calibrations are kept: in the user's cache folder."""
    folder = platformdirs.user_cache_dir("onnxscape", appauthor=False)
    return Path(folder) / "calibration.json"


def remembered(
    circumstances: Mapping[str, Any],
    calibrate: Callable[[], Calibration],
    *,
    points: int,
    possible: Callable[[Sequence[Choice]], bool],
    path: Path | None = None,
) -> Calibration:
    """Return the fastest of what was tried under the same circumstances, or let it be tried.

    A cache that cannot be read or written is as good as none; so is what was kept if it is old
    or not what would be tried now.

    Args:
        circumstances: All that the times depend on; plain JSON values.
        calibrate: Tries.
        points: Points to evaluate.
        possible: Whether these choices, in this order, would be tried now.
        path: The cache; None for the user's.

    Returns:
        The calibration; it is kept if more than one choice was tried.
    """
    path = path or cache_file()
    key = hashlib.sha256(json.dumps(circumstances, sort_keys=True).encode()).hexdigest()
    kept = _trials(_read(path).get(key))
    if possible([trial.choice for trial in kept]):
        chosen = fastest(kept, points)
        if chosen is not None:
            return Calibration(
                chosen=chosen, reason="the fastest when last tried", trials=kept
            )
    found = calibrate()
    if len(found.trials) > 1:
        newest = _read(path)  # again: another process may have written meanwhile
        newest.pop(key, None)
        newest[key] = _to_json(found.trials)
        with contextlib.suppress(OnnxscapeError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(dict(list(newest.items())[-MOST:])).encode())
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _to_json(trials: Sequence[Trial]) -> dict[str, Any]:
    return {
        "time": time.time(),
        "trials": [
            {
                "choice": dataclasses.asdict(trial.choice),
                "seconds": None if trial.refusal else trial.seconds,
                "refusal": trial.refusal,
            }
            for trial in trials
        ],
    }


def _trials(values: Any) -> tuple[Trial, ...]:
    """Return what `_to_json` was given; nothing if it is too old, or makes no sense."""
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        if 0 <= time.time() - values["time"] <= OLDEST:
            return tuple(_trial(**trial) for trial in values["trials"])
    return ()


def _trial(choice: Mapping[str, Any], seconds: Any, refusal: Any) -> Trial:
    """Return a trial that was read.

    Raises:
        ValueError: If it has neither a time nor a refusal, or both, or numbers that are none.
    """
    tried = Choice(**choice)
    numbers = (tried.batch, tried.workers, tried.threads)
    if any(type(number) is not int for number in numbers) or not isinstance(refusal, str):
        raise ValueError("no choice")
    if seconds is None and refusal:
        return Trial(choice=tried, seconds=math.nan, refusal=refusal)
    if refusal or not 0 < float(seconds) < math.inf:
        raise ValueError("no time")
    return Trial(choice=tried, seconds=float(seconds))
