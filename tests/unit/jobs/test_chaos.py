"""Whatever happens to workers, leases and the server: every point once, the same surface."""

from __future__ import annotations

import asyncio
import dataclasses
import random

import numpy as np
import pytest
from coordination import QUICK, reference, spec_of
from fake_executor import Crash, FakeExecutor, Shrink, Twice, Wait

from onnxscape.jobs.scheduler import SchedulerConfig
from onnxscape.jobs.states import FINISHED, JobState
from onnxscape.storage import load_landscape

CONFIG = dataclasses.replace(
    QUICK,
    turns=SchedulerConfig(chunk=0.5, affinity=0.05, patience=1.0),
    lease_seconds=0.25,
    longest_chunk=0.03,
)


def rugged(point):
    loss = 1 + point.alpha**2 + float(np.tanh(20 * (point.beta - 0.3 * point.alpha)))
    samples = float(point.samples or 100)
    few = {"subset_loss": loss * 1.1, "subset_accuracy": 1 / (2 + loss)}
    whole = {"loss": loss if samples == 100 else loss * 1.1, "accuracy": 1 / (1 + loss)}
    return whole | few | {"loss_stderr": 0.01 * loss, "samples_used": samples}


class BreaksDown(FakeExecutor):
    """An executor that has faults at random, but never three of a kind at one point."""

    def __init__(self, chance, slots):
        super().__init__(slots, metrics=rugged, seconds=0.05, pace=chance.choice([0, 0.0005]))
        self.chance = chance
        for row in range(17):
            for column in range(17):
                if chance.random() < 0.06:
                    faults = [Crash(), Crash("memory"), Wait(0.4), Shrink(), Twice()]
                    self.at_point(row, column, chance.choice(faults))

    async def run(self, slot, chunk):
        if self.chance.random() < 0.03:
            raise OSError("no more processes")
        events = super().run(slot, chunk)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()


@pytest.mark.parametrize("seed", range(6))
def test_every_point_is_there_once_whatever_breaks(site, seed):
    chance = random.Random(seed)  # noqa: S311 - the same faults in every run
    kinds = [{}, {"tolerance": 0.05}, {"two_level": 20}]
    specs = {}
    for user in ("ann", "bob", "ann"):
        spec = spec_of("17x17", **chance.choice(kinds))
        specs[site.order(spec, user=user, priority=chance.randrange(3))] = spec
    watched = {job_id: [] for job_id in specs}

    async def watch(coordinator, job_id):
        """Attaches again where the server before was killed."""
        seen = watched[job_id]
        while True:
            last = seen[-1].revision if seen else 0
            if not (new := site.store.points_after(job_id, last, 50)):
                if site.job(job_id).state in FINISHED:
                    return
                await coordinator.changed(job_id, site.job(job_id).revision, 1.0)
            seen.extend(new)

    async def live(seconds):
        executor = BreaksDown(chance, chance.randint(1, 4))
        async with site.running(executor, CONFIG) as coordinator:
            watching = [asyncio.create_task(watch(coordinator, job_id)) for job_id in specs]
            await asyncio.wait(watching, timeout=seconds)
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)

    for _ in range(4):
        asyncio.run(live(chance.uniform(0.05, 0.4)))
    while any(site.job(job_id).state not in FINISHED for job_id in specs):
        asyncio.run(live(20))

    for job_id, spec in specs.items():
        job = site.job(job_id)
        if job.failed or job.state is not JobState.SUCCEEDED:
            # Strikes outlast restarts, and each server has faults of its own.
            assert max(site.store.strikes(job_id).values()) >= 3
            continue
        revisions = [point.revision for point in watched[job_id]]
        assert revisions == sorted(set(revisions))
        places = [(p.point.row, p.point.column) for p in watched[job_id]]
        assert len(places) == len(set(places)) == job.done == job.total
        found = load_landscape(site.surfaces / f"{job_id}.h5")
        expected = reference(spec, rugged)
        for name, values in expected.surfaces.items():
            assert np.array_equal(found.surfaces[name], values, equal_nan=True), name
        assert np.array_equal(found.evaluated, expected.evaluated)
        assert found.interpolation == expected.interpolation
    assert sum(site.job(job_id).state is JobState.SUCCEEDED for job_id in specs) >= 2
