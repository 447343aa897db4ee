"""Local workers keep the protocol, give the numbers of a local run, and die without harm."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from executor_conformance import ExecutorConformance, events_of, points_of
from fake_executor import PLAN

import onnxscape as ox
from onnxscape.core.grid import Axis, Grid
from onnxscape.evaluation.inputs import resolve
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.evaluation.request import EvalRequest
from onnxscape.jobs import worker, worker_process
from onnxscape.jobs.executor import (
    Beat,
    Chunk,
    Failed,
    Finished,
    Lost,
    PointDone,
    Ready,
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


def with_workers(subject, body, *, slots=1, **limits):
    """Return what a coroutine function of an executor and its slots returns."""

    async def all_of_it():
        async with asyncio.timeout(120), subject.executor(slots, **limits) as executor:
            return await body(executor, *executor.slots)

    return asyncio.run(all_of_it())


def few(chunk, count=2, **changes):
    return replace(chunk, points=chunk.points[:count], **changes)


def test_a_worker_killed_while_it_loads_is_lost_loading_and_the_slot_goes_on(subject):
    async def body(executor, slot):
        running = asyncio.create_task(events_of(executor, slot, subject.chunk))
        await asyncio.sleep(0.05)
        os.kill(pid_of(executor, slot), signal.SIGKILL)
        return await running, await events_of(executor, slot, few(subject.chunk))

    lost, after = with_workers(subject, body)
    assert [(e.reason, e.loading) for e in lost] == [("killed", True)]
    assert len(points_of(after)) == 2


def test_a_worker_killed_between_chunks_costs_nothing_but_loading(subject):
    async def body(executor, slot):
        await events_of(executor, slot, few(subject.chunk))
        os.kill(pid_of(executor, slot), signal.SIGKILL)
        await asyncio.sleep(0.3)
        loaded = executor.loaded(slot)
        return loaded, await events_of(executor, slot, few(subject.chunk, lease=2)), executor

    loaded, after, executor = with_workers(subject, body)
    assert loaded == ()
    assert isinstance(after[-1], Finished)
    assert executor.counters.started == 2
    assert executor.counters.lost == {}


def test_a_crash_names_its_signal(subject):
    slow = subject.slowly(subject.chunk)

    async def body(executor, slot):
        async def crash():
            os.kill(pid_of(executor, slot), signal.SIGSEGV)

        return await events_of(
            executor, slot, slow, lambda e: crash() if isinstance(e, PointDone) else None
        ), executor.counters

    events, counters = with_workers(subject, body)
    assert events[-1].reason == "crashed"
    assert "SIGSEGV" in events[-1].message
    assert counters.lost == {"crashed": 1}


def test_a_worker_that_takes_too_much_memory_is_lost_for_memory(subject):
    async def body(executor, slot):
        return await events_of(executor, slot, subject.chunk)

    events = with_workers(subject, body, memory=40 << 20)
    assert [(e.reason, e.loading) for e in events] == [("memory", True)]
    assert "it may use 40 MiB" in events[0].message


def test_a_worker_that_takes_too_long_to_load_is_lost_for_time(subject):
    async def body(executor, slot):
        return await events_of(executor, slot, subject.chunk)

    events = with_workers(subject, body, loading_seconds=0.3)
    assert [(e.reason, e.loading) for e in events] == [("time", True)]
    assert "to load" in events[0].message


def test_a_worker_that_takes_too_long_for_a_point_is_lost_for_time(subject):
    slow = subject.slowly(subject.chunk)

    async def body(executor, slot):
        async def stop():
            os.kill(pid_of(executor, slot), signal.SIGSTOP)

        return await events_of(
            executor, slot, slow, lambda e: stop() if isinstance(e, PointDone) else None
        )

    events = with_workers(subject, body, point_seconds=1.5)
    assert (events[-1].reason, events[-1].loading) == ("time", False)
    assert "for a point" in events[-1].message


def test_a_chunk_is_refused_where_another_one_runs(subject):
    async def body(executor, slot):
        running = asyncio.create_task(events_of(executor, slot, few(subject.chunk)))
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="another chunk"):
            await anext(executor.run(slot, subject.chunk))
        return await running

    assert len(points_of(with_workers(subject, body))) == 2


def test_a_worker_keeps_as_many_jobs_as_it_may(subject):
    async def body(executor, slot):
        found = []
        for number, chunk in enumerate([subject.chunk, subject.other, subject.chunk]):
            await events_of(executor, slot, replace(chunk, points=(), lease=number))
            found.append([job for job, _ in executor.loaded(slot)])
        return found

    assert with_workers(subject, body, cache=1) == [["one"], ["two"], ["one"]]
    assert with_workers(subject, body, cache=2) == [["one"], ["one", "two"], ["two", "one"]]


def test_a_loaded_job_takes_over_a_plan_that_memory_made_smaller_elsewhere(subject):
    async def body(executor, slot):
        first = await events_of(executor, slot, few(subject.chunk, 0))
        plan = json.loads(first[0].plan)
        other = json.dumps(
            plan | {"batch": plan["batch"] // 2}, sort_keys=True, separators=(",", ":")
        )
        return other, await events_of(executor, slot, few(subject.chunk, plan=other, lease=2))

    other, events = with_workers(subject, body)
    assert events[0].plan == other
    for event in events:
        if isinstance(event, PointDone):
            assert event.metrics["loss"] == pytest.approx(subject.metrics(event.point)["loss"])


def test_a_plan_of_another_strategy_than_asked_for_fails_the_job(subject):
    async def body(executor, slot):
        first = await events_of(executor, slot, few(subject.chunk, 0))
        order = replace(subject.chunk.order, strategy="overriding")
        chunk = few(subject.chunk, job="new", order=order, plan=first[0].plan, lease=2)
        return await events_of(executor, slot, chunk)

    (failed,) = with_workers(subject, body)
    assert failed.reason == "SpecConflictError"


def test_a_blob_that_is_missing_fails_the_job_without_telling_where_it_was_looked_for(subject):
    async def body(executor, slot):
        data = DataRef(name="mine.npz", blob="00" * 32)
        chunk = few(subject.chunk, order=replace(subject.chunk.order, data=data), job="new")
        return await events_of(executor, slot, chunk)

    (failed,) = with_workers(subject, body)
    assert failed == Failed("DataError", "there is no file mine.npz")


def test_a_chunk_can_be_given_back_while_its_job_loads(subject):
    async def body(executor, slot):
        running = asyncio.create_task(events_of(executor, slot, subject.chunk))
        await asyncio.sleep(0.05)
        executor.give_back(slot)
        return await running

    assert [type(e) for e in with_workers(subject, body)] == [Ready, Finished]


def test_workers_beat_while_they_load_and_compute(subject, monkeypatch):
    slow = subject.slowly(subject.chunk)

    async def body(executor, slot):
        return [event async for event in executor.run(slot, slow)]

    monkeypatch.setattr(worker_process, "_CODE", QUICK_BEATS)
    beats = [event for event in with_workers(subject, body) if isinstance(event, Beat)]
    assert len(beats) > 3
    assert all(10 << 20 < beat.memory < 4 << 30 for beat in beats)


QUICK_BEATS = "from onnxscape.jobs import worker; worker.BEAT_SECONDS = 0.05; worker.main()"
SERVER = """
import asyncio, sys, os, signal
from pathlib import Path
from onnxscape.jobs.executor import Slot
from onnxscape.jobs.local_workers import LocalExecutor

