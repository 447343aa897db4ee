"""A JobService within the process of a test: real store, fake executor, fake validator."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from fake_executor import FakeExecutor
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from onnxscape.core.grid import Axis, Grid
from onnxscape.core.spec import EvalSpec
from onnxscape.evaluation.schedule import make_schedule
from onnxscape.jobs.coordinator import Coordinator, CoordinatorConfig
from onnxscape.jobs.job_store import JobStore
from onnxscape.service.answers.status import StatusInterceptor
from onnxscape.service.caller import CALLER, Caller
from onnxscape.service.catalog.records import (
    EVERYBODY,
    ArrayEntry,
    DataSetRecord,
    ModelRecord,
    data_set_id,
    model_id,
)
from onnxscape.service.catalog.store import CatalogStore
from onnxscape.service.catalog.tables import SCHEMA
from onnxscape.service.jobs.job_service import JobServicer
from onnxscape.service.settings.config import ServerConfig
from onnxscape.storage.blob_folder import BlobFolder
from onnxscape.storage.database import Database
from onnxscape.v1 import blobs_pb2, jobs_pb2, jobs_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from onnxscape.jobs.order import Order

MODEL = hashlib.sha256(b"model").hexdigest()
ARRAYS = hashlib.sha256(b"arrays").hexdigest()
GRAPH = b"a loss graph"
USERS = ("alice", "bob")


@dataclass(frozen=True)
class FakeValidation:
    """What the fake validator finds."""

    spec: EvalSpec
    points: int
    seconds_per_point: float = 0.5
    memory: int = 1 << 20
    notes: tuple[str, ...] = ("a note",)
    warnings: tuple[str, ...] = ("a warning",)


@dataclass
class FakeValidator:
    """Takes every order for one that fits.

    Attributes:
        orders: What it was asked about.
        users: Who asked.
        error: What it raises instead.
        changed: Fields of what it finds that are otherwise.
        go: Answers wait for it.
    """

    orders: list[Order] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    error: Exception | None = None
    changed: dict[str, Any] = field(default_factory=dict)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def validate(self, order: Order, *, user: str = "") -> FakeValidation:
        self.orders.append(order)
        self.users.append(user)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        spec = spec_for(order)
        found = FakeValidation(spec, make_schedule(spec).total)
        return dataclasses.replace(found, **self.changed)


def spec_for(order: Order) -> EvalSpec:
    """Return what an order evaluates, as far as a fake executor needs it."""
    x, y = (order.options[name] and Axis(*order.options[name]) for name in ("x", "y"))
    return EvalSpec(
        model=order.model,
        data="d" * 64,
        samples=100,
        population=100,
        loss="cross-entropy",
        metrics=("accuracy",),
        grid=Grid(x, y),
        seed=order.options.get("seed", 0),
        normalization="filter",
        ignore="biasbn",
        orthogonal=False,
        tolerance=order.options.get("tolerance"),
    )


class UserInterceptor(grpc.aio.ServerInterceptor):
    """Believes the metadata `user`, and counts the calls under way."""

    def __init__(self) -> None:
        self.under_way: Counter[str] = Counter()

    async def intercept_service(self, continuation, details):
        user = dict(details.invocation_metadata).get("user", "alice")
        name = details.method.rpartition("/")[2]
        handler = await continuation(details)
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        method = getattr(handler, kind)

        async def as_user(request, context):
            CALLER.set(Caller(user))
            self.under_way[name] += 1
            try:
                return await method(request, context)
            finally:
                self.under_way[name] -= 1

        return getattr(grpc, f"{kind}_rpc_method_handler")(
            as_user, handler.request_deserializer, handler.response_serializer
        )


@dataclass
class Served:
    """A server, and clients of two users."""

    server: grpc.aio.Server
    servicer: JobServicer
    store: JobStore
    coordinator: Coordinator
    executor: FakeExecutor
    validator: FakeValidator
    catalog: CatalogStore
    blobs: BlobFolder
    config: ServerConfig
    calls: Counter[str]
    address: str
    stub: jobs_pb2_grpc.JobServiceStub

    def add_blob(self, user: str, content: bytes) -> blobs_pb2.Digest:
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.blobs.path(sha256)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        self.catalog.grants.add(user, sha256, len(content))
        return blobs_pb2.Digest(sha256=sha256, size=len(content))

    async def create(self, spec=None, *, user="alice", **fields: Any) -> jobs_pb2.Job:
        request = jobs_pb2.CreateJobRequest(spec=spec or spec_message(), **fields)
        response = await self.stub.CreateJob(request, metadata=as_user(user))
        return response.job

    async def get(self, name: str, *, user: str = "alice") -> jobs_pb2.Job:
        request = jobs_pb2.GetJobRequest(name=name)
        return (await self.stub.GetJob(request, metadata=as_user(user))).job

    async def watch(self, name, after=0, *, user="alice") -> list[jobs_pb2.WatchJobResponse]:
        """Return all responses until the job is finished."""
        return [response async for response in self.watching(name, after, user=user)]

    def watching(self, name, after=0, *, user="alice"):
        request = jobs_pb2.WatchJobRequest(name=name, after_revision=after)
        return self.stub.WatchJob(request, metadata=as_user(user))

    async def surface(self, name, form, *, user="alice") -> list[jobs_pb2.ReadSurfaceResponse]:
        request = jobs_pb2.ReadSurfaceRequest(name=name, format=form)
        call = self.stub.ReadSurface(request, metadata=as_user(user))
        return [response async for response in call]

    async def finished(self, name: str) -> jobs_pb2.Job:
        await self.watch(name)
        return await self.get(name)


def as_user(user: str) -> tuple[tuple[str, str], ...]:
    return (("user", user),)


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    *,
    executor: FakeExecutor | None = None,
    validating: bool = True,
    heartbeat: float = 15.0,
    **settings: Any,
) -> AsyncGenerator[Served]:
    """Run a server.

    Args:
        folder: For its files; those of an earlier one are gone on with.
        executor: What computes.
        validating: Whether the validator answers from the start.
        heartbeat: Seconds of silence.
        **settings: Fields of its configuration.
    """
    config = ServerConfig(data_dir=folder, **settings)
    blobs = BlobFolder(folder / "blobs")
    blobs.create()
    executor = executor or FakeExecutor()
    validator = FakeValidator()
    if validating:
        validator.go.set()
    with (
        JobStore.open(folder / "jobs.sqlite") as store,
        Database.open(folder / "catalog.sqlite", SCHEMA) as database,
    ):
        catalog = CatalogStore(database)
        _fill(catalog)
        coordinator = Coordinator(
            store, executor, surfaces=folder / "surfaces", config=CoordinatorConfig()
        )
        await coordinator.start()
        servicer = JobServicer(
            store=store,
            coordinator=coordinator,
            validator=validator,
            catalog=catalog,
            config=config,
            heartbeat=heartbeat,
        )
        users = UserInterceptor()
        server = grpc.aio.server(interceptors=[StatusInterceptor(), users])
        jobs_pb2_grpc.add_JobServiceServicer_to_server(servicer, server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                yield Served(
                    server, servicer, store, coordinator, executor, validator, catalog, blobs,
                    config, users.under_way, address, jobs_pb2_grpc.JobServiceStub(channel),
                )  # fmt: skip
        finally:
            servicer.drain()
            await server.stop(0)
            await servicer.close()
            await coordinator.close()


def _fill(catalog: CatalogStore) -> None:
    """Give alice a model and arrays, and everybody the digits and another model."""
    model = ModelRecord(
        id=model_id(MODEL),
        user="alice",
        display_name="bowl",
        sha256=MODEL,
        size=5,
        created=0.0,
        parameters=4,
        moved=2,
        version="0",
    )
    arrays = DataSetRecord(
        id="",
        user="alice",
        display_name="my arrays",
        sha256=ARRAYS,
        size=6,
        created=0.0,
        layout="NCHW",
        arrays=(ArrayEntry("x", "float32", (9, 1, 8, 8)), ArrayEntry("y", "int64", (9,))),
    )
    digits = DataSetRecord(
        id="digits",
        user=EVERYBODY,
        display_name="digits",
        sha256=None,
        size=0,
        created=0.0,
        splits=("train", "test"),
    )
    catalog.models.put(model, audit="{}")
    catalog.models.put(
        dataclasses.replace(model, id="offered", user=EVERYBODY, sha256="e" * 64), audit="{}"
    )
    catalog.data_sets.put(dataclasses.replace(arrays, id=data_set_id(arrays.ref)))
    catalog.data_sets.put(digits)


def spec_message(num: int = 5, **fields: Any) -> jobs_pb2.JobSpec:
    """Return a spec of alice's model on the digits, on a small grid."""
    axis = jobs_pb2.Axis(start=-1, stop=1, num=num)
    given = {"model": f"models/{model_id(MODEL)}", "data": "dataSets/digits"}
    return jobs_pb2.JobSpec(**(given | {"grid": jobs_pb2.Grid(x=axis, y=axis)} | fields))


