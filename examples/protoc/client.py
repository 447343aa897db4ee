"""Orders a landscape from an onnxscape server by nothing but grpcio and generated stubs.

    python client.py MODEL.onnx [--server HOST:PORT] [--data NAME] [--grid N] [--out FILE.json]

Uploads the model, orders, watches every point come in, fetches the surface, and checks that
the surface consists of just the points that were watched, to the bit. `run` makes the stubs
and an environment without onnxscape for it. A token is taken from ONNXSCAPE_TOKEN.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import struct
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from onnxscape.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 20

PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
"""Statuses after which the same call may well succeed."""

FINAL = {jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED}

Surfaces = dict[str, list[float]]


class Client:
    """A connection to a server."""

    def __init__(self, address: str, token: str | None) -> None:
        """Connect.

        Args:
            address: HOST:PORT.
            token: To be sent with every call; None for none.
        """
        self._channel = grpc.insecure_channel(address)
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        self._blobs = blobs_pb2_grpc.BlobServiceStub(self._channel)
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(self._channel)
        self._jobs = jobs_pb2_grpc.JobServiceStub(self._channel)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def upload(self, content: bytes) -> blobs_pb2.Digest:
        """Write a blob unless the server has it from us.

        Args:
            content: The bytes.

        Returns:
            What names it.
        """
        digest = blobs_pb2.Digest(
            sha256=hashlib.sha256(content).hexdigest(), size=len(content)
        )
        known = self._blobs.FindMissingBlobs(
            blobs_pb2.FindMissingBlobsRequest(digests=[digest]), metadata=self._metadata
        )
        if known.missing:
            status = self._blobs.QueryWriteStatus(
                blobs_pb2.QueryWriteStatusRequest(digest=digest), metadata=self._metadata
            )
            pieces = (
                blobs_pb2.WriteBlobRequest(
                    digest=digest, offset=offset, data=content[offset : offset + CHUNK]
                )
                for offset in range(status.committed_size, len(content), CHUNK)
            )
            self._blobs.WriteBlob(pieces, metadata=self._metadata)
        return digest

    def order(self, model: Path, data: str, grid: int) -> jobs_pb2.Job:
        """Order the landscape of a model.

        Args:
            model: An ONNX file.
            data: Name of a data set of the server.
            grid: Points along each direction.

        Returns:
            The job.
        """
        created = self._catalog.CreateModel(
            catalog_pb2.CreateModelRequest(
                blob=self.upload(model.read_bytes()), display_name=model.stem
            ),
            metadata=self._metadata,
        )
        axis = jobs_pb2.Axis(start=-1, stop=1, num=grid)
        spec = jobs_pb2.JobSpec(
            model=created.model.name,
            data=f"dataSets/{data}",
            grid=jobs_pb2.Grid(x=axis, y=axis),
        )
        request = jobs_pb2.CreateJobRequest(
            spec=spec, display_name=model.stem, request_id=str(uuid.uuid4())
        )
        return self._jobs.CreateJob(request, metadata=self._metadata).job

    def watch(self, name: str) -> Iterator[jobs_pb2.WatchJobResponse]:
        """Yield what happens to a job until it is finished; go on where a stream broke off.

        Args:
            name: The job's.

        Yields:
            Changes of the job, and points.

        Raises:
            RpcError: If watching again does not help.
        """
        revision, state, pause = 0, jobs_pb2.JOB_STATE_UNSPECIFIED, 0.5
        while state not in FINAL:
            request = jobs_pb2.WatchJobRequest(name=name, after_revision=revision)
            try:
                for response in self._jobs.WatchJob(request, metadata=self._metadata):
                    pause = 0.5
                    kind = response.WhichOneof("event")
                    if kind == "heartbeat":
                        continue
                    # Not set where points follow that came before the job's last change.
                    revision = response.revision or revision
                    if kind == "job":
                        state = response.job.state
                    yield response
            except grpc.RpcError as error:
                if error.code() not in PASSING or pause > 30:
                    raise
                time.sleep(pause)
                pause *= 2

    def surfaces(self, name: str) -> tuple[jobs_pb2.SurfaceHeader, Surfaces]:
        """Fetch a job's surfaces.

        Args:
            name: The job's.

        Returns:
            What they are, and the values by metric in C order.
        """
        header, surfaces = jobs_pb2.SurfaceHeader(), {}
        request = jobs_pb2.ReadSurfaceRequest(name=name, format=jobs_pb2.SURFACE_FORMAT_ARRAYS)
        for response in self._jobs.ReadSurface(request, metadata=self._metadata):
            if response.WhichOneof("part") == "header":
                header = response.header
                size = math.prod(header.shape)
                surfaces = {metric: [math.nan] * size for metric in header.metrics}
            else:
                piece = response.piece
                end = piece.offset + len(piece.values)
                surfaces[piece.metric][piece.offset : end] = piece.values
        return header, surfaces


def collect(
    client: Client, name: str
) -> tuple[jobs_pb2.Job, dict[tuple[int, int], dict[str, float]]]:
    """Watch a job to its end.

    Args:
        client: The connection.
        name: The job's.

    Returns:
        The job as it ended, and the metrics of each point by row and column.

    Raises:
        ValueError: If a point came twice, or revisions did not grow.
    """
    job, points, revision = jobs_pb2.Job(), {}, 0
    for response in client.watch(name):
        if 0 < response.revision <= revision:
            raise ValueError(f"revision {response.revision} came after {revision}")
        revision = response.revision or revision
        if response.WhichOneof("event") == "job":
            job = response.job
        for point in response.points.points:
            if (point.row, point.column) in points:
                raise ValueError(f"point {point.row}, {point.column} came twice")
            values = zip(response.points.metrics, point.values, strict=True)
            points[point.row, point.column] = dict(values)
        print(f"{len(points)}/{job.point_total} points", end="\r", file=sys.stderr)
    print(file=sys.stderr)
    return job, points


def bits(number: float) -> bytes:
    """Return a number as it is in memory: NaN equals itself then.

    Args:
        number: The number.

    Returns:
        Its eight bytes.
    """
    return struct.pack("<d", number)


def main() -> int:
    """Run the command line.

    Returns:
        The exit status.

    Raises:
        ValueError: If the surface is not what was watched.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--grid", type=int, default=9)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    client = Client(chosen.server, os.environ.get("ONNXSCAPE_TOKEN"))
    ordered = client.order(chosen.model, chosen.data, chosen.grid)
    print(f"{ordered.name}: {ordered.point_total} points")
    job, points = collect(client, ordered.name)
    if job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        print(f"{job.error.reason}: {job.error.message}", file=sys.stderr)
        return 1
    header, surfaces = client.surfaces(job.name)
    client.close()
    width = header.shape[-1]
    for (row, column), metrics in points.items():
        for metric, value in metrics.items():
            if row >= 0 and metric in surfaces:
                kept = surfaces[metric][row * width + column]
                if bits(kept) != bits(value):
                    raise ValueError(f"{metric} at {row}, {column}: {value} became {kept}")
    print(f"center loss {header.center['loss']}, {len(points)} points as watched")
    if chosen.out:
        result = {"shape": list(header.shape), "center": dict(header.center)}
        chosen.out.write_text(json.dumps(result | {"surfaces": surfaces}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