async def main():
    executor = LocalExecutor([Slot("cpu/0", "cpu")], blobs=Path("."), data_dir=None)
    await executor.start()
    print(executor._places["cpu/0"].worker.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_workers_end_with_a_server_that_is_killed():
    run = subprocess.run(
        [sys.executable, "-c", SERVER], capture_output=True, text=True, check=False
    )
    assert run.returncode == -signal.SIGKILL
    ended = False
    for _ in range(100):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(run.stdout), 0)
            if "State:\tZ" not in Path(f"/proc/{int(run.stdout)}/status").read_text():
                time.sleep(0.1)
                continue
        ended = True
        break
    assert ended


def test_the_server_process_imports_nothing_that_reads_or_runs_models():
    code = (
        "import sys, onnxscape.jobs.local_workers, onnxscape.jobs.validation\n"
        "print(sorted({'onnx', 'onnxruntime', 'onnx_ir', 'h5py'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


# --- workers that went mad ---------------------------------------------------------------

MAD = """
import json, os, sys, time
chunk = json.loads(sys.stdin.readline())
lease, points = chunk["lease"], chunk["points"]
PLAN = {plan!r}

def say(kind, **values):
    line = json.dumps({{"kind": kind, "lease": values.pop("lease", lease), **values}})
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

def ready(**values):
    base = dict(plan=PLAN, provenance={{}}, outline={{}}, seconds_per_point=1.0, notes=[],
                warnings=[])
    say("ready", **(base | values))

def point(at, **values):
    base = dict(point=points[at], metrics={{"loss": 1.0}}, seconds=1.0)
    say("point", **(base | values))

{body}
sys.stdin.read()
"""


def mad_events(subject, monkeypatch, body, **limits):
    """Return the events of a worker that runs this body."""
    plan = PLAN.to_json()
    monkeypatch.setattr(worker_process, "_CODE", MAD.format(plan=plan, body=body))

    async def once(executor, slot):
        return await events_of(executor, slot, few(subject.chunk, 3))

    return with_workers(subject, once, **limits)


def test_a_slot_goes_on_after_a_mad_worker(subject, monkeypatch):
    honest = worker_process._CODE
    monkeypatch.setattr(worker_process, "_CODE", "print('x' * (3 << 20), flush=True); input()")

    async def both(executor, slot):
        first = await events_of(executor, slot, subject.chunk)
        monkeypatch.setattr(worker_process, "_CODE", honest)
        return first, await events_of(executor, slot, few(subject.chunk, lease=2))

    first, after = with_workers(subject, both)
    assert [type(e) for e in first] == [Lost]
    assert len(points_of(after)) == 2


def test_the_mad_worker_can_be_honest(subject, monkeypatch):
    body = "ready(); point(0); point(1); point(2); say('finished')"
    events = mad_events(subject, monkeypatch, body)
    assert [type(e) for e in events] == [Ready, PointDone, PointDone, PointDone, Finished]


@pytest.mark.parametrize(
    "body",
    [
        "print('nonsense', flush=True)",
        "print('[]', flush=True)",
        "print('{}', flush=True)",
        "print('[' * 100000, flush=True)",
        "sys.stdout.buffer.write(bytes(range(256)) + b'\\n'); sys.stdout.flush()",
        "sys.stdout.write('x' * (3 << 20)); sys.stdout.flush()",
        "say('unknown')",
        "say('finished')",
        "point(0)",
        "say('replanned', plan=PLAN, warning='')",
        "ready(); ready()",
        "ready(plan='{}')",
        "ready(plan='not json')",
        "ready(plan=PLAN + ' ')",
        "ready(notes=['x' * 10000])",
        "ready(notes=['x'] * 10000)",
        "ready(); say('finished')",
        "ready(); point(0); point(0)",
        "ready(); point(0, point=[77, 0, 0.0, 0.0, None])",
        "ready(); point(0, point=points[0][:2] + [0.125, 0.125, None])",
        "ready(); point(0, metrics={})",
        "ready(); point(0, metrics={'accuracy': 1.0})",
        "ready(); point(0, metrics={'loss': 'low'})",
        "ready(); point(0, metrics={'loss': True})",
        "ready(); point(0, metrics={'loss': 10**400})",
        "ready(); point(0, seconds=None)",
        "ready(); say('beat', memory=2**70)",
        "os.close(1)",
        "sys.exit(3)",
    ],
)
def test_a_worker_that_breaks_the_protocol_is_lost(body, subject, monkeypatch):
    events = mad_events(subject, monkeypatch, body)
    assert isinstance(events[-1], Lost)
    assert events[-1].reason == "crashed"
    assert len(events[-1].message) < 500
    assert len(points_of(events)) <= 1


def test_a_worker_that_talks_and_does_nothing_is_lost_for_time(subject, monkeypatch):
    body = "ready()\nwhile True: say('beat', memory=1, lease=0)"
    events = mad_events(subject, monkeypatch, body, point_seconds=0.5)
    assert events[-1].reason == "time"


def test_a_worker_without_memory_says_so_by_its_status(subject, monkeypatch):
    events = mad_events(subject, monkeypatch, f"ready(); os._exit({worker.OUT_OF_MEMORY})")
    assert events[-1].reason == "memory"


def test_workers_do_not_see_the_secrets_of_the_server(subject, monkeypatch):
    monkeypatch.setenv("ONNXSCAPE_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    body = "say('failed', reason='X', message=str(sorted(os.environ)))"
    (failed,) = mad_events(subject, monkeypatch, body)
    assert "'PATH'" in failed.message
    assert "ONNXSCAPE_" not in failed.message
    assert "AWS" not in failed.message


def test_what_a_worker_prints_does_no_harm_and_is_logged_if_it_dies(
    subject, monkeypatch, caplog
):
    body = "sys.stderr.write('noise ' * 10**6 + 'last words'); sys.stderr.flush(); os._exit(9)"
    events = mad_events(subject, monkeypatch, body)
    assert events[-1].reason == "crashed"
    assert "last words" in caplog.text
    assert len(caplog.text) < 20000
