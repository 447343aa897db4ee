"""What tests of the coordinator share: orders, and a store on which servers come and go."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

from fake_executor import FakeExecutor, bowl

from onnxscape.core.grid import Grid
from onnxscape.core.spec import EvalSpec
from onnxscape.evaluation.assembly import assembled
from onnxscape.evaluation.progress import Progress
from onnxscape.evaluation.schedule import make_schedule
from onnxscape.jobs.configuration import CoordinatorConfig
from onnxscape.jobs.coordinator import Coordinator
from onnxscape.jobs.job_store import JobStore
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.records import Estimate
from onnxscape.jobs.scheduler import SchedulerConfig
from onnxscape.jobs.states import FINISHED

SPEC = EvalSpec(
    model="ab" * 32,
    data="cd" * 32,
    samples=100,
    population=100,
    loss="cross-entropy",
    metrics=("accuracy",),
    grid=Grid.parse("5x5"),
    seed=0,
    normalization="filter",
    ignore="biasbn",
    orthogonal=False,
)

QUICK = CoordinatorConfig(
    turns=SchedulerConfig(chunk=1.0),
    lease_seconds=5.0,
    stop_seconds=0.05,
    rest_seconds=0.05,
    retry_seconds=0.02,
    look_seconds=0.02,
)
"""The config of tests: no test waits long for what is meant to take long."""


def spec_of(grid="5x5", **changes):
    """Returns a spec on a grid from -1 to 1."""
    return dataclasses.replace(SPEC, grid=Grid.parse(grid), **changes)


def reference(spec, metrics=bowl, failed=()):
    """Returns the landscape of a spec as one loop over its schedule makes it."""
    progress, schedule, results = Progress(spec.grid), make_schedule(spec), {}
    for points in schedule.rounds(progress):
        for point in progress.missing(points):
            if (point.row, point.column) not in failed:
                results[point.row, point.column] = values = metrics(point)
                progress.add(point.row, point.column, values["loss"])
            else:
                progress.add(point.row, point.column, float("nan"))
    landscape = assembled(spec, results, None, {})
    return schedule.finished(landscape)


class Site:
    """A folder with a store, in which coordinators run one after another."""

    def __init__(self, folder):
        self.folder, self.surfaces = folder, folder / "surfaces"
        self.store = JobStore.open(folder / "jobs.sqlite")
        self.orders = 0

    def order(self, spec=SPEC, *, user="ann", priority=0, affinity=None, seconds=0.0, **order):
        """Stores a job; returns its ID."""
        self.orders += 1
        model = affinity or f"{self.orders:064x}"
        job, made = self.store.create_job(
            user=user,
            order=Order(
                model=model,
                model_name="bowl",
                data=DataRef(name="digits"),
                options={"seed": self.orders},
                **order,
            ),
            spec=spec.to_json(),
            display_name="",
            priority=priority,
            estimate=Estimate(spec.grid.size, seconds, 1 << 20),
            notes=(),
            warnings=(),
            total=make_schedule(spec).total,
            request_id=None,
            now=1000.0 + self.orders,
        )
        assert made
        return job.id

    def job(self, job_id):
        return self.store.job(job_id)

    def coordinator(self, executor=None, config=QUICK, **options):
        return Coordinator(
            self.store,
            executor or FakeExecutor(),
            surfaces=self.surfaces,
            config=config,
            **options,
        )

    @contextlib.asynccontextmanager
    async def running(self, executor=None, config=QUICK, **options):
        """Starts a coordinator and closes it: with no warning, as a kill would."""
        coordinator = self.coordinator(executor, config, **options)
        async with asyncio.timeout(30):
            await coordinator.start()
            try:
                yield coordinator
            finally:
                await coordinator.close()

    async def ended(self, coordinator, job_id):
        """Waits until a job has ended, and returns it."""
        return await self.until(coordinator, job_id, lambda job: job.state in FINISHED)

    async def until(self, coordinator, job_id, reached):
        """Waits until a job is as wanted, and returns it."""
        while not reached(job := self.store.job(job_id)):
            assert job.state not in FINISHED, job
            await coordinator.changed(job_id, job.revision, 10.0)
        return job
