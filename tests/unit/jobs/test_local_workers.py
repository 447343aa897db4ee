"""Local workers keep the protocol, give the numbers of a local run, and die without harm."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from executor_conformance import ExecutorConformance, events_of, points_of

import onnxscape as ox
from onnxscape.core.grid import Axis, Grid
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest
from onnxscape.jobs.executor import (
    Chunk,
    Slot,
    WorkerLimits,
)
from onnxscape.jobs.local_workers import LocalExecutor
from onnxscape.jobs.order import DataRef, Order

MODEL = Path(__file__).parents[3] / "models" / "digits_cnn.onnx"
GRID = Grid(Axis(-1, 1, 5), Axis(-1, 1, 5))


class LocalSubject:
    """Workers, and the landscape of a local run as the truth."""

    def __init__(self, blobs):
        self.blobs = blobs
        sha = self.add(MODEL.read_bytes())
        order = Order(
            model=sha,
            model_name="digits_cnn",
            data=DataRef(name="digits"),
            options={"x": [-1, 1, 5], "y": [-1, 1, 5], "samples": 200, "seed": 7},
        )
        self.chunk = self.of("one", order)
        self.other = self.of("two", replace(order, options=order.options | {"seed": 8}))
        self.hopeless = replace(self.chunk, job="three", spec="ab" * 32)
        self.truth = local_landscape(samples=200, seed=7)

    def add(self, content):
        sha = hashlib.sha256(content).hexdigest()
        path = self.blobs / sha[:2] / sha
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return sha

    def of(self, job, order):
        return Chunk(
            job=job,
            lease=1,
            order=order,
            plan=None,
            spec=spec_digest(order),
            points=tuple(GRID.points()),
            total=25,
        )

    @contextlib.asynccontextmanager
    async def executor(self, slots, **limits):
        executor = LocalExecutor(
            [Slot(f"cpu/{number}", "cpu") for number in range(slots)],
            blobs=self.blobs,
            data_dir=None,
            limits=WorkerLimits(**limits),
        )
        await executor.start()
        try:
            yield executor
        finally:
            await executor.close()

    def metrics(self, point):
        index = GRID.index(point)
        return {name: surface[index] for name, surface in self.truth.surfaces.items()}

    async def kill(self, executor, slot):
        os.kill(pid_of(executor, slot), signal.SIGKILL)

    def slowly(self, chunk):
        options = chunk.order.options | {"samples": "all"}
        order = replace(chunk.order, options=options)
        return replace(chunk, job="slow", order=order, spec=spec_digest(order))


def pid_of(executor, slot):
    return executor._places[slot.name].worker.pid


def local_landscape(**options):
    return ox.evaluate(MODEL, "digits", grid="5x5", **options)


def spec_digest(order):
    options = {k: v for k, v in order.options.items() if k not in {"x", "y"}}
    request = EvalRequest(model=MODEL, data="digits", grid=GRID, **options)
    return resolve(request, QuietObserver()).spec.digest()


@pytest.fixture(scope="session")
def local_subject(tmp_path_factory):
    return LocalSubject(tmp_path_factory.mktemp("blobs"))


@pytest.fixture
def subject(local_subject):
    return local_subject


class TestLocal(ExecutorConformance):
    @pytest.fixture
    def subject(self, local_subject):
        return local_subject
