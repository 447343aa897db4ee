"""How a server bears many clients: 100 of them order, watch and fetch for a minute.

Starts `onnxscape serve` with one worker of one thread, lets clients loose on it, and beside
them watchers that never read. Prints what was answered, how long GetJob took, and the memory
of the server before and after.

    python benchmarks/service_load.py

Each client orders a small landscape of its own seed, asks for it ten times, watches it for
some seconds, reads its surface, and begins anew; between two calls it rests for `--pause`
seconds on average (0: as many calls as the machine bears, which measures the queue before the
server). A refusal with RESOURCE_EXHAUSTED is an answer: the client waits as long as it is told
to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
from common.machine import add_out_option, describe, keep, rounded

from onnxscape.runtime.devices import find_device
from onnxscape.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[1]
MODEL = (ROOT / "models" / "digits_cnn.onnx").read_bytes()
BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED


class Load:
    """What the clients see.

    Attributes:
        answers: Method and status to how often it came.
        seconds: Method to what each call took.
    """

    def __init__(self, channel: grpc.aio.Channel, end: float, pause: float) -> None:
        self.pause = pause
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.answers: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {}
        self.end = end
        self.finished = 0

    async def call(self, method: str, request: Any) -> Any:
        """Call a unary method, and keep what came.

        Returns:
            The answer; None for an error.
        """
        await asyncio.sleep(random.uniform(0, 2 * self.pause))  # noqa: S311 - no secret
        begin = time.perf_counter()
        try:
            answer = await getattr(self.jobs, method)(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            self.answers[f"{method} {error.code().name}"] += 1
            return None
        self.seconds.setdefault(method, []).append(time.perf_counter() - begin)
        self.answers[f"{method} OK"] += 1
        return answer

    async def client(self, model: str, number: int) -> None:
        """Order, watch and fetch until the time is over."""
        draw = random.Random(number)  # noqa: S311 - no secret
        await asyncio.sleep(draw.uniform(0, 1))
        while time.monotonic() < self.end:
            await self.once(model, draw)
            await asyncio.sleep(draw.uniform(0.5, 1.5))

    async def once(self, model: str, draw: random.Random) -> None:
        """Order one job, and see it through as far as it goes in some seconds."""
        axis = jobs_pb2.Axis(start=-1, stop=1, num=3)
        spec = jobs_pb2.JobSpec(
            model=model,
            data="dataSets/digits",
            grid=jobs_pb2.Grid(x=axis, y=axis),
            samples=jobs_pb2.Samples(count=64),
            directions=jobs_pb2.Directions(seed=draw.randrange(1 << 31)),
        )
        made = await self.call("CreateJob", jobs_pb2.CreateJobRequest(spec=spec))
        if made is None:
            return
        name = made.job.name
        for _ in range(5):
            await self.call("GetJob", jobs_pb2.GetJobRequest(name=name))
        await self.watch(name, seconds=draw.uniform(3, 7))
        for _ in range(5):
            await self.call("GetJob", jobs_pb2.GetJobRequest(name=name))
        await self.fetch(name)
        await self.call("CancelJob", jobs_pb2.CancelJobRequest(name=name))
        await self.call("ListJobs", jobs_pb2.ListJobsRequest(page_size=10))

    async def watch(self, name: str, seconds: float) -> None:
        """Watch a job for a while."""
        stream = self.jobs.WatchJob(jobs_pb2.WatchJobRequest(name=name), timeout=seconds)
        try:
            async for _ in stream:
                pass
            self.finished += 1
            self.answers["WatchJob OK"] += 1
        except grpc.aio.AioRpcError as error:
            own = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # ours, of some seconds
            self.answers[f"WatchJob {'OK' if own else error.code().name}"] += 1

    async def fetch(self, name: str) -> None:
        """Read the surface, as far as it is there."""
        request = jobs_pb2.ReadSurfaceRequest(name=name, format=jobs_pb2.SURFACE_FORMAT_ARRAYS)
        try:
            async for _ in self.jobs.ReadSurface(request, timeout=60):
                pass
            self.answers["ReadSurface OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.answers[f"ReadSurface {error.code().name}"] += 1


async def run(port: int, options: argparse.Namespace, pid: int) -> dict[str, Any]:
    """Let the clients loose.

    Returns:
        What is to be kept.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        model = await register(channel)
        load = Load(channel, time.monotonic() + options.seconds, options.pause)
        big = await big_job(load, model)
        before = memory(pid)
        # Each of these is on a connection of its own, whose window it fills and never empties.
        stalled = [
            grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
            for _ in range(options.stalled)
        ]
        calls = [
            jobs_pb2_grpc.JobServiceStub(c).WatchJob(jobs_pb2.WatchJobRequest(name=big))
            for c in stalled
        ]
        most = [before]
        clients = [load.client(model, number) for number in range(options.clients)]
        watching = asyncio.create_task(sampled(pid, most))
        await asyncio.gather(*clients)
        watching.cancel()
        for call in calls:
            call.cancel()
        for one in stalled:
            await one.close()
        after = memory(pid)
    got = np.array(load.seconds["GetJob"])
    return {
        "answers": dict(sorted(load.answers.items())),
        "watched_to_the_end": load.finished,
        "calls_per_second": rounded(sum(load.answers.values()) / options.seconds),
        "get_job_ms": {
            f"p{q}": rounded(1e3 * float(np.percentile(got, q))) for q in (50, 90, 99, 100)
        },
        "server_mib": {"before": before, "most": max(most), "after": after},
    }


