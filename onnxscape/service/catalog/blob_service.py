"""BlobService: uploads in pieces, and reading back what the caller has written."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from onnxscape.service.answers.findings import Findings
from onnxscape.service.answers.rich_errors import (
    Exceeded,
    ExhaustedError,
    NotFoundError,
    UnavailableError,
)
from onnxscape.service.caller import current_user
from onnxscape.storage.blob_folder import MOST_UPLOADS, NoRoomError
from onnxscape.storage.upload import disk_errors
from onnxscape.v1 import blobs_pb2, blobs_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import grpc.aio

    from onnxscape.service.catalog.store import CatalogStore
    from onnxscape.service.settings.config import ServerConfig
    from onnxscape.storage.blob_folder import BlobFolder
    from onnxscape.storage.upload import Upload

    Context = grpc.aio.ServicerContext[Any, Any]

_T = TypeVar("_T")

PIECE = 1 << 20
"""Bytes of a piece that is read."""

LARGEST_PIECE = 2 << 20
"""Bytes of a piece that is written."""

MOST_DIGESTS = 1000
"""In one request."""

_MOST_STREAMS = 16
"""Uploads of a user at once: each keeps a few pieces in memory."""

_IDLE_SECONDS = 60.0
"""For the next piece to come."""

_THREADS = 4
"""Apart from those of other calls: hashing a large upload takes a while."""


class BlobServicer(blobs_pb2_grpc.BlobServiceServicer):
    """Answers for blobs; nobody sees those of others."""

    def __init__(
        self,
        *,
        folder: BlobFolder,
        catalog: CatalogStore,
        config: ServerConfig,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        """Answer for a folder.

        Args:
            folder: The bytes.
            catalog: Who has written which.
            config: Limits and quotas.
            idle_seconds: How long an upload waits for its next piece.
        """
        self._folder = folder
        self._grants = catalog.grants
        self._config = config
        self._idle_seconds = idle_seconds
        self._streams: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs")

    def close(self) -> None:
        """End the threads, once no call is under way."""
        self._threads.shutdown()

    async def FindMissingBlobs(
        self, request: blobs_pb2.FindMissingBlobsRequest, context: Context
    ) -> blobs_pb2.FindMissingBlobsResponse:
        """Say which of some blobs the caller has to write.

        Args:
            request: The blobs.
            context: The call's.

        Returns:
            Those that are missing.
        """
        findings = Findings()
        findings.count("digests", len(request.digests), most=MOST_DIGESTS)
        for at, digest in enumerate(request.digests[:MOST_DIGESTS]):
            findings.digest(f"digests[{at}]", digest)
        findings.refuse()
        wanted = {digest.sha256 for digest in request.digests}
        sizes = await self._run(self._grants.sizes, current_user(), wanted)
        return blobs_pb2.FindMissingBlobsResponse(
            missing=[d for d in request.digests if sizes.get(d.sha256) != d.size]
        )

    async def QueryWriteStatus(
        self, request: blobs_pb2.QueryWriteStatusRequest, context: Context
    ) -> blobs_pb2.QueryWriteStatusResponse:
        """Say how much of a blob the caller has written.

        Args:
            request: The blob.
            context: The call's.

        Returns:
            How much.
        """
        digest = _checked(request.digest)
        if await self._has(digest):
            return blobs_pb2.QueryWriteStatusResponse(
                committed_size=digest.size, complete=True
            )
        written = await self._run(
            self._folder.written, current_user(), digest.sha256, digest.size
        )
        return blobs_pb2.QueryWriteStatusResponse(committed_size=written)

    async def WriteBlob(
        self, request_iterator: AsyncIterator[blobs_pb2.WriteBlobRequest], context: Context
    ) -> blobs_pb2.WriteBlobResponse:
        """Write a blob.

        Args:
            request_iterator: Its pieces.
            context: The call's.

        Returns:
            The blob that exists now.

        Raises:
            ExhaustedError: If the caller writes too many at once.
        """
        user = current_user()
        if self._streams[user] >= _MOST_STREAMS:
            raise ExhaustedError(
                "UPLOADS_AT_ONCE",
                f"{_MOST_STREAMS} uploads of yours are under way; wait until one has ended",
                exceeded=[Exceeded("uploads", f"{_MOST_STREAMS} at once")],
                retry_seconds=1.0,
            )
        self._streams[user] += 1
        try:
            return await self._write(user, request_iterator)
        finally:
            self._streams[user] -= 1
            if not self._streams[user]:
                del self._streams[user]

    async def ReadBlob(self, request: blobs_pb2.ReadBlobRequest, context: Context) -> None:
        """Send a blob that the caller has written.

        Args:
            request: The blob, and where to start.
            context: The call's.

        Raises:
            NotFoundError: If the caller has not written it.
        """
        digest = _checked(request.digest)
        if not 0 <= request.offset <= digest.size:
            findings = Findings()
            findings.add("offset", f"a number from 0 to {digest.size}", request.offset)
            findings.refuse()
        if not await self._has(digest):
            raise NotFoundError("blob", digest.sha256)
        offset = request.offset
        while data := await self._run(self._read, digest.sha256, offset):
            await context.write(blobs_pb2.ReadBlobResponse(offset=offset, data=data))
            offset += len(data)

    def _read(self, sha256: str, offset: int) -> bytes:
        """Return a piece of a blob."""
        with (
            disk_errors(f"read the blob {sha256}"),
            self._folder.path(sha256).open("rb") as file,
        ):
            file.seek(offset)
            return file.read(PIECE)

    async def _write(
        self, user: str, pieces: AsyncIterator[blobs_pb2.WriteBlobRequest]
    ) -> blobs_pb2.WriteBlobResponse:
        piece = await self._next(pieces)
        digest = _checked(blobs_pb2.Digest() if piece is None else piece.digest)
        if await self._has(digest):
            return blobs_pb2.WriteBlobResponse(digest=digest)
        if digest.size > self._config.blob_bytes:
            raise ExhaustedError(
                "BLOB_TOO_LARGE",
                f"expected a blob of at most {self._config.blob_bytes} bytes, got one of "
                f"{digest.size}",
                exceeded=[Exceeded("blob_bytes", f"{self._config.blob_bytes} in one blob")],
            )
        upload = await self._open(user, digest)
        try:
            while piece is not None:
                if len(piece.data) > LARGEST_PIECE:
                    findings = Findings()
                    findings.add("data", f"at most {LARGEST_PIECE} bytes", len(piece.data))
                    findings.refuse()
                await self._run(upload.write, piece.offset, piece.data)
                piece = await self._next(pieces)
            grant = functools.partial(self._grants.add, user, digest.sha256, digest.size)
            await self._run(upload.finish, grant)
        finally:
            # Not awaited: this call may have been cancelled, and a piece may still be on its
            # way to the disk.
            self._threads.submit(upload.close)
        return blobs_pb2.WriteBlobResponse(digest=digest)

    async def _next(
        self, pieces: AsyncIterator[blobs_pb2.WriteBlobRequest]
    ) -> blobs_pb2.WriteBlobRequest | None:
        # None at the end.
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(pieces, None)
        except TimeoutError:
            raise UnavailableError(
                "UPLOAD_IDLE",
                f"nothing came for {self._idle_seconds:g} seconds; go on from the offset that "
                "QueryWriteStatus tells",
                retry_seconds=0.0,
            ) from None

    async def _open(self, user: str, digest: blobs_pb2.Digest) -> Upload:
        quota = self._config.quota_of(user).blob_bytes

        def room() -> int:
            return quota - self._grants.total(user)

        try:
            return await self._run(
                functools.partial(
                    self._folder.open_upload, user, digest.sha256, digest.size, room=room
                )
            )
        except NoRoomError as error:
            if error.uploads >= MOST_UPLOADS:
                limit = Exceeded("uploads", f"{MOST_UPLOADS} unfinished ones")
                text = f"{error.uploads} uploads of yours are unfinished; finish some of them"
            else:
                limit = Exceeded("blob_bytes", f"{quota} of one user")
                text = (
                    f"expected a blob of at most {error.left} bytes, which is what your quota "
                    f"of {quota} has left, got one of {digest.size}; delete models, data sets "
                    "and jobs that you do not need"
                )
            raise ExhaustedError("QUOTA_EXCEEDED", text, exceeded=[limit]) from error

    async def _has(self, digest: blobs_pb2.Digest) -> bool:
        """Return whether the caller has written a blob."""
        found = await self._run(self._grants.size, current_user(), digest.sha256)
        return found == digest.size

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)


def _checked(digest: blobs_pb2.Digest) -> blobs_pb2.Digest:
    """Return a digest, or refuse what can be none."""
    findings = Findings()
    findings.digest("digest", digest)
    findings.refuse()
    return digest
