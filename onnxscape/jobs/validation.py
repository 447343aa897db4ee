"""The check of what strangers send, by child processes that have little memory and time.

This process reads neither models nor data: `validation_child` and `data_child` do, in an
interpreter that is thrown away afterwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from onnxscape import errors
from onnxscape.core.execution import GPU_PRECISIONS
from onnxscape.errors import (
    DeviceError,
    OnnxscapeError,
    UnsupportedModelError,
)
from onnxscape.files.limited_child import ChildError, WaitingChild
from onnxscape.jobs.check_queue import CheckQueue
from onnxscape.jobs.order_grid import grid_of
from onnxscape.jobs.order_kinds import spec_of, without_seed_and_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from onnxscape.core.spec import EvalSpec
    from onnxscape.jobs.check_queue import Place
    from onnxscape.jobs.order import DataRef, Order

_LOG = logging.getLogger(__name__)

_CHILD = "onnxscape.jobs.validation_child:answer"
_DATA_CHILD = "onnxscape.jobs.data_child:answer"
"""Imports less, so it is quicker."""
_MOST = 16 << 20
"""Bytes of the longest answer: an audit of many tensors."""

_GPU_SPEEDUP = 10.0
"""How many times faster a GPU is at least thought to be than a thread of the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationLimits:
    """What the check of one order, model or data set may use, and how many may wait.

    Attributes:
        seconds: Of one check.
        memory: Address space in bytes.
        threads: Of a check; as many as workers have, for an estimate of their speed.
        model_bytes: Of a model.
        model_nodes: Of a model, with those of its functions.
        waiting: Checks that wait, at most.
        of_user: Checks of one user that are under way or wait, at most.
        cached: Orders whose check is remembered.
        niceness: Added to the scheduling priority of a check: calls come first.
    """

    seconds: int = 120
    memory: int = 8 << 30
    threads: int = 1
    model_bytes: int = 2**31 - 1
    model_nodes: int = 100_000
    waiting: int = 64
    of_user: int = 4
    cached: int = 256
    niceness: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What is known of an order that can be computed.

    Attributes:
        spec: What defines the numbers.
        points: Points to evaluate, at most.
        seconds_per_point: Estimate for one slot.
        memory: Resident bytes of a worker, as an estimate.
        notes: For people.
        warnings: For people.
        devices: Kinds of devices that can compute it.
    """

    spec: EvalSpec
    points: int
    seconds_per_point: float
    memory: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model.

    Attributes:
        audit_json: The audit, as `onnxscape inspect --json` prints it.
        parameters: Number of trainable values.
        moved: Number of those that move by default.
        nodes: Number of nodes.
    """

    audit_json: str
    parameters: int
    moved: int
    nodes: int


@dataclass(slots=True, eq=False)
class _Check:
    """A check under way, or one that waits.

    Attributes:
        task: Ends with its answer.
        callers: How many wait for that.
    """

    task: asyncio.Task[Mapping[str, Any]]
    callers: int = 0


