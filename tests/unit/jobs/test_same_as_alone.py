"""A job of a real model has the landscape that `evaluate` gives in memory, to the bit."""

from __future__ import annotations

import asyncio
import functools

import numpy as np
import pytest
from fake_executor import FakeExecutor

from onnxscape.core.grid import Grid
from onnxscape.evaluation.engine import start_engine
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest
from onnxscape.evaluation.run import run_in_memory
from onnxscape.jobs.states import JobState
from onnxscape.storage import load_landscape


@pytest.fixture
def request_of(reference, digits_arrays):
    """Returns a request for the reference network on 40 of its samples."""
    return functools.partial(
        EvalRequest,
        model=reference / "model.onnx",
        data=digits_arrays,
        grid=Grid.parse("17x15", 0.4),
        samples=40,
        threads=1,
        strategy="overriding",
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"adaptive": True, "tolerance": 0.2}, {"two_level": 20}],
    ids=["all", "adaptive", "two-level"],
)
def test_a_job_has_the_landscape_of_a_run_in_memory(site, request_of, options):
    request = request_of(**options)
    expected = run_in_memory(request, QuietObserver()).landscape
    inputs = resolve(request, QuietObserver())
    engine = start_engine(inputs, None, QuietObserver())
    job_id = site.order(inputs.spec)

    def metrics(point):
        [(_, found)] = engine.evaluate([point])
        return found

    async def body():
        async with site.running(FakeExecutor(2, metrics=metrics)) as coordinator:
            return await site.ended(coordinator, job_id)

    job = asyncio.run(body())
    assert job.state is JobState.SUCCEEDED
    found = load_landscape(site.surfaces / f"{job_id}.h5")
    assert found.spec == expected.spec
    assert found.surfaces.keys() == expected.surfaces.keys()
    for name, values in expected.surfaces.items():
        assert np.array_equal(found.surfaces[name], values, equal_nan=True), name
    assert np.array_equal(found.evaluated, expected.evaluated)
    assert found.center == expected.center
    assert found.interpolation == expected.interpolation
    assert found.complete
