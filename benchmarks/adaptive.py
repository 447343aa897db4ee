"""What `--adaptive` and `--samples auto` save, and how far off they are.

The whole surface is read from a file, or computed into it once. The strategies are then
replayed: they ask for points and are told the losses of the file, so that the largest error
over *all* points is known, not only that at the held-out ones. Strategies:

- adaptive: refined within a tolerance, with the error that a run would report;
- coarse: every point of a level, the others by cubic interpolation of the same kind.

With `--stderr` the same network is evaluated on a 9 x 9 grid with samples added until the
standard error is reached, and the samples used are counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.grid import Grid
from onnxscape.core.interpolation import CUBIC, LINEAR, NestedGrids
from onnxscape.core.refinement import Refined, refine, relative_error
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_in_memory, run_to_file

if TYPE_CHECKING:
    from onnxscape.core.landscape import Landscape

MODELS = Path(__file__).resolve().parent.parent / "models"


def replay(landscape: Landscape, tolerance: float) -> Refined:
    """Return what refinement makes of a surface that is known."""
    losses = landscape.loss.ravel()
    questions = refine(landscape.grid, tolerance)
    wanted = next(questions)
    while True:
        try:
            wanted = questions.send(losses[wanted])
        except StopIteration as end:
            result: Refined = end.value
            return result


def adaptive(landscape: Landscape, tolerance: float) -> dict[str, Any]:
    """Return what refinement evaluates, what it reports, and what is true."""
    result = replay(landscape, tolerance)
    truth = landscape.loss.reshape(result.loss.shape)
    errors = relative_error(result.loss, truth, result.floor)[~result.evaluated]
    nested = NestedGrids(landscape.grid)
    accuracy = landscape.surfaces["accuracy"].reshape(nested.shape)
    before = result.evaluated & ~result.held_out
    off = np.abs(nested.fill(accuracy, before, LINEAR) - accuracy)[~result.evaluated]
    return {
        "strategy": f"adaptive {tolerance:g}",
        "points": int(result.evaluated.sum()),
        "share": round(float(result.evaluated.mean()), 4),
        "held_out": int(result.held_out.sum()),
        "rounds": result.rounds,
        "verified": round(result.largest_error, 4),
        "largest": round(float(errors.max(initial=0.0)), 4),
        "above_tolerance": int((errors > tolerance).sum()),
        "median": round(float(np.median(errors)) if errors.size else 0.0, 6),
        "accuracy_largest": round(float(off.max(initial=0.0)), 4),
    }


def coarse(landscape: Landscape, level: int, floor: float) -> dict[str, Any]:
    """Return how far off a whole coarser grid is."""
    nested = NestedGrids(landscape.grid)
    truth = landscape.loss.reshape(nested.shape)
    known = nested.levels <= level
    filled = np.exp(nested.fill(np.log(truth), known, CUBIC))
    errors = relative_error(filled, truth, floor)[~known]
    return {
        "strategy": f"coarse, level {level}",
        "points": int(known.sum()),
        "share": round(float(known.mean()), 4),
        "largest": round(float(errors.max(initial=0.0)), 4),
        "median": round(float(np.median(errors)), 6),
    }


def growing(request: EvalRequest, stderr: float) -> dict[str, Any]:
    """Return how many samples a grid takes to a standard error."""
    report = run_in_memory(request, QuietObserver())
    used = report.landscape.surfaces["samples_used"]
    spec = report.landscape.spec
    assert spec is not None
    return {
        "strategy": f"samples auto, stderr {stderr:g}",
        "points": used.size,
        "population": spec.population,
        "samples_least": int(used.min()),
        "samples_median": int(np.median(used)),
        "samples_most": int(used.max()),
        "share": round(float(used.mean() / spec.population), 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODELS / "resnet20_cifar10.onnx")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--grid", default="51x51")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--surface", type=Path, required=True, help="read, or computed into")
    parser.add_argument("--tolerances", default="0.02,0.05,0.1")
    parser.add_argument("--stderr", type=float, help="count samples to this standard error")
    parser.add_argument("--json", type=Path, help="add the results to this file, a line each")
    options = parser.parse_args()

    common: dict[str, Any] = {
        "model": options.model,
        "data": options.data,
        "threads": options.threads,
    }
    request = EvalRequest(grid=Grid.parse(options.grid), samples=options.samples, **common)
    output = OutputOptions(path=options.surface)
    landscape = run_to_file(request, output, QuietObserver()).landscape
    tolerances = [float(text) for text in options.tolerances.split(",")]
    rows = [adaptive(landscape, tolerance) for tolerance in tolerances]
    if np.isfinite(landscape.loss).all() and (landscape.loss > 0).all():
        floor = replay(landscape, tolerances[0]).floor
        rows += [coarse(landscape, level, floor) for level in (2, 3, 4)]
    if options.stderr is not None:
        few = EvalRequest(
            grid=Grid.parse("9x9"), samples="auto", stderr=options.stderr, **common
        )
        rows.append(growing(few, options.stderr))
    plan = landscape.plan
    machine = "?" if plan is None else f"{plan.machine}, {plan.runtime}"
    for row in rows:
        of = {"model": options.model.stem, "samples": options.samples, "grid": options.grid}
        line = {**of, **row, "machine": machine}
        print(json.dumps(line))
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