def run(scenario: Callable[[], Any], *, timeout: float = 60.0) -> Any:
    """Run a scenario to its end."""
    return asyncio.run(asyncio.wait_for(scenario(), timeout))


@dataclass(frozen=True)
class Refusal:
    """A status that is not OK, with its details."""

    code: grpc.StatusCode
    message: str
    reason: str
    fields: list[str]
    quotas: list[str]
    retry: float | None


async def refused(call: Any) -> Refusal:
    """Return the status of a call that has to fail, unary or a stream."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError("the call was not refused")


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Read the status of a failed call."""
    found = {
        kind: []
        for kind in ("ErrorInfo", "BadRequest", "QuotaFailure", "RetryInfo", "ResourceInfo")
    }
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = rpc_status.status_pb2.Status.FromString(value)
            assert (status.code, status.message) == (error.code().value[0], error.details())
            for packed in status.details:
                kind = packed.TypeName().rpartition(".")[2]
                detail = getattr(error_details_pb2, kind)()
                packed.Unpack(detail)
                found.setdefault(kind, []).append(detail)
    retry = [entry.retry_delay.ToTimedelta().total_seconds() for entry in found["RetryInfo"]]
    return Refusal(
        code=error.code(),
        message=error.details(),
        reason=found["ErrorInfo"][0].reason if found["ErrorInfo"] else "",
        fields=[v.field for entry in found["BadRequest"] for v in entry.field_violations],
        quotas=[v.subject for entry in found["QuotaFailure"] for v in entry.violations],
        retry=retry[0] if retry else None,
    )
