"""The whole of `onnxscape eval`, a process of its own, beside bare passes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.machine import rounded

if TYPE_CHECKING:
    from common.subject import BarePasses


def compare_process(
    bare: BarePasses,
    *,
    model: Path,
    data: str,
    samples: int,
    steps: int,
    threads: int,
    device: str,
    repeats: int,
) -> dict[str, Any]:
    """Time the command from the shell's point of view, and bare passes before and after.

    Args:
        bare: The bare passes.
        model: The model.
        data: The data.
        samples: How many.
        steps: Points per direction.
        threads: Threads on the CPU.
        device: `cpu` or `cuda`.
        repeats: How often.

    Returns:
        Seconds of both, their ratio, and what the process takes beyond the passes.
    """
    points = steps * steps
    whole, passes, computing = 0.0, _timed(bare, points), _children_seconds()
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "onnxscape_cli.main",
                "eval",
                str(model.resolve()),
            ]
            command += [
                "--data",
                data,
                "--samples",
                str(samples),
                "--grid",
                f"{steps}x{steps}",
            ]
            command += ["--threads", str(threads), "--device", device, "--quiet"]
            command += ["--out", "surface.h5"]
            begin = time.perf_counter()
            subprocess.run(command, check=True, cwd=folder, env=_environment())
            whole += time.perf_counter() - begin
            pictures = len(list(Path(folder).glob("*.png")))
        passes += _timed(bare, points)
    mean_passes = passes / (repeats + 1)
    mean_whole = whole / repeats
    return {
        "points": points,
        "repeats": repeats,
        "pictures": pictures,
        "seconds": rounded(mean_whole),
        "cpu_seconds": rounded((_children_seconds() - computing) / repeats),
        "bare_seconds": rounded(mean_passes),
        "over_bare": rounded(mean_whole / mean_passes),
        "beyond_bare_seconds": rounded(mean_whole - mean_passes),
    }


def _timed(bare: BarePasses, count: int) -> float:
    begin = time.perf_counter()
    bare.run(count)
    return time.perf_counter() - begin


def _children_seconds() -> float:
    """Return what ended children have used of the processors, all threads together."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _environment() -> dict[str, str]:
    """Return this environment, with relative import paths made absolute."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    absolute = os.pathsep.join(str(Path(path).resolve()) for path in paths if path)
    return os.environ | {"PYTHONPATH": absolute, "MPLBACKEND": "Agg"}
