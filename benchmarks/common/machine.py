"""The machine, the versions, the memory of this process, and where results are kept."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

RESULTS = Path(__file__).resolve().parents[1] / "results"


def describe(device: str, threads: int, *packages: str) -> dict[str, Any]:
    """Return where and with what something was measured.

    Args:
        device: Name of the processor that computes.
        threads: Threads on the CPU.
        *packages: Names of packages on the package index; those not installed are left out.

    Returns:
        Fields that every result carries.
    """
    versions = {"python": platform.python_version()}
    for package in ("numpy", "onnx", "onnxruntime-gpu", "onnxruntime", *packages):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "onnxruntime-gpu" in versions:  # both are the same module, and we need this one
        versions.pop("onnxruntime", None)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "threads": threads,
        "cores": os.cpu_count(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def add_out_option(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the option that says where results are kept.

    Args:
        parser: The parser.
        name: Stem of the file in `results/`.
    """
    parser.add_argument(
        "--out", type=Path, default=RESULTS / f"{name}.jsonl", help="JSON lines, appended to"
    )


def keep(path: Path, record: dict[str, Any]) -> None:
    """Append a result to a file of JSON lines.

    Args:
        path: The file.
        record: The result; numbers of numpy are allowed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record, default=float) + "\n")
    print(f"kept in {path}", file=sys.stderr)


def resident_mib() -> float:
    """Return the resident memory of this process and of those it started, in MiB."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            total += int((folder / "statm").read_text().split()[1])
            for task in (folder / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return total * resource.getpagesize() / 2**20


def rounded(value: float, digits: int = 4) -> float:
    """Return a number with so many significant digits."""
    return float(f"{value:.{digits}g}")
