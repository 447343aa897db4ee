"""Does memory grow with the points: 10 000 of them, as `onnxscape eval` runs them.

The run goes into a surface file, with its point store. Every hundred points it is looked at
how much memory the process holds (and what it has started); in a second process, how much
Python's own allocator counts; in a third, what a process holds that makes as many sessions of
the user's own file, runs each once over the samples and throws it away, by ONNX Runtime alone.
Prints all after the first hundred points and after the last.

    python benchmarks/memory.py

What has to grow is what is kept of each finished point, a few hundred bytes; what must not is
everything else.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort
from common.machine import add_out_option, describe, keep, resident_mib, rounded
from common.subject import make_subject

from onnxscape.core.grid import Grid
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_to_file
from onnxscape.runtime.devices import find_device, usable_cores
from onnxscape.runtime.sessions import session_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onnxscape.core.grid import Point

MODELS = Path(__file__).resolve().parents[1] / "models"


class Sampler(QuietObserver):
    """Looks at the memory every so many points.

    Args:
        every: Points from one look to the next.
        traced: Whether Python's allocations are counted instead of what the process holds.
    """

    def __init__(self, every: int, *, traced: bool) -> None:
        self.mib: list[float] = []
        self._every = every
        self._traced = traced

    def point(self, point: Point, metrics: Mapping[str, float], done: int, total: int) -> None:
        """Look, if it is time to.

        Args:
            point: The point.
            metrics: Its metrics.
            done: Points that are finished.
            total: All points.
        """
        del point, metrics, total
        if done % self._every == 0:
            gc.collect()
            used = (
                tracemalloc.get_traced_memory()[0] / 2**20 if self._traced else resident_mib()
            )
            self.mib.append(rounded(used, 6))


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODELS / "digits_cnn.onnx")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--grid", default="100x100")
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--measure", choices=list(MEASURES), help=argparse.SUPPRESS)
    add_out_option(parser, "memory")
    options = parser.parse_args()

    ort.set_default_logger_severity(3)
    request = EvalRequest(
        model=options.model,
        data=options.data,
        grid=Grid.parse(options.grid),
        samples=options.samples,
        threads=options.threads,
        device=options.device,
    )
    if options.measure is not None:
        print(json.dumps(MEASURES[options.measure](request, options.every)))
        return
    device = find_device(options.device)
    points = sum(1 for _ in request.grid.points())
    result = describe(device.name, options.threads or usable_cores()) | {
        "model": options.model.name,
        "kind": device.kind,
        "samples": options.samples,
        "points": points,
        "every": options.every,
    }
    for name in MEASURES:
        begin = time.perf_counter()
        # Each in a process of its own: memory that one has freed would be another's to take.
        command = [sys.executable, *sys.argv, "--measure", name]
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        mib = json.loads(told.splitlines()[-1])
        growth = mib[-1] - mib[0]
        result |= {
            f"{name}_mib": mib,
            f"{name}_growth_mib": rounded(growth),
            f"{name}_seconds": rounded(time.perf_counter() - begin),
        }
        each = growth * 2**20 / (options.every * (len(mib) - 1))
        print(
            f"{name}: {mib[0]:.2f} MiB after {options.every} points, {mib[-1]:.2f} after "
            f"{options.every * len(mib)}: growth {growth:+.3f} MiB, {each:.0f} bytes per point"
        )
    keep(options.out, result)


def _resident(request: EvalRequest, every: int) -> list[float]:
    return _run(request, Sampler(every, traced=False))


def _traced(request: EvalRequest, every: int) -> list[float]:
    tracemalloc.start()
    try:
        return _run(request, Sampler(every, traced=True))
    finally:
        tracemalloc.stop()


def _run(request: EvalRequest, sampler: Sampler) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        run_to_file(request, OutputOptions(path=Path(folder) / "surface.h5"), sampler)
    return sampler.mib


def _bare(request: EvalRequest, every: int) -> list[float]:
    # As many sessions as there are points, as many at a time as the engine would.
    subject = make_subject(request)
    workers = subject.engine.calibration.chosen.workers
    size, samples = subject.engine.plan.batch, subject.inputs.samples
    content, providers = subject.inputs.file.content, subject.engine.device.providers()
    options = session_options(max(1, subject.threads // workers))
    batches = [
        {name: array[i : i + size] for name, array in samples.inputs.items()}
        for i in range(0, len(samples), size)
    ]

    def once(_number: int) -> None:
        session = ort.InferenceSession(content, options, providers=providers)
        for feeds in batches:
            session.run(None, feeds | dict(samples.constants))

    mib = []
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(request.grid.size // every):
            list(pool.map(once, range(every)))
            gc.collect()
            mib.append(rounded(resident_mib(), 6))
    return mib


MEASURES: dict[str, Callable[[EvalRequest, int], list[float]]] = {
    "resident": _resident,
    "traced": _traced,
    "bare": _bare,
}
"""What is measured, each in a process of its own: MiB after every so many points."""


if __name__ == "__main__":
    main()
