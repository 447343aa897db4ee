"""Placing orders: checked by a validator, admitted, stored, and handed to the coordinator."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from onnxscape.errors import RequestIdConflictError
from onnxscape.jobs.records import Estimate, Job
from onnxscape.jobs.states import FINISHED, JobState
from onnxscape.service.orders.admission import DAY, Load, refuse_excess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from onnxscape.core.spec import EvalSpec
    from onnxscape.jobs.coordinator import Coordinator
    from onnxscape.jobs.job_store import JobStore
    from onnxscape.jobs.order import Order
    from onnxscape.service.settings.config import ServerConfig
    from onnxscape.v1 import jobs_pb2

    Call = Callable[..., Awaitable[Any]]

_log = logging.getLogger(__name__)

ACTIVE = frozenset(JobState) - FINISHED
"""States of jobs that still cost something."""


class Validation(Protocol):
    """What a validator finds out about an order."""

    @property
    def spec(self) -> EvalSpec:
        """What defines the numbers."""

    @property
    def points(self) -> int:
        """Points to evaluate, as far as known."""

    @property
    def seconds_per_point(self) -> float:
        """Estimate."""

    @property
    def memory(self) -> int:
        """Of a worker, in bytes."""

    @property
    def notes(self) -> tuple[str, ...]:
        """For people."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """For people."""


class OrderValidator(Protocol):
    """Reads and tries what an order names."""

    async def validate(self, order: Order, *, user: str) -> Validation:
        """Find out what an order means and costs.

        Args:
            order: The order.
            user: Whose it is.

        Returns:
            What was found.

        Raises:
            OnnxscapeError: If it cannot be carried out.
        """


@dataclass(frozen=True, slots=True)
class Offer:
    """What an order means and costs.

    Attributes:
        spec: JSON of its spec.
        estimate: What it takes.
        notes: For people.
        warnings: For people.
        earlier: The user's job of the same order, whose result is shared; None if there is
            none.
    """

    spec: str
    estimate: Estimate
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    earlier: Job | None = None


class Placing:
    """Makes jobs of orders."""

    def __init__(
        self,
        *,
        store: JobStore,
        coordinator: Coordinator,
        validator: OrderValidator,
        config: ServerConfig,
        call: Call,
    ) -> None:
        """Put the parts together.

        Args:
            store: Where jobs are kept.
            coordinator: Has them computed.
            validator: Finds out what orders mean and cost.
            config: Limits and quotas.
            call: Calls a function in a thread.
        """
        self._store, self._coordinator, self._validator = store, coordinator, validator
        self._config = config
        self._call = call
        self._admitting = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def place(
        self, user: str, order: Order, request: jobs_pb2.CreateJobRequest
    ) -> tuple[Job, bool]:
        """Make a job of an order, or find the one that there is.

        Args:
            user: Who orders.
            order: What.
            request: With what besides.

        Returns:
            The job, stored unless it is new and was only to be validated; and whether it is an
            earlier one of the same order.

        Raises:
            RequestIdConflictError: If the request's ID was used for another order.
            ExhaustedError: If a limit or a quota has no room for it.
            OnnxscapeError: If the order cannot be carried out.
        """
        if request.request_id and not request.validate_only:
            job = await self._call(self._of_request, user, request.request_id, order)
            if job is not None:
                await self._submit(job)
                return job, False
        offer = await self._offer(user, order)
        if request.validate_only:
            if offer.earlier is not None:
                return offer.earlier, True
            await self._admit(user, offer.estimate)
            return _proposal(user, order, request, offer), False
        # To its end even if the caller leaves: a job that is stored has to get its turn.
        storing = asyncio.ensure_future(self._create(user, order, request, offer))
        self._under_way.add(storing)
        storing.add_done_callback(self._under_way.discard)
        return await asyncio.shield(storing)

    async def settle(self) -> None:
        """Wait until all jobs that are being stored are."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _of_request(self, user: str, request_id: str, order: Order) -> Job | None:
        """Return the job that a request was answered with before.

        Raises:
            RequestIdConflictError: If it was another order.
        """
        found = self._store.find_request(user, request_id)
        if found is None:
            return None
        job_id, digest = found
        if digest != order.digest():
            raise RequestIdConflictError(
                f"expected a request_id that is new, or the order that it was used for, got "
                f"{request_id!r}, of the order of jobs/{job_id}; choose another request_id"
            )
        return self._store.job(job_id, user)

    async def _offer(self, user: str, order: Order) -> Offer:
        earlier: Job | None = await self._call(self._store.find_equal, user, order.digest())
        if earlier is not None:
            return Offer(
                earlier.spec, earlier.estimate, earlier.notes, earlier.warnings, earlier
            )
        found = await self._validator.validate(order, user=user)
        estimate = Estimate(found.points, found.points * found.seconds_per_point, found.memory)
        return Offer(found.spec.to_json(), estimate, found.notes, found.warnings)

    async def _create(
        self, user: str, order: Order, request: jobs_pb2.CreateJobRequest, offer: Offer
    ) -> tuple[Job, bool]:
        # One after the other: of two orders at the same time, the second one counts the first.
        async with self._admitting:
            if offer.earlier is None:
                await self._admit(user, offer.estimate)
            job, new = await self._call(
                self._store.create_job,
                user=user,
                order=order,
                spec=offer.spec,
                display_name=request.display_name,
                priority=request.priority,
                estimate=offer.estimate,
                notes=offer.notes,
                warnings=offer.warnings,
                total=offer.estimate.points,
                request_id=request.request_id or None,
                now=time.time(),
            )
        told = {"job": job.id, "points": job.total, "shared": not new}
        _log.info("job ordered", extra=told)
        await self._submit(job)
        return job, not new

    async def _submit(self, job: Job) -> None:
        """Have a job computed, also one of before: it may be stored and yet not submitted."""
        if job.state not in FINISHED:
            await self._coordinator.submit(job.id)

    async def _admit(self, user: str, estimate: Estimate) -> None:
        load = await self._call(self._load, user)
        refuse_excess(user, estimate, load, self._config)

    def _load(self, user: str) -> Load:
        active, awaited = self._store.active(user)
        counts = self._store.counts_by_state()
        return Load(
            active=active,
            kept=self._store.kept_count(user),
            used_seconds=self._store.usage_since(user, time.time() - DAY),
            awaited_seconds=awaited,
            server=sum(counts.get(state, 0) for state in ACTIVE),
        )


def _proposal(
    user: str, order: Order, request: jobs_pb2.CreateJobRequest, offer: Offer
) -> Job:
    """Return the job that an order would become."""
    return Job(
        id="",
        user=user,
        order=order,
        display_name=request.display_name,
        priority=request.priority,
        state=JobState.QUEUED,
        failure=None,
        revision=0,
        spec=offer.spec,
        plan=None,
        outline=None,
        provenance=None,
        notes=offer.notes,
        warnings=offer.warnings,
        total=offer.estimate.points,
        done=0,
        failed=0,
        estimate=offer.estimate,
        created=time.time(),
        started=None,
        ended=None,
        device_seconds=0.0,
    )
