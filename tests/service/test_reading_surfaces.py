"""Surfaces over the wire: to the bit those of the store, partial or finished."""

from __future__ import annotations

import asyncio
import errno
import tempfile
import threading
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from fake_executor import FakeExecutor, Hold
from jobs_server import refused, run, served, spec_message

from onnxscape.core.grid import Point
from onnxscape.service.jobs import job_service, surface_messages
from onnxscape.service.jobs.surface_messages import PIECE_BYTES, PIECE_VALUES
from onnxscape.storage import load_landscape
from onnxscape.v1 import jobs_pb2

if TYPE_CHECKING:
    from onnxscape.core.landscape import Landscape

ARRAYS, HDF5 = jobs_pb2.SURFACE_FORMAT_ARRAYS, jobs_pb2.SURFACE_FORMAT_HDF5


def odd(point: Point) -> dict[str, float]:
    """Return metrics whose bits are easily lost."""
    loss = 1 / 3 + point.alpha * np.pi + point.beta
    if point.row == 0:
        loss = [float("nan"), float("inf"), float("-inf"), 5e-324, -0.0][point.column % 5]
    return {"loss": loss, "accuracy": 0.1 * point.column, "loss_stderr": 1e-17}


def arrays_of(responses):
    """Return header and arrays, as any client would put them together."""
    header, *pieces = responses
    assert header.WhichOneof("part") == "header"
    size = int(np.prod(header.header.shape))
    arrays = {}
    for response in pieces:
        piece = response.piece
        values = arrays.setdefault(piece.metric, np.full(size, 7.5))
        assert 0 < len(piece.values) <= PIECE_VALUES
        values[piece.offset : piece.offset + len(piece.values)] = piece.values
    assert list(arrays) == list(header.header.metrics)
    return header.header, {k: v.reshape(header.header.shape) for k, v in arrays.items()}


def file_of(responses, path) -> Landscape:
    assert {r.WhichOneof("part") for r in responses} == {"file"}
    assert max(len(r.file) for r in responses) <= PIECE_BYTES
    path.write_bytes(b"".join(r.file for r in responses))
    return load_landscape(path)


def same_bits(one, two):
    return np.asarray(one, np.float64).tobytes() == np.asarray(two, np.float64).tobytes()


def check_arrays(header, arrays, landscape):
    """Check that arrays tell the same as a surface file does."""
    assert tuple(header.shape) == landscape.grid.shape
    for told, own in ((header.x, landscape.alphas), (header.y, landscape.betas)):
        assert same_bits(told, [] if own is None else own)
    assert set(arrays) == {*landscape.surfaces, "evaluated"}
    for name, values in landscape.surfaces.items():
        assert same_bits(arrays[name], values), name
    assert same_bits(arrays["evaluated"], landscape.evaluated)
    assert dict(header.center) == dict(landscape.center)
    assert header.complete == landscape.complete
    assert header.spec_json == landscape.spec.to_json()
    assert header.plan_json == landscape.plan.to_json()


def test_a_finished_surface_is_the_file_that_was_written(tmp_path):
    async def scenario():
        async with served(tmp_path, executor=FakeExecutor(metrics=odd)) as server:
            job = await server.create()
            await server.finished(job.name)
            path = tmp_path / "surfaces" / f"{job.name.removeprefix('jobs/')}.h5"
            responses = await server.surface(job.name, HDF5)
            assert b"".join(r.file for r in responses) == path.read_bytes()
            landscape = load_landscape(path)
            check_arrays(*arrays_of(await server.surface(job.name, ARRAYS)), landscape)
            assert same_bits(
                landscape.loss[0], [odd(Point(0, c, 0, 0))["loss"] for c in range(5)]
            )
            assert landscape.complete

    run(scenario)


