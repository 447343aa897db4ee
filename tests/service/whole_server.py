"""A whole server within the process of a test; only what computes and reads models is fake."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

import grpc.aio
from fake_executor import FakeExecutor
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from onnxscape.errors import ModelFileError
from onnxscape.jobs.check_queue import CheckQueue
from onnxscape.jobs.executor import Counters
from onnxscape.service.access.tokens import TokenStore
from onnxscape.service.catalog.tables import SCHEMA
from onnxscape.service.server import Server
from onnxscape.service.settings.config import ServerConfig
from onnxscape.storage.database import Database
from onnxscape.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    catalog_pb2_grpc,
    jobs_pb2_grpc,
    server_pb2_grpc,
)


@dataclass
class FakeReader:
    """Takes whatever does not start with `bad` for a model or for arrays.

    Attributes:
        asked: sha256 of what was read, in order.
        go: Models are read when it is set; None for at once.
        queue: Where those who wait have their places.
    """

    blobs: object
    asked: list[str] = field(default_factory=list)
    go: asyncio.Event | None = None
    queue: CheckQueue = field(
        default_factory=lambda: CheckQueue(parallel=1, waiting=64, of_user=4)
    )

    async def audit_model(self, sha256, *, user=""):
        place = self.queue.enter(user)
        try:
            self._read(sha256)
            if self.go is not None:
                await self.go.wait()
        finally:
            self.queue.leave(place)
        return SimpleNamespace(audit_json='{"tensors": []}', parameters=20, moved=10, nodes=3)

    async def inspect_data(self, sha256, ref, *, user=""):
        self._read(sha256)
        return [("x", "float32", (5, 2)), ("y", "int64", (5,))]

    async def close(self):
        pass

    def _read(self, sha256):
        self.asked.append(sha256)
        if (self.blobs / sha256[:2] / sha256).read_bytes().startswith(b"bad"):
            raise ModelFileError("expected an ONNX model, got something else")


@dataclass
class Client:
    """The stubs of one channel.

    Attributes:
        metadata: Sent with every call.
    """

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        self.blobs = blobs_pb2_grpc.BlobServiceStub(self.channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self.jobs = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.about = server_pb2_grpc.ServerServiceStub(self.channel)

    async def call(self, method, request):
        return await method(request, metadata=self.metadata)

    async def write(self, data, *, start=0, step=1000, digest=None, stop=None):
        """Write a blob, or a part of it."""
        digest = digest_of(data) if digest is None else digest
        end = len(data) if stop is None else stop
        pieces = [
            blobs_pb2.WriteBlobRequest(
                digest=digest, offset=at, data=data[at : min(at + step, end)]
            )
            for at in range(start, end, step)
        ]
        return await self.blobs.WriteBlob(iter(pieces), metadata=self.metadata)

    async def written(self, data):
        request = blobs_pb2.QueryWriteStatusRequest(digest=digest_of(data))
        return await self.call(self.blobs.QueryWriteStatus, request)

    async def missing(self, *datas):
        request = blobs_pb2.FindMissingBlobsRequest(digests=map(digest_of, datas))
        return list((await self.call(self.blobs.FindMissingBlobs, request)).missing)

    async def read(self, digest, *, offset=0):
        request = blobs_pb2.ReadBlobRequest(digest=digest, offset=offset)
        call = self.blobs.ReadBlob(request, metadata=self.metadata)
        return [response async for response in call]


@dataclass
class Whole:
    """A server that runs, and clients of two users.

    Attributes:
        folder: Its data folder.
        secrets: User to token.
    """

    server: Server
    folder: object
    secrets: dict[str, str]
    ann: Client
    bob: Client
    stranger: Client
    tokens: TokenStore

    @property
    def parts(self):
        return self.server._parts


@contextlib.asynccontextmanager
async def whole(folder, **settings):
    """Run a server that knows ann and bob by their tokens.

    Args:
        folder: Its data folder.
        **settings: Fields of its configuration.
    """
    defaults = {"port": 0, "auth": "token", "data": (), "free_kept": 0}
    config = ServerConfig(data_dir=folder, **(defaults | settings))
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Database.open(folder / "catalog.sqlite", SCHEMA))
        tokens = TokenStore(database)
        secrets = {user: tokens.create(user)[1] for user in ("ann", "bob")}
        stack.enter_context(mock.patch("onnxscape.service.parts._executor", _executor))
        stack.enter_context(
            mock.patch(
                "onnxscape.service.parts._validator",
                lambda _config, _slots, folder: FakeReader(folder.root),
            )
        )
        async with Server(config) as server, channel(server.address) as plain:
            yield Whole(
                server,
                folder,
                secrets,
                ann=Client(plain, bearer(secrets["ann"])),
                bob=Client(plain, bearer(secrets["bob"])),
                stranger=Client(plain),
                tokens=tokens,
            )


def _executor(*_arguments):
    executor = FakeExecutor()
    executor.counters = Counters()
    return executor


def channel(address):
    return grpc.aio.insecure_channel(address)


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


def digest_of(data):
    return blobs_pb2.Digest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


async def refused(call):
    """Return code, message, and details by their name of a call that is refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        details = {}
        status = rpc_status.from_call(error)
        for detail in () if status is None else status.details:
            name = detail.TypeName().rpartition(".")[2]
            message = getattr(error_details_pb2, name)()
            detail.Unpack(message)
            details[name] = message
        return error.code(), error.details(), details
    raise AssertionError("the call was answered")


def run(test):
    """Return a test function that runs an async one to its end."""

    def made(*arguments, **named):
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 60))

    made.__name__ = test.__name__
    made.__signature__ = inspect.signature(test)
    return made
