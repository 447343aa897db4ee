"""A spec, a plan and a landscape to store, and where the reference's files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from onnxscape.core.grid import Grid
from onnxscape.core.landscape import Landscape
from onnxscape.core.plan import Plan
from onnxscape.core.spec import EvalSpec
from onnxscape.storage import PointStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def reference() -> Path:
    return Path(__file__).parents[2] / "reference"


@pytest.fixture(scope="session")
def spec() -> EvalSpec:
    return EvalSpec(
        model="a" * 64,
        data="b" * 64,
        preprocessing={"mean": [0.1, 0.2], "layout": "NCHW"},
        samples=100,
        population=1000,
        loss="cross-entropy",
        metrics=("accuracy",),
        grid=Grid.parse("5x3"),
        seed=7,
        normalization="filter",
        ignore="biasbn",
        orthogonal=False,
    )


@pytest.fixture(scope="session")
def plan() -> Plan:
    return Plan(
        provider="CPUExecutionProvider",
        strategy="constant",
        batch=100,
        folded=True,
        runtime="1.32.0",
        machine="x86-64 AVX-512",
    )


@pytest.fixture
def landscape(spec: EvalSpec, plan: Plan) -> Landscape:
    generator = np.random.default_rng(0)
    evaluated = np.ones(spec.grid.shape, dtype=np.bool_)
    evaluated[0, 1] = False
    loss = generator.random(spec.grid.shape) * 100
    loss[2, 3], loss[1, 0], loss[2, 0] = np.inf, np.nan, -np.inf
    loss[0, 1] = np.nan
    accuracy = np.where(evaluated, generator.integers(0, 100, spec.grid.shape) / 100, np.nan)
    return Landscape(
        grid=spec.grid,
        surfaces={"loss": loss, "accuracy": accuracy, "loss_stderr": loss / 30.0},
        evaluated=evaluated,
        center={"loss": 0.25, "accuracy": 0.97, "loss_stderr": 0.01},
        spec=spec,
        plan=plan,
        provenance={"split": "test", "model": "net.onnx", "threads": 2},
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.h5"


@pytest.fixture
def store(output: Path) -> Iterator[PointStore]:
    with PointStore.open(output) as opened:
        yield opened
