"""Uploads: only what the server lacks, in pieces, going on where a connection broke."""

from __future__ import annotations

import asyncio
from typing import IO, TYPE_CHECKING

import grpc.aio

from onnxscape.errors import DataError
from onnxscape.files.reason import reason
from onnxscape.service.client.retries import Backoff
from onnxscape.v1.blobs_pb2 import (
    Digest,
    FindMissingBlobsRequest,
    QueryWriteStatusRequest,
    WriteBlobRequest,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from onnxscape.service.client.connection import Connection
    from onnxscape.service.client.local_blobs import LocalBlob

    Progress = Callable[[int, int], None]

PIECE = 1 << 20
"""Bytes of a message."""

_AT_ONCE = 1000
"""Digests that the server looks for in one call."""

_SLOWEST = 1 << 18
"""Bytes a second below which an upload is broken off and continued."""

_SECONDS = 60.0
"""For what an upload takes besides: the server syncs and checks all bytes at the end."""


async def upload(
    connection: Connection, blobs: Iterable[LocalBlob], progress: Progress | None = None
) -> None:
    """Write the blobs that the server does not have.

    Args:
        connection: To the server.
        blobs: What it has to have.
        progress: Told the bytes that are written, and how many there are.

    Raises:
        OnnxscapeError: If the server refuses one, or is not reached.
    """
    wanted = {blob.sha256: blob for blob in blobs}
    missing = await _missing(connection, list(wanted.values()))
    total, before = sum(blob.size for blob in missing), 0

    for blob in missing:

        def told(written: int, before: int = before) -> None:
            if progress is not None:
                progress(before + written, total)

        await _write(connection, blob, told)
        before += blob.size


async def _missing(connection: Connection, blobs: Sequence[LocalBlob]) -> list[LocalBlob]:
    found: set[str] = set()
    for start in range(0, len(blobs), _AT_ONCE):
        request = FindMissingBlobsRequest(
            digests=[blob.digest for blob in blobs[start : start + _AT_ONCE]]
        )
        response = await connection.call(connection.blobs.FindMissingBlobs, request)
        found |= {digest.sha256 for digest in response.missing}
    return [blob for blob in blobs if blob.sha256 in found]


async def _write(connection: Connection, blob: LocalBlob, told: Callable[[int], None]) -> None:
    """Write one blob, however often the connection breaks, as long as it goes on.

    Raises:
        OnnxscapeError: If the server refuses it, or is not reached.
        DataError: If it cannot be read.
    """
    backoff = Backoff(connection.patience, connection.patience.stream)
    furthest = 0
    while True:
        offset = await _committed(connection, blob.digest)
        if offset is None:
            told(blob.size)
            return
        if offset > furthest:
            furthest = offset
            backoff.succeeded()
        told(offset)
        try:
            with blob.open() as file:
                await _send(connection, blob, file, offset, told)
        except OSError as error:
            raise DataError(f"cannot read {blob.name}: {reason(error)}") from error
        except grpc.aio.AioRpcError as error:
            if not await backoff.wait(error):
                raise connection.error(error) from error
        else:
            return


async def _committed(connection: Connection, digest: Digest) -> int | None:
    """Return how many bytes the server has; None if these are all and checked."""
    response = await connection.call(
        connection.blobs.QueryWriteStatus, QueryWriteStatusRequest(digest=digest)
    )
    return None if response.complete else int(response.committed_size)


async def _send(
    connection: Connection,
    blob: LocalBlob,
    file: IO[bytes],
    offset: int,
    told: Callable[[int], None],
) -> None:
    """Send the bytes from an offset on, and wait for them to be checked.

    Raises:
        OSError: If they cannot be read.
        AioRpcError: If the server refuses them, or the connection breaks.
        CancelledError: If it is cancelled.
    """
    failed: list[OSError] = []

    async def pieces() -> AsyncGenerator[WriteBlobRequest]:
        try:
            file.seek(offset)
            at, piece = offset, await asyncio.to_thread(file.read, PIECE)
            yield WriteBlobRequest(digest=blob.digest, offset=at, data=piece)
            while piece:
                at += len(piece)
                told(min(at, blob.size))
                piece = await asyncio.to_thread(file.read, PIECE)
                if piece:
                    yield WriteBlobRequest(offset=at, data=piece)
        except OSError as error:
            failed.append(error)
            raise

    seconds = _SECONDS + (blob.size - offset) / _SLOWEST
    call = connection.blobs.WriteBlob(pieces(), timeout=seconds, metadata=connection.metadata)
    try:
        await call
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        if failed:  # which gRPC makes a cancellation of
            raise failed[0] from None
        raise
    finally:
        call.cancel()