@dataclass(slots=True)
class Validator:
    """Checks orders, models and data sets; equal ones once.

    Attributes:
        blobs: Folder of the blobs: `ab/abcd...`.
        data_dir: Where data known by name are kept; None for the user's cache folder.
        limits: What a check may use.
        parallel: Checks at the same time.
        devices: Kinds of devices that the server has.
        offline: Whether data known by name must be there already.
        spare: Whether to keep a child process waiting that has imported all it needs: checks
            take two seconds less. `close` ends it.
    """

    blobs: Path
    data_dir: Path | None
    limits: ValidationLimits = field(default_factory=ValidationLimits)
    parallel: int = 1
    devices: Sequence[str] = ("cpu",)
    offline: bool = True
    spare: bool = False
    _queue: CheckQueue = field(init=False)
    _waiting_child: WaitingChild | None = None
    _known: OrderedDict[str, Mapping[str, Any]] = field(default_factory=OrderedDict)
    _running: dict[str, _Check] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Mapping[str, Any]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._queue = CheckQueue(
            parallel=self.parallel,
            waiting=self.limits.waiting,
            of_user=self.limits.of_user,
        )

    async def validate(self, order: Order, *, user: str = "") -> Validation:
        """Check an order: everything fits together, and its evaluation is right.

        Args:
            order: The order; its blobs must be there.
            user: Whose it is.

        Returns:
            What it amounts to.

        Raises:
            OnnxscapeError: If it cannot be computed; of the class that says why.
            ServerBusyError: If too many checks wait.
        """
        grid = grid_of(order)
        devices = self._devices_for(order)
        question = {
            "kind": "validate",
            "order": without_seed_and_grid(order).to_json(),
            "kind_of_device": devices[0],
        }
        found = await self._answer(question, user)
        spec = spec_of(found["spec"], order, grid)
        seconds = found["seconds"] / (_GPU_SPEEDUP if devices[0] == "cuda" else 1.0)
        return Validation(
            spec=spec,
            points=grid.size + (grid.center().row < 0),
            seconds_per_point=seconds,
            memory=found["memory"],
            notes=tuple(found["notes"]),
            warnings=tuple(found["warnings"]),
            devices=devices,
        )

    async def audit_model(
        self, sha: str, name: str = "model", *, user: str = ""
    ) -> ModelFacts:
        """Look at a model, and refuse what a server does not take.

        Args:
            sha: sha256 (hex) of its blob.
            name: What it is called, for people.
            user: Whose it is.

        Returns:
            What is known of it.

        Raises:
            ModelFileError: If it is no readable model, or refers to files.
            UnsupportedModelError: If it cannot be handled, or is above a limit.
            ServerBusyError: If too many checks wait.
        """
        found = await self._answer({"kind": "audit", "model": sha, "name": name}, user)
        return ModelFacts(
            audit_json=json.dumps(found["audit"], allow_nan=False),
            parameters=found["parameters"],
            moved=found["moved"],
            nodes=found["nodes"],
        )

    async def inspect_data(
        self, sha: str, data: DataRef, *, user: str = ""
    ) -> list[tuple[str, str, tuple[int, ...]]]:
        """Read arrays, and tell what they are.

        Args:
            sha: sha256 (hex) of the .npz file.
            data: What is known of it.
            user: Whose it is.

        Returns:
            Name, type and shape of each array.

        Raises:
            DataError: If it is no readable .npz file of numbers, or no data set.
            ServerBusyError: If too many checks wait.
        """
        values = dataclasses.asdict(replace(data, blob=sha))
        found = await self._answer({"kind": "data", "data": values}, user)
        return [(name, dtype, tuple(shape)) for name, dtype, shape in found["arrays"]]

    async def start(self) -> None:
        """Start the spare child, if there is to be one."""
        if self.spare and self._waiting_child is None:
            self._waiting_child = await self._child(_CHILD)

    async def close(self) -> None:
        """End all checks, and the spare child."""
        self.spare = False
        child, self._waiting_child = self._waiting_child, None
        if child is not None:
            await child.end()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _devices_for(self, order: Order) -> tuple[str, ...]:
        """Return the kinds of devices that an order can be computed on, the first by rule.

        Raises:
            DeviceError: If the server has none of them.
        """
        kinds = [kind for kind in self.devices if order.device in {"auto", kind}]
        if order.options.get("precision") in GPU_PRECISIONS:
            kinds = [kind for kind in kinds if kind != "cpu"]
        if not kinds:
            raise DeviceError(
                f"the order needs the device {order.device} with the precision "
                f"{order.options.get('precision', 'fp32')}; this server has "
                f"{', '.join(self.devices)}"
            )
        return tuple(kinds)

    async def _answer(self, question: Mapping[str, Any], user: str) -> Mapping[str, Any]:
        """Return what a child answers; equal questions are asked once.

        Raises:
            OnnxscapeError: If that is an error.
            ServerBusyError: If too many wait.
        """
        key = json.dumps(question, sort_keys=True)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        check = self._running.get(key)
        if check is None:
            check = self._running[key] = self._start(key, question, user)
        check.callers += 1
        try:
            # A caller who leaves does not take the answer from others who wait for it.
            found = await asyncio.shield(check.task)
        finally:
            check.callers -= 1
            if not check.callers and not check.task.done():
                # Its place is given back when it has ended; who asks now asks anew.
                del self._running[key]
                check.task.cancel()
        if "error" in found:
            kind, message = found["error"]
            raise _error(kind)(message)
        return found

    def _start(self, key: str, question: Mapping[str, Any], user: str) -> _Check:
        """Start a check, which waits for its user's turn.

        Returns:
            The check.

        Raises:
            ServerBusyError: If too many wait.
        """
        place = self._queue.enter(user)
        check = _Check(asyncio.create_task(self._ask(question, place)))
        self._tasks.add(check.task)

        def ended(task: asyncio.Task[Mapping[str, Any]]) -> None:
            self._queue.leave(place)
            self._tasks.discard(task)
            if self._running.get(key) is check:
                del self._running[key]
            self._keep(key, task)

        check.task.add_done_callback(ended)
        return check

    def _keep(self, key: str, task: asyncio.Task[Mapping[str, Any]]) -> None:
        if task.cancelled() or task.exception() is not None or "error" in task.result():
            return
        self._known[key] = task.result()
        while len(self._known) > self.limits.cached:
            self._known.popitem(last=False)

    async def _ask(self, question: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
        """Ask a child.

        Returns:
            Its answer, which may be an error that it tells of.

        Raises:
            UnsupportedModelError: If the child came to no answer.
        """
        limits = self.limits
        setting = {
            "device": "cpu",
            "threads": limits.threads,
            "blobs": str(self.blobs),
            "data_dir": None if self.data_dir is None else str(self.data_dir),
            "offline": self.offline,
        }
        rules = {"size": limits.model_bytes, "nodes": limits.model_nodes}
        request = json.dumps({**question, "place": setting, "rules": rules}).encode()
        name = _DATA_CHILD if question["kind"] == "data" else _CHILD
        await place.turn()
        try:
            child = await self._next_child(name)
            answer = await child.answer(request, seconds=limits.seconds, most=_MOST)
        except ChildError as error:
            _LOG.warning("a check failed: %s", error)
            raise UnsupportedModelError(
                f"this cannot be checked within the limits of the server: {error}"
            ) from error
        finally:
            await self.start()
        found: dict[str, Any] = json.loads(answer)
        if "unexpected" in found:
            _LOG.error("a check failed unexpectedly: %s", found["unexpected"])
            raise UnsupportedModelError(
                f"this cannot be handled: {found['message']}; the server's log has more"
            )
        return found

    async def _next_child(self, name: str) -> WaitingChild:
        """Return a child to be asked: the spare one, if it is of that kind."""
        child = self._waiting_child
        if name == _CHILD and child is not None:
            self._waiting_child = None
            if child.alive:
                return child
        return await self._child(name)

    async def _child(self, name: str) -> WaitingChild:
        limits = self.limits
        return await WaitingChild.start(
            name,
            seconds=limits.seconds,
            memory=limits.memory,
            threads=limits.threads,
            niceness=limits.niceness,
        )


def _error(name: str) -> Callable[[str], OnnxscapeError]:
    """Return the class of an error by its name."""
    found = getattr(errors, name, None) if name in errors.__all__ else None
    return found if found is not None else UnsupportedModelError
