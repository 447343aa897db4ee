"""Fetching a surface: the file that an evaluation writes, read as carefully as any other."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio

from onnxscape.errors import OutputError, ServerError, SurfaceFileError
from onnxscape.files.reason import reason
from onnxscape.service.client.connection import LONG
from onnxscape.service.client.retries import Backoff
from onnxscape.storage import load_landscape
from onnxscape.v1.jobs_pb2 import SURFACE_FORMAT_HDF5, ReadSurfaceRequest

if TYPE_CHECKING:
    from typing import IO

    from onnxscape.core.landscape import Landscape
    from onnxscape.service.client.connection import Connection


async def read_surface(connection: Connection, name: str) -> Landscape:
    """Fetch the surface of a job as far as it is evaluated.

    Args:
        connection: To the server.
        name: `jobs/ID`.

    Returns:
        The landscape.

    Raises:
        ServerError: If what comes is no surface.
        OutputError: If there is no room for it.
        OnnxscapeError: If the server refuses it, or is not reached.
    """
    backoff = Backoff(connection.patience, connection.patience.call)
    with tempfile.TemporaryDirectory(prefix="onnxscape-") as folder:
        path = Path(folder) / "surface.h5"
        while True:
            try:
                with path.open("wb") as file:
                    await _receive(connection, name, file)
                break
            except OSError as error:
                raise OutputError(
                    f"cannot keep what the server sends in {path}: {reason(error)}; free "
                    "space, or name another folder for temporary files by TMPDIR"
                ) from error
            except grpc.aio.AioRpcError as error:
                if not await backoff.wait(error):
                    raise connection.error(error) from error
        try:
            return await asyncio.to_thread(load_landscape, path)
        except SurfaceFileError as error:
            raise ServerError(
                f"expected the surface of {name} from {connection.address}, got what this "
                f"version does not read: {reason(error)}"
            ) from error


async def _receive(connection: Connection, name: str, file: IO[bytes]) -> None:
    request = ReadSurfaceRequest(name=name, format=SURFACE_FORMAT_HDF5)
    call = connection.jobs.ReadSurface(request, timeout=LONG, metadata=connection.metadata)
    try:
        async for response in call:
            file.write(response.file)
    finally:
        call.cancel()
