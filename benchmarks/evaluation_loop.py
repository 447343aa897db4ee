"""How close the evaluation loop comes to ONNX Runtime's bare forward passes.

In one run, on the same model, samples, batches and threads:

- bare: a session of the user's file, its weights constant, run over all batches; as often as
  the grid has points;
- loop: `onnxscape` evaluating the grid, weights changed at every point, losses reduced.

Both are interleaved block by block, so that a machine whose speed drifts treats them alike.
Prints the ratio, the times of start-up, self-test and pictures, and the memory after the first
and after the last points.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from onnxscape.core.grid import Grid
from onnxscape.evaluation.engine import start_engine
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_to_file
from onnxscape.plots import save_all
from onnxscape.runtime.sessions import session_options

MODELS = Path(__file__).resolve().parent.parent / "models"


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODELS / "resnet20_cifar10.onnx")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--grid", default="9x9")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--block", type=int, default=6, help="points per interleaved block")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()

    request = EvalRequest(
        model=options.model,
        data=options.data,
        grid=Grid.parse(options.grid),
        samples=options.samples,
        threads=options.threads,
    )
    observer = QuietObserver()
    inputs = resolve(request, observer)
    engine = start_engine(inputs, None, observer)
    bare = ort.InferenceSession(
        inputs.file.content,
        session_options(engine.threads),
        providers=engine.device.providers(),
    )
    size = engine.plan.batch
    batches = [
        {name: array[i : i + size] for name, array in inputs.samples.inputs.items()}
        for i in range(0, len(inputs.samples), size)
    ]
    output = [inputs.file.outputs[0].name]

    def forward() -> None:
        for feeds in batches:
            bare.run(output, feeds)

    points = list(request.grid.points())
    forward()
    engine.evaluator.evaluate(0.0, 0.0)
    bare_seconds, loop_seconds, ratios, memory = 0.0, 0.0, [], []
    for start in range(0, len(points), options.block):
        block = points[start : start + options.block]
        begin = time.perf_counter()
        for _ in block:
            forward()
        middle = time.perf_counter()
        for _ in engine.evaluate(block):
            pass
        end = time.perf_counter()
        bare_seconds += middle - begin
        loop_seconds += end - middle
        ratios.append((end - middle) / (middle - begin))
        memory.append(resident_mib())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "surface.h5"
        report = run_to_file(request, OutputOptions(path=path), observer)
        begin = time.perf_counter()
        save_all(report.landscape, path.with_suffix(""))
        pictures = time.perf_counter() - begin

    results = {
        "model": options.model.name,
        "samples": len(inputs.samples),
        "points": len(points),
        "machine": f"{engine.device.name}, {engine.threads} threads",
        "runtime": engine.plan.runtime,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "strategy": engine.plan.strategy,
        "shared_out": engine.calibration.chosen.sharing,
        "batch": size,
        "bare_seconds": round(bare_seconds, 3),
        "loop_seconds": round(loop_seconds, 3),
        "loop_over_bare": round(loop_seconds / bare_seconds, 4),
        "loop_over_bare_median_of_blocks": round(statistics.median(ratios), 4),
        "start_seconds": round(report.seconds["start"], 3),
        "self_test_seconds": round(report.seconds["self_test"], 3),
        "pictures_seconds": round(pictures, 3),
        "run_evaluation_seconds": round(report.seconds["evaluation"], 3),
        "resident_mib_first_block": round(memory[0], 1),
        "resident_mib_last_block": round(memory[-1], 1),
    }
    for name, value in results.items():
        print(f"{name:<34}{value}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
