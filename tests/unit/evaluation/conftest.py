"""Observers and requests that the tests of runs share."""

from __future__ import annotations

import pytest
from fixture_observer import Recorder

from onnxscape.core.grid import Grid
from onnxscape.evaluation.request import EvalRequest, OutputOptions
from onnxscape.evaluation.run import run_to_file


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
