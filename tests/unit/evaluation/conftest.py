"""Observers and requests that the tests of runs share."""

from __future__ import annotations

import numpy as np
import pytest
from fixture_observer import Recorder

from onnxscape.core.grid import Grid
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_in_memory, run_to_file


@pytest.fixture
def recorder():
    """The class of recording observers."""
    return Recorder


@pytest.fixture
def request_of(reference, digits_arrays):
    """Returns a request for the reference network on 40 of its samples."""

    def build(grid="3x3", **options):
        values = {
            "model": reference / "model.onnx",
            "data": digits_arrays,
            "samples": 40,
            "threads": 1,
        }
        return EvalRequest(grid=Grid.parse(grid), **(values | options))

    return build


@pytest.fixture
def run(tmp_path, request_of):
    """Runs a request to `surface.h5`."""

    def to_file(observer=None, *, grid="3x3", output=None, **options):
        target = OutputOptions(path=tmp_path / "surface.h5", **(output or {}))
        return run_to_file(request_of(grid, **options), target, observer or Recorder())

    return to_file


@pytest.fixture(scope="module")
def evaluated_once():
    """Landscapes by what was asked for."""
    return {}


@pytest.fixture
def whole(request_of, recorder, evaluated_once):
    """Evaluates a request in memory."""

    def landscape(grid="17x15", **options):
        key = grid, *sorted(options.items())
        if key not in evaluated_once:
            report = run_in_memory(request_of(grid, **options), recorder())
            evaluated_once[key] = report.landscape
        return evaluated_once[key]

    return landscape


@pytest.fixture
def surface(tmp_path):
    return tmp_path / "surface.h5"


@pytest.fixture
def identical():
    """Compares two landscapes to the bit, with what is said of their interpolation."""

    def compare(a, b):
        assert a.surfaces.keys() == b.surfaces.keys()
        for name, values in a.surfaces.items():
            assert np.array_equal(values, b.surfaces[name], equal_nan=True), name
        assert np.array_equal(a.evaluated, b.evaluated)
        assert a.center == b.center
        assert a.interpolation == b.interpolation

    return compare
