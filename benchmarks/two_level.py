"""What `--two-level` saves, and how far off it is, over all points.

Surfaces on all samples and on the first few are read from files, or computed into them once.
What a run would have evaluated is taken from them, and corrected as a run does it, so that
the error at *all* estimated points is known, not only that at the held-out ones; so is the
error of the few samples without the correction.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.grid import Grid
from onnxscape.core.refinement import relative_error
from onnxscape.core.samples import SUBSET
from onnxscape.core.two_level import TwoLevels
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_to_file
from onnxscape.evaluation.two_level import TwoLevel

if TYPE_CHECKING:
    from onnxscape.core.landscape import Landscape

MODELS = Path(__file__).resolve().parent.parent / "models"


def replay(on_all: Landscape, on_few: Landscape) -> Landscape:
    """Return what a run with two levels makes of surfaces that are known."""
    assert on_all.spec is not None
    assert on_few.spec is not None
    spec = dataclasses.replace(on_all.spec, two_level=on_few.spec.samples)
    whole = TwoLevels.of(on_all.grid).whole.reshape(on_all.grid.shape)
    surfaces = {name: np.where(whole, s, np.nan) for name, s in on_all.surfaces.items()}
    for name in ("loss", *spec.metrics):
        surfaces[SUBSET + name] = on_few.surfaces[name]
    seen = dataclasses.replace(on_all, surfaces=surfaces, evaluated=whole, spec=spec)
    return TwoLevel(spec).finished(seen)


def row(on_all: Landscape, on_few: Landscape) -> dict[str, Any]:
    """Return what two levels evaluate, what they report, and what is true."""
    found = replay(on_all, on_few)
    record, at = found.interpolation, ~found.evaluated
    assert record is not None
    assert record.samples is not None
    assert on_all.spec is not None
    samples, size = on_all.spec.samples, at.size
    values: dict[str, Any] = {
        "strategy": f"two-level {record.samples}",
        "scale": record.scale,
        "points": record.evaluated,
        "share": round(
            (size * record.samples + record.evaluated * (samples - record.samples))
            / (size * samples),
            4,
        ),
        "held_out": record.held_out,
        "verified": round(record.largest_error, 4),
    }
    for name, landscape in (("", found), ("subset_", on_few)):
        off = relative_error(landscape.loss, on_all.loss, record.floor)[at]
        values[f"{name}largest"] = round(float(off.max()), 4)
        values[f"{name}mean"] = round(float(off.mean()), 4)
        assert landscape.accuracy is not None
        assert on_all.accuracy is not None
        off = np.abs(landscape.accuracy - on_all.accuracy)[at]
        values[f"{name}accuracy_largest"] = round(float(off.max()), 4)
        values[f"{name}accuracy_mean"] = round(float(off.mean()), 4)
    return values


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODELS / "digits_cnn.onnx")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--few", default="50,100,200", help="numbers of samples, by commas")
    parser.add_argument("--grid", default="51x51")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--surface",
        type=Path,
        required=True,
        help="read, or computed into; those on a few samples beside it, as STEM_N.h5",
    )
    parser.add_argument("--json", type=Path, help="add the results to this file, a line each")
    options = parser.parse_args()

    def landscape(samples: int, path: Path) -> Landscape:
        request = EvalRequest(
            model=options.model,
            data=options.data,
            grid=Grid.parse(options.grid),
            samples=samples,
            threads=options.threads,
        )
        return run_to_file(request, OutputOptions(path=path), QuietObserver()).landscape

    path = options.surface
    on_all = landscape(options.samples, path)
    plan = on_all.plan
    machine = "?" if plan is None else f"{plan.machine}, {plan.runtime}"
    of = {"model": options.model.stem, "samples": options.samples, "grid": options.grid}
    for few in (int(text) for text in options.few.split(",")):
        on_few = landscape(few, path.with_name(f"{path.stem}_{few}{path.suffix}"))
        line = {**of, **row(on_all, on_few), "machine": machine}
        print(json.dumps(line))
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
