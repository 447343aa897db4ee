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
from onnxscape.core.direction import MAX_SEED
from onnxscape.core.spec import EvalSpec
from onnxscape.errors import (
    DeviceError,
    OnnxscapeError,
    ServerBusyError,
    UnsupportedModelError,
    UsageError,
)
from onnxscape.files.limited_child import ChildError, WaitingChild
from onnxscape.jobs.order import GPU_PRECISIONS
from onnxscape.jobs.order_grid import grid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from onnxscape.core.grid import Grid
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
        cached: Orders whose check is remembered.
    """

    seconds: int = 120
    memory: int = 8 << 30
    threads: int = 1
    model_bytes: int = 2**31 - 1
    model_nodes: int = 100_000
    waiting: int = 64
    cached: int = 256


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


@dataclass(slots=True)
class _Queue:
    """Checks under way, and those that wait.

    Attributes:
        turns: One for each check that may be under way.
        most: Checks that may wait.
        waiting: Checks that wait.
    """

    turns: asyncio.Semaphore
    most: int
    waiting: int = 0

    async def __aenter__(self) -> None:
        if self.turns.locked() and self.waiting >= self.most:
            raise ServerBusyError(
                f"{self.waiting} orders, models and data sets wait for their check already; "
                "try again in a few seconds"
            )
        self.waiting += 1
        try:
            await self.turns.acquire()
        finally:
            self.waiting -= 1

    async def __aexit__(self, *_exception: object) -> None:
        self.turns.release()


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
    _queue: _Queue = field(init=False)
    _waiting_child: WaitingChild | None = None
    _known: OrderedDict[str, Mapping[str, Any]] = field(default_factory=OrderedDict)
    _running: dict[str, asyncio.Task[Mapping[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._queue = _Queue(asyncio.Semaphore(self.parallel), self.limits.waiting)

    async def validate(self, order: Order) -> Validation:
        """Check an order: everything fits together, and its evaluation is right.

        Args:
            order: The order; its blobs must be there.

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
            "order": _without_seed_and_grid(order).to_json(),
            "kind_of_device": devices[0],
        }
        found = await self._answer(question)
        spec = _spec(found["spec"], order, grid)
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

    async def audit_model(self, sha: str, name: str = "model") -> ModelFacts:
        """Look at a model, and refuse what a server does not take.

        Args:
            sha: sha256 (hex) of its blob.
            name: What it is called, for people.

        Returns:
            What is known of it.

        Raises:
            ModelFileError: If it is no readable model, or refers to files.
            UnsupportedModelError: If it cannot be handled, or is above a limit.
            ServerBusyError: If too many checks wait.
        """
        found = await self._answer({"kind": "audit", "model": sha, "name": name})
        return ModelFacts(
            audit_json=json.dumps(found["audit"], allow_nan=False),
            parameters=found["parameters"],
            moved=found["moved"],
            nodes=found["nodes"],
        )

    async def inspect_data(
        self, sha: str, data: DataRef
    ) -> list[tuple[str, str, tuple[int, ...]]]:
        """Read arrays, and tell what they are.

        Args:
            sha: sha256 (hex) of the .npz file.
            data: What is known of it.

        Returns:
            Name, type and shape of each array.

        Raises:
            DataError: If it is no readable .npz file of numbers, or no data set.
            ServerBusyError: If too many checks wait.
        """
        values = dataclasses.asdict(replace(data, blob=sha))
        found = await self._answer({"kind": "data", "data": values})
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
        tasks = list(self._running.values())
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

    async def _answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a child answers; equal questions are asked once.

        Raises:
            OnnxscapeError: If that is an error.
        """
        key = json.dumps(question, sort_keys=True)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._ask(question))
            task.add_done_callback(lambda done: self._keep(key, done))
        # A caller who leaves does not take the answer from others who wait for it.
        found = await asyncio.shield(task)
        if "error" in found:
            kind, message = found["error"]
            raise _error(kind)(message)
        return found

    def _keep(self, key: str, task: asyncio.Task[Mapping[str, Any]]) -> None:
        del self._running[key]
        if task.cancelled() or task.exception() is not None or "error" in task.result():
            return
        self._known[key] = task.result()
        while len(self._known) > self.limits.cached:
            self._known.popitem(last=False)

    async def _ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask a child.

        Returns:
            Its answer, which may be an error that it tells of.

        Raises:
            ServerBusyError: If too many wait.
            UnsupportedModelError: If the child came to no answer.
        """
        limits = self.limits
        place = {
            "device": "cpu",
            "threads": limits.threads,
            "blobs": str(self.blobs),
            "data_dir": None if self.data_dir is None else str(self.data_dir),
            "offline": self.offline,
        }
        rules = {"size": limits.model_bytes, "nodes": limits.model_nodes}
        request = json.dumps({**question, "place": place, "rules": rules}).encode()
        name = _DATA_CHILD if question["kind"] == "data" else _CHILD
        async with self._queue:
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
            name, seconds=limits.seconds, memory=limits.memory, threads=limits.threads
        )


def _error(name: str) -> Callable[[str], OnnxscapeError]:
    """Return the class of an error by its name."""
    found = getattr(errors, name, None) if name in errors.__all__ else None
    return found if found is not None else UnsupportedModelError


def _without_seed_and_grid(order: Order) -> Order:
    """Return the order that stands for all of other seeds and grids.

    Which axes there are stays, and all of the grid where it matters which points are wanted.

    Raises:
        UsageError: If the seed is none.
    """
    options = dict(order.options)
    seed = options.pop("seed", 0)
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise UsageError(f"expected a seed from 0 to {MAX_SEED}, got {seed!r}")
    if not options.get("adaptive") and options.get("two_level") is None:
        for name in ("x", "y"):
            if options.get(name) is not None:
                options[name] = [-1.0, 1.0, 3]
    return replace(order, options=options)


def _spec(values: Mapping[str, Any], order: Order, grid: Grid) -> EvalSpec:
    """Return the spec of an order from that of its kind."""
    spec = EvalSpec.from_dict(values)
    seed = None if spec.seed is None else order.options.get("seed", 0)
    return replace(spec, grid=grid, seed=seed)
