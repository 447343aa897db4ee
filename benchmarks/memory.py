"""Does memory grow with the points: 10 000 of them, as `onnxscape eval` runs them.

The run goes into a surface file, with its point store. Every hundred points it is looked at
how much memory the process holds (and what it has started), and, in a second run, how much
Python's own allocator counts. Prints both after the first hundred points and after the last.

    python benchmarks/memory.py

What has to grow is what is kept of each finished point, a few hundred bytes; what must not is
everything else.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort
from common.machine import add_out_option, describe, keep, resident_mib, rounded

from onnxscape.core.grid import Grid
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_to_file
from onnxscape.runtime.devices import find_device, usable_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Run twice, print, and keep."""
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
    device = find_device(options.device)
    points = sum(1 for _ in request.grid.points())
    result = describe(device.name, options.threads or usable_cores()) | {
        "model": options.model.name,
        "kind": device.kind,
        "samples": options.samples,
        "points": points,
        "every": options.every,
    }
    for name, traced in (("resident", False), ("traced", True)):
        begin = time.perf_counter()
        mib = _run(request, options.every, traced=traced)
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


def _run(request: EvalRequest, every: int, *, traced: bool) -> list[float]:
    sampler = Sampler(every, traced=traced)
    if traced:
        tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            run_to_file(request, OutputOptions(path=Path(folder) / "surface.h5"), sampler)
    finally:
        tracemalloc.stop()
    return sampler.mib


if __name__ == "__main__":
    main()
