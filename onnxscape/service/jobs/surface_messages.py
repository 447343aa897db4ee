"""Surfaces as messages: arrays in pieces, or the bytes of the surface file."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from onnxscape.jobs.surfaces import landscape_of, surface_path
from onnxscape.storage import load_landscape, surface_image
from onnxscape.storage.upload import disk_errors
from onnxscape.v1 import jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.assembly import Results
    from onnxscape.jobs.records import Job

PIECE_VALUES = 1 << 16
PIECE_BYTES = 1 << 20

SMALL_BYTES = 1 << 20
"""Of a surface that waits in memory until it is sent."""

EVALUATED = "evaluated"


@dataclass(slots=True)
class Reading:
    """A surface that is being sent. What is left of a large one waits on the disk.

    Attributes:
        file: Its bytes: those of the surface file, or of all arrays one after another.
        header: What comes before arrays; None where the file is sent.
        size: Values of one array.
    """

    file: IO[bytes]
    header: jobs_pb2.SurfaceHeader | None
    size: int = 0

    def responses(self) -> Generator[jobs_pb2.ReadSurfaceResponse]:
        """Read it piece by piece.

        Yields:
            The messages in their order.
        """
        if self.header is None:
            while data := self.file.read(PIECE_BYTES):
                yield jobs_pb2.ReadSurfaceResponse(file=data)
            return
        yield jobs_pb2.ReadSurfaceResponse(header=self.header)
        for name in self.header.metrics:
            for offset in range(0, self.size, PIECE_VALUES):
                count = min(PIECE_VALUES, self.size - offset)
                values = np.frombuffer(self.file.read(8 * count), dtype=np.float64)
                piece = jobs_pb2.SurfacePiece(metric=name, offset=offset, values=values)
                yield jobs_pb2.ReadSurfaceResponse(piece=piece)

    def close(self) -> None:
        """Give the disk's room back."""
        self.file.close()


def open_surface(
    job: Job,
    results: Callable[[str], Results],
    folder: Path,
    *,
    arrays: bool,
    check_disk: Callable[[int], None],
) -> Reading:
    """Get the surface of a job ready to be sent, whole or as far as there are points.

    Args:
        job: The job.
        results: Returns the points that it has by now.
        folder: With the surfaces of finished jobs.
        arrays: Whether arrays are wanted, instead of the file.
        check_disk: Raises a DiskFullError where so many bytes more would fill the disk.

    Returns:
        The surface; to be closed.

    Raises:
        SurfaceFileError: If the file of a finished job is damaged.
        StorageError: If what is to be sent cannot be kept until then.
    """
    path = surface_path(folder, job.id)
    if not path.exists():
        landscape = landscape_of(job, results(job.id))
        if not arrays:
            return Reading(_kept(folder, [surface_image(landscape)], check_disk), None)
    elif arrays:
        landscape = load_landscape(path)
    else:
        return Reading(path.open("rb"), None)
    surfaces = {
        **{name: _masked(values, landscape) for name, values in landscape.surfaces.items()},
        EVALUATED: landscape.evaluated.astype(np.float64),
    }
    parts = [np.ascontiguousarray(values).tobytes() for values in surfaces.values()]
    header = header_of(landscape, list(surfaces))
    return Reading(_kept(folder, parts, check_disk), header, landscape.grid.size)


def _masked(values: NDArray[np.float64], landscape: Landscape) -> NDArray[np.float64]:
    """Return a surface as a surface file keeps it."""
    return np.where(landscape.known, np.asarray(values, dtype=np.float64), np.nan)


def header_of(landscape: Landscape, names: Sequence[str]) -> jobs_pb2.SurfaceHeader:
    """Return what is told before the arrays of a surface.

    Args:
        landscape: The surface.
        names: Of the arrays, in their order.

    Returns:
        The message.
    """
    grid = landscape.grid
    return jobs_pb2.SurfaceHeader(
        shape=grid.shape,
        x=() if grid.alphas is None else grid.alphas,
        y=() if grid.betas is None else grid.betas,
        metrics=names,
        center={name: float(value) for name, value in landscape.center.items()},
        complete=landscape.complete,
        spec_json="" if landscape.spec is None else landscape.spec.to_json(),
        plan_json="" if landscape.plan is None else landscape.plan.to_json(),
    )


def _kept(
    folder: Path, parts: Sequence[bytes], check_disk: Callable[[int], None]
) -> IO[bytes]:
    """Return a file without a name, at its start, that holds some bytes."""
    size = sum(map(len, parts))
    if size <= SMALL_BYTES:
        return io.BytesIO(b"".join(parts))
    check_disk(size)
    with contextlib.ExitStack() as stack, disk_errors("keep a surface until it is sent"):
        file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        file.writelines(parts)
        file.seek(0)
        stack.pop_all()  # the caller closes it
    return file
