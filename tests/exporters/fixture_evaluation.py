"""What onnxscape makes of the fixtures: surfaces, the directions it saves, its warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import onnx
from fixture_edits import MODELS, WEIGHTS
from fixture_observer import Recorder
from fixture_truth import SEED, task_of

import onnxscape as ox


@dataclass(frozen=True)
class Evaluated:
    """An evaluation.

    Attributes:
        landscape: Its result.
        directions: delta and eta: tensors that move by name, in float64.
        warnings: What the user was told.
    """

    landscape: Any
    directions: Any
    warnings: Any


def evaluate(fixture, task=None, **options):
    """Evaluate a fixture on all samples, given alike for every network."""
    task = task or task_of(fixture)
    defaults = {"grid": "3x3", "radius": 0.5, "seed": SEED, "threads": 1}
    options = defaults | {"observer": Recorder()} | (task.options or {}) | options
    if fixture.endswith("weightinputs"):
        options["weights"] = WEIGHTS / f"{network_of(fixture)}.npz"
    data = task.data(_inputs(fixture))
    return ox.evaluate(MODELS / f"{fixture}.onnx", data, samples="all", **options)


def evaluate_and_save(fixture, folder, task=None):
    """Evaluate a fixture and read back the directions."""
    observer = Recorder()
    path = folder / f"{fixture}.directions.h5"
    landscape = evaluate(
        fixture,
        task,
        out=folder / f"{fixture}.h5",
        save_directions=path,
        observer=observer,
    )
    return Evaluated(landscape, saved_directions(path), observer.warnings)


def saved_directions(path):
    """Return delta and eta of a direction file: tensors that move by name."""
    with h5py.File(path) as file:
        return [
            {
                tensor.attrs["name"]: tensor[()].astype(np.float64)
                for tensor in file[group].values()
                if np.any(tensor[()])
            }
            for group in ("xdirection", "ydirection")
        ]


def network_of(fixture):
    """Return the network of a fixture."""
    return fixture.split("_")[0]


def _inputs(fixture):
    graph = onnx.load(MODELS / f"{fixture}.onnx", load_external_data=False).graph
    given = {tensor.name for tensor in graph.initializer}
    if fixture.endswith("weightinputs"):
        given |= {value.name for value in graph.input[1:]}
    return [value.name for value in graph.input if value.name not in given]