def test_arrays_are_what_is_sent_if_nothing_is_said(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            await server.finished(job.name)
            for responses in [await server.surface(job.name, f) for f in (0, ARRAYS)]:
                header, arrays = arrays_of(responses)
                assert header.complete
                assert arrays["loss"][2, 2] == header.center["loss"] == 1.0

    run(scenario)


def test_a_partial_surface_has_the_points_that_are_there_and_gaps(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(metrics=odd), Hold()
        executor.at_point(0, 4, hold)
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            await hold.reached.wait()
            identifier = job.name.removeprefix("jobs/")
            # The center, and two corners before the one that is held.
            while (count := server.store.job(identifier).done) < 3:
                await asyncio.sleep(0.01)
            header, arrays = arrays_of(await server.surface(job.name, ARRAYS))
            landscape = file_of(await server.surface(job.name, HDF5), tmp_path / "p.h5")
            check_arrays(header, arrays, landscape)
            assert not header.complete
            assert arrays["evaluated"].sum() == count < 25
            for (row, column), metrics in server.store.results(identifier).items():
                assert same_bits(arrays["loss"][row, column], metrics["loss"])
            assert np.isnan(arrays["loss"][arrays["evaluated"] == 0]).all()
            hold.go.set()
            await server.finished(job.name)
            header, arrays = arrays_of(await server.surface(job.name, ARRAYS))
            assert header.complete

    run(scenario)


def test_a_job_that_has_not_begun_has_a_surface_of_gaps(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(), Hold()
        executor.at_loading(hold)
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            header, arrays = arrays_of(await server.surface(job.name, ARRAYS))
            assert (header.plan_json, dict(header.center)) == ("", {})
            assert not arrays["evaluated"].any()
            assert np.isnan(arrays["loss"]).all()
            landscape = file_of(await server.surface(job.name, HDF5), tmp_path / "e.h5")
            assert not landscape.evaluated.any()

    run(scenario)


def test_a_cancelled_job_keeps_the_points_that_it_had(tmp_path):
    async def scenario():
        executor, hold = FakeExecutor(), Hold()
        executor.at_point(0, 4, hold)
        async with served(tmp_path, executor=executor) as server:
            job = await server.create()
            await hold.reached.wait()
            await server.stub.CancelJob(jobs_pb2.CancelJobRequest(name=job.name))
            hold.go.set()
            done = await server.finished(job.name)
            _, arrays = arrays_of(await server.surface(job.name, ARRAYS))
            assert arrays["evaluated"].sum() == done.point_count > 0

    run(scenario)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_line_has_one_axis(tmp_path, axis):
    async def scenario():
        async with served(tmp_path) as server:
            grid = {axis: {"start": -1, "stop": 1, "num": 9}}
            job = await server.create(spec_message(grid=grid))
            await server.finished(job.name)
            header, arrays = arrays_of(await server.surface(job.name, ARRAYS))
            assert list(header.shape) == [9]
            lengths = (len(header.x), len(header.y))
            assert lengths == ((9, 0) if axis == "x" else (0, 9))
            steps = np.linspace(-1, 1, 9)
            truth = steps**2 + 1 if axis == "x" else 2 * steps**2 + 1
            assert same_bits(arrays["loss"], truth)

    run(scenario)


def test_a_large_surface_comes_in_pieces(tmp_path):
    async def scenario():
        async with served(tmp_path, executor=FakeExecutor(slots=2, seconds=0.001)) as server:
            axis = {"start": -1, "stop": 1, "num": 70_001}
            job = await server.create(spec_message(grid={"x": axis}))
            await server.coordinator.cancel(job.name.removeprefix("jobs/"))
            responses = await server.surface(job.name, ARRAYS)
            header, arrays = arrays_of(responses)
            assert len(header.x) == 70_001
            assert {r.piece.offset for r in responses[1:]} == {0, PIECE_VALUES}
            assert not (arrays["loss"] == 7.5).any(), "every value was sent"
            data = b"".join(r.file for r in await server.surface(job.name, HDF5))
            assert len(data) > PIECE_BYTES

    run(scenario)


def test_somebody_elses_surface_cannot_be_read(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            await server.finished(job.name)
            request = jobs_pb2.ReadSurfaceRequest(name=job.name, format=HDF5)
            call = server.stub.ReadSurface(request, metadata=(("user", "bob"),))
            assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND

    run(scenario)


@pytest.mark.parametrize(
    ("name", "form", "field"),
    [("jobs/../../etc/passwd", HDF5, "name"), ("jobs/..", HDF5, "name"), ("JOB", 7, "format")],
)
def test_what_means_nothing_is_refused(tmp_path, name, form, field):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            request = jobs_pb2.ReadSurfaceRequest(name=name.replace("JOB", job.name))
            request.format = form
            found = await refused(server.stub.ReadSurface(request))
            assert (found.code, found.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])

    run(scenario)


def test_a_damaged_file_is_the_servers_own_trouble_and_its_path_is_not_told(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            await server.finished(job.name)
            path = tmp_path / "surfaces" / f"{job.name.removeprefix('jobs/')}.h5"
            path.write_bytes(b"no HDF5")
            request = jobs_pb2.ReadSurfaceRequest(name=job.name)
            found = await refused(server.stub.ReadSurface(request))
            assert (found.code, found.reason) == (
                grpc.StatusCode.DATA_LOSS,
                "SurfaceFileError",
            )
            assert str(tmp_path) not in found.message

    run(scenario)


def test_readers_that_leave_give_everything_back(tmp_path):
    async def scenario():
        async with served(
            tmp_path, job_device_seconds=1e6, quota_device_seconds=1e6
        ) as server:
            axis = {"start": -1, "stop": 1, "num": 200_001}
            job = await server.create(spec_message(grid={"y": axis}))
            await server.coordinator.cancel(job.name.removeprefix("jobs/"))
            request = jobs_pb2.ReadSurfaceRequest(name=job.name)
            for read in (False, True):
                call = server.stub.ReadSurface(request)
                if read:
                    await call.read()
                else:
                    await asyncio.sleep(0.02)
                call.cancel()
                while server.calls["ReadSurface"]:
                    await asyncio.sleep(0.01)
            # No file is left, with a name or without: an open one would warn here.
            await server.servicer.close()
            assert [p for p in (tmp_path / "surfaces").iterdir() if p.suffix != ".h5"] == []

    run(scenario)


def test_a_surface_that_is_deleted_before_it_is_read_is_not_found(tmp_path):
    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            await server.finished(job.name)
            identifier = job.name.removeprefix("jobs/")
            (tmp_path / "surfaces" / f"{identifier}.h5").write_bytes(b"")
            asked, look = asyncio.Event(), server.store.job
            loop = asyncio.get_running_loop()

            def vanishing(job_id, user=None):
                found = look(job_id, user)
                if not asked.is_set():
                    loop.call_soon_threadsafe(asked.set)
                    server.store.delete_job(job_id)
                return found

            server.store.job = vanishing
            server.store.job_now = lambda *_: None  # it has to be asked for
            request = jobs_pb2.ReadSurfaceRequest(name=job.name)
            found = await refused(server.stub.ReadSurface(request))
            assert found.code is grpc.StatusCode.NOT_FOUND

    run(scenario)


def test_a_disk_without_room_is_said_to_be_one(tmp_path, monkeypatch):
    def full(**_options):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    async def scenario():
        async with served(tmp_path) as server:
            job = await server.create()
            await server.finished(job.name)
            monkeypatch.setattr(tempfile, "TemporaryFile", full)
            arrays_of(await server.surface(job.name, ARRAYS))  # a small one needs no disk
            monkeypatch.setattr(surface_messages, "SMALL_BYTES", 0)
            request = jobs_pb2.ReadSurfaceRequest(name=job.name)
            found = await refused(server.stub.ReadSurface(request))
            assert (found.code, found.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "DiskFullError",
            )
            assert str(tmp_path) not in found.message
            monkeypatch.undo()
            arrays_of(await server.surface(job.name, ARRAYS))

    run(scenario)


@pytest.mark.parametrize("form", [ARRAYS, HDF5])
def test_a_large_surface_leaves_the_disk_its_room(tmp_path, monkeypatch, form):
    async def scenario():
        executor = FakeExecutor()
        executor.at_loading(Hold())
        async with served(tmp_path, executor=executor, free_kept=1 << 60) as server:
            job = await server.create()
            monkeypatch.setattr(surface_messages, "SMALL_BYTES", 0)
            request = jobs_pb2.ReadSurfaceRequest(name=job.name, format=form)
            assert (await refused(server.stub.ReadSurface(request))).reason == "DiskFullError"

    run(scenario)


def test_a_user_reads_so_many_surfaces_and_others_read_meanwhile(tmp_path, monkeypatch):
    entered, go, opened = threading.Semaphore(0), threading.Event(), []
    opening = job_service.open_surface

    def slow(job, *arguments, **options):
        opened.append(job.user)
        entered.release()
        if job.user == "alice":
            assert go.wait(30)
        return opening(job, *arguments, **options)

    monkeypatch.setattr(job_service, "open_surface", slow)

    async def scenario():
        async with served(tmp_path) as server:
            own = await server.create()
            offered = spec_message(model="models/offered")
            others = await server.create(offered, user="bob")
            for job, user in ((own, "alice"), (others, "bob")):
                await server.watch(job.name, user=user)
            request = jobs_pb2.ReadSurfaceRequest(name=own.name)
            calls = [server.stub.ReadSurface(request) for _ in range(4)]
            reads = [asyncio.ensure_future(call.read()) for call in calls]
            await asyncio.to_thread(entered.acquire)
            while server.calls["ReadSurface"] < 4:
                await asyncio.sleep(0.01)
            found = await refused(server.stub.ReadSurface(request))
            assert (found.code, found.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "SURFACES",
            )
            assert found.retry > 0
            arrays_of(await server.surface(others.name, ARRAYS, user="bob"))
            for call in calls:
                call.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
            while server.calls["ReadSurface"]:
                await asyncio.sleep(0.01)
            # The caller has left, but the one that is being opened is not over.
            later = asyncio.ensure_future(server.surface(own.name, ARRAYS))
            await asyncio.sleep(0.05)
            assert opened == ["alice", "bob"]
            go.set()
            arrays_of(await later)
            assert opened == ["alice", "bob", "alice"], "what nobody awaits is not opened"

    run(scenario)
