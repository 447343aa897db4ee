"""Landscapes with known values, made without evaluating anything."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.interpolation import Interpolation
from onnxscape.core.landscape import Landscape
from onnxscape.core.spec import EvalSpec


@pytest.fixture
def make_spec():
    """Returns a spec on a grid; keywords replace its fields."""

    def make(grid, **fields):
        values = {
            "model": "a" * 64,
            "data": "b" * 64,
            "samples": 1000,
            "population": 50000,
            "loss": "cross-entropy",
            "metrics": ("accuracy",),
            "grid": grid,
            "seed": 0,
            "normalization": "filter",
            "ignore": "biasbn",
            "orthogonal": False,
        }
        return EvalSpec(**(values | fields))

    return make


@pytest.fixture
def make_landscape(make_spec):
    """Returns a landscape with given values on a grid; `spec` holds fields, or is None."""

    def make(
        grid,
        loss,
        *,
        accuracy=None,
        stderr=None,
        evaluated=None,
        center=None,
        spec=(),
        model="resnet20",
        data="cifar10 test",
        **metrics,
    ):
        known = np.ones(grid.shape, dtype=bool) if evaluated is None else evaluated
        given = {"loss": loss, "accuracy": accuracy, "loss_stderr": stderr} | metrics
        surfaces = {
            name: np.where(known, np.broadcast_to(values, grid.shape), np.nan)
            for name, values in given.items()
            if values is not None
        }
        return Landscape(
            grid=grid,
            surfaces=surfaces,
            evaluated=known,
            center={"loss": 0.3, "accuracy": 0.912} if center is None else center,
            spec=None if spec is None else make_spec(grid, **dict(spec)),
            provenance={"model": model, "data": data},
        )

    return make


@pytest.fixture
def interpolated():
    """Returns a landscape as if all but some of its points had been interpolated."""

    def make(landscape, evaluated):
        record = Interpolation(
            method="adaptive",
            scale="log",
            tolerance=0.05,
            floor=1e-3,
            evaluated=int(evaluated.sum()),
            interpolated=int((~evaluated).sum()),
            held_out=1,
            largest_error=0.01,
            errors={},
            rounds=1,
        )
        return dataclasses.replace(landscape, evaluated=evaluated, interpolation=record)

    return make


@pytest.fixture
def plane_grid():
    """A grid of 7 alphas over [-1, 1] and 5 betas over [-0.5, 1.5]: no square."""
    return Grid(Axis(-1.0, 1.0, 7), Axis(-0.5, 1.5, 5))


@pytest.fixture
def slanted(make_landscape, plane_grid):
    """A plane with loss 10 + 2 alpha + 0.5 beta: no symmetry hides a swap."""
    alphas, betas = np.meshgrid(plane_grid.alphas, plane_grid.betas)
    return make_landscape(
        plane_grid, 10.0 + 2.0 * alphas + 0.5 * betas, accuracy=0.5 + 0.1 * alphas
    )


@pytest.fixture
def line(make_landscape):
    """A line along delta with loss 1 + alpha^2 + alpha / 2 and known errors."""
    grid = Grid(Axis(-1.0, 1.0, 11), None)
    alphas = grid.alphas
    return make_landscape(
        grid, 1.0 + alphas**2 + alphas / 2, accuracy=0.9 - 0.2 * alphas**2, stderr=0.1
    )
