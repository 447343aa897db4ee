"""What CUDA gives: is it right, where does the time go, and which evaluator is fastest.

Runs sections one after the other, each in a process of its own with a limit of time, and
writes every result as one JSON line as soon as it is known. `--device cpu --quick` tries the
script out where there is no GPU.

    python benchmarks/cuda --out results --models folder/of/more/models
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SECTIONS = {
    "device": ("correctness", 40, False),
    "tests": ("correctness", 120, False),
    "surfaces": ("correctness", 60, False),
    "losses": ("correctness", 30, False),
    "fixtures": ("correctness", 90, False),
    "kernels": ("correctness", 30, False),
    "placement": ("forward", 20, True),
    "engines": ("prototypes", 100, True),
    "forward": ("forward", 100, True),
    "capture": ("prototypes", 70, True),
    "peers": ("peers", 70, True),
    "whole": ("prototypes", 100, True),
    "small_batches": ("forward", 20, True),
    "compiled": ("peers", 90, True),
}
"""Section to its module, its limit in seconds, and whether it measures prototypes."""


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--models", type=Path, default=Path(), help="folder of more models")
    parser.add_argument("--images", type=Path, help=".npz with x [n,32,32,3] and y")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--budget", type=float, default=900, help="seconds for all of them")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="names of evaluators to compare, between semicolons")
    parser.add_argument("--library", type=Path, help="where prototypes import onnxscape from")
    parser.add_argument("--here", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.sections.split(",")
    if options.here is not None:
        _run_here(names[0], options)
        return
    end = time.monotonic() + options.budget
    for name in names:
        left = end - time.monotonic()
        limit = min(SECTIONS[name][1] * (4 if options.quick else 1), left)
        if limit < 5:
            print(f"{name:<11} left out: no time", flush=True)
            continue
        _run_child(name, limit, options)


def _run_child(name: str, limit: float, options: argparse.Namespace) -> None:
    """Run a section in a process group of its own, so that all of it can be ended."""
    environment = dict(os.environ)
    if options.library is not None and SECTIONS[name][2]:
        paths = [str(options.library.resolve()), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, "-u", str(Path(__file__).parent), "--device", options.device]
    command += ["--models", str(options.models), "--out", str(options.out)]
    command += ["--sections", name, "--here", str(limit)]
    command += ["--images", str(options.images)] if options.images else []
    command += ["--quick"] if options.quick else []
    command += ["--only", options.only] if options.only else []
    start = time.monotonic()
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        status: int | str = child.wait(limit)
    except subprocess.TimeoutExpired:
        status = "out of time"
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    print(f"{name:<11} ended: {status}, {time.monotonic() - start:.1f} s", flush=True)


def _run_here(name: str, options: argparse.Namespace) -> None:
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # of `common`
    from measuring import Results, Setting

    setting = Setting(
        device=options.device,
        models=options.models,
        images=options.images,
        out=options.out,
        quick=options.quick,
        deadline=time.monotonic() + options.here - 3,
        only=tuple(options.only.split(";")) if options.only else (),
    )
    results = Results(options.out / "results.jsonl", name)
    if options.device == "cuda":
        from onnxscape.runtime.devices import find_device

        find_device("cuda")  # loads the libraries, and says it if they cannot be
    section = getattr(importlib.import_module(SECTIONS[name][0]), name)
    with results.attempt(name):
        section(setting, results)


if __name__ == "__main__":
    main()