async def register(channel: grpc.aio.Channel) -> str:
    """Upload the model.

    Returns:
        Its name.
    """
    digest = blobs_pb2.Digest(sha256=hashlib.sha256(MODEL).hexdigest(), size=len(MODEL))
    request = blobs_pb2.WriteBlobRequest(digest=digest, offset=0, data=MODEL)
    await blobs_pb2_grpc.BlobServiceStub(channel).WriteBlob(iter([request]))
    made = await catalog_pb2_grpc.CatalogServiceStub(channel).CreateModel(
        catalog_pb2.CreateModelRequest(blob=digest, display_name="digits_cnn")
    )
    name: str = made.model.name
    return name


async def big_job(load: Load, model: str) -> str:
    """Order what runs all the time, for the watchers that never read.

    Returns:
        Its name.
    """
    axis = jobs_pb2.Axis(start=-1, stop=1, num=201)
    spec = jobs_pb2.JobSpec(
        model=model,
        data="dataSets/digits",
        grid=jobs_pb2.Grid(x=axis, y=axis),
        samples=jobs_pb2.Samples(count=16),
    )
    made = await load.call("CreateJob", jobs_pb2.CreateJobRequest(spec=spec))
    name: str = made.job.name
    return name


async def sampled(pid: int, found: list[float]) -> None:
    """Look at the server's memory twice a second."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.5)
            found.append(memory(pid))


def memory(pid: int) -> float:
    """Return the resident memory of a process without its children, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def main() -> None:
    """Start the server, measure, print, and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--stalled", type=int, default=50, help="watchers that never read")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two calls")
    parser.add_argument("--unfinished", type=int, default=60, help="jobs the server takes")
    add_out_option(parser, "service_load")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        flags = [
            "--port",
            "0",
            "--port-file",
            str(port_file),
            "--data-dir",
            f"{folder}/server",
        ]
        flags += ["--slots", "cpu:1", "--threads", "1", "--free-kept", "0"]
        flags += ["--unfinished-jobs", str(options.unfinished), "--log-level", "warning"]
        flags += ["--quota-jobs", "1000", "--quota-watchers", "1000"]
        command = [sys.executable, "-m", "onnxscape_cli.main", "serve", *flags]
        server = subprocess.Popen(command, start_new_session=True)
        try:
            while not port_file.exists():
                if server.poll() is not None:
                    sys.exit("the server did not start")
                time.sleep(0.05)
            time.sleep(0.1)
            port = int(port_file.read_text())
            measured = asyncio.run(run(port, options, server.pid))
            alive = server.poll() is None
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                status = server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                status = server.wait()
    device = find_device("cpu")
    result = describe(device.name, 1, "grpcio", "protobuf") | {
        "clients": options.clients,
        "stalled": options.stalled,
        "seconds": options.seconds,
        "pause": options.pause,
        "unfinished": options.unfinished,
        "alive": alive,
        "exit_status": status,
        **measured,
    }
    for name, value in measured.items():
        print(f"{name}: {value}")
    bad = [a for a in measured["answers"] if not a.endswith((" OK", f" {BUSY.name}"))]
    print(f"other errors: {', '.join(bad) or 'none'}; server alive: {alive}, ended {status}")
    keep(options.out, result)


if __name__ == "__main__":
    main()
