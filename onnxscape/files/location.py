"""Where an output really stands."""

from __future__ import annotations

from pathlib import Path

from onnxscape.errors import OutputError
from onnxscape.files.reason import reason


def real_path(output: str | Path) -> Path:
    """Return the absolute path of an output, symbolic links followed.

    Whatever belongs to an output (lock, points, temporary file) stands beside the real file,
    so that two names of one file cannot be written at once.

    Args:
        output: Path as the user gave it; it need not exist.

    Returns:
        The real path.

    Raises:
        OutputError: If the path is no path, or its links lead in a circle.
    """
    try:
        return Path(output).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"cannot use {str(output)!r} as a path ({reason(error)}); choose another"
        ) from error
