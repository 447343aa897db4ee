"""Prototypes of evaluators on a device, each against the bare forward passes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import graphs
import numpy as np
import onnx
import onnxruntime as ort
from measuring import Case, Place, open_session

from onnxscape.graph.heads import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

CAPTURABLE = ("ConvActivationFusion", "ConvAddActivationFusion")
"""Optimizers whose fused convolution may not be captured in a CUDA graph."""


class Engine(Protocol):
    """Evaluates points; one call is one point, and returns when the device is done."""

    def point(self, alpha: float, beta: float) -> np.ndarray | None:
        """Return the losses of all samples, or [loss sum, hits], or None if it has none."""


class Runs:
    """A session with one binding for each batch, everything on the device.

    Args:
        session: The session.
        place: Where its buffers lie.
        feeds: Buffers by input, for each batch.
        shared: Buffers of the inputs that all batches share.
        results: Shape and type of each output wanted.
        captured: Whether each batch is a CUDA graph of its own.
        wait: Whether every run waits for the device, not only the last.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        place: Place,
        feeds: Sequence[Mapping[str, ort.OrtValue]],
        shared: Mapping[str, ort.OrtValue],
        results: Mapping[str, tuple[list[int], type]],
        *,
        captured: bool = False,
        wait: bool = False,
    ) -> None:
        self.session = session
        self.outputs: list[dict[str, ort.OrtValue]] = []
        self._bindings = []
        self._options = []
        for i, part in enumerate(feeds):
            binding = session.io_binding()
            for name, value in {**part, **shared}.items():
                binding.bind_ortvalue_input(name, value)
            made = {n: place.empty(shape, kind) for n, (shape, kind) in results.items()}
            for name, value in made.items():
                binding.bind_ortvalue_output(name, value)
            options = ort.RunOptions()
            if captured:
                options.add_run_config_entry("gpu_graph_id", str(i + 1))
            if i < len(feeds) - 1 and not wait:
                options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            self.outputs.append(made)
            self._bindings.append(binding)
            self._options.append(options)

    def run(self) -> None:
        """Run all batches and wait for the last."""
        for binding, options in zip(self._bindings, self._options, strict=True):
            self.session.run_with_iobinding(binding, options)

    def read(self, name: str) -> np.ndarray:
        """Return one output of all batches."""
        return np.concatenate([part[name].numpy() for part in self.outputs])


def cut(case: Case, place: Place, batch: int, *, labels: bool = True) -> list[dict]:
    """Return the samples as batches on the device; their number is a multiple of `batch`."""
    parts = []
    for start in range(0, len(case.x), batch):
        rows = slice(start, start + batch)
        part = {case.input: place.buffer(case.x[rows])}
        if labels:
            part[LABELS] = place.buffer(case.y[rows])
        parts.append(part)
    return parts


def per_sample(case: Case, batch: int) -> dict[str, tuple[list[int], type]]:
    """Return the outputs that a point's metrics are made of."""
    return dict.fromkeys((case.loss, case.hit), ([batch, 1], np.float64))


class Bare:
    """The limit: the user's own model, its weights constant, nothing read back."""

    def __init__(
        self,
        case: Case,
        place: Place,
        batch: int,
        options: Mapping[str, str] | None = None,
        disabled: Sequence[str] = (),
    ) -> None:
        model = graphs.bare(case, batch).SerializeToString()
        session = open_session(model, place, options, disabled=disabled)
        self._runs = Runs(
            session,
            place,
            cut(case, place, batch, labels=False),
            {},
            {session.get_outputs()[0].name: ([batch, 10], np.float32)},
        )

    def point(self, alpha: float, beta: float) -> None:
        """Run the forward passes of a point."""
        del alpha, beta
        self._runs.run()


class _Moving:
    """A session whose weights change from point to point, and what is read of each point."""

    def __init__(
        self,
        case: Case,
        place: Place,
        batch: int,
        model: onnx.ModelProto,
        inputs: Mapping[str, ort.OrtValue],
        options: Mapping[str, str] | None,
        disabled: Sequence[str],
        *,
        wait: bool = False,
        captured: bool = False,
    ) -> None:
        self._case = case
        capture = {"enable_cuda_graph": "1"} if captured else {}
        self._runs = Runs(
            open_session(
                model.SerializeToString(),
                place,
                {**(options or {}), **capture},
                disabled=disabled,
            ),
            place,
            cut(case, place, batch),
            inputs,
            per_sample(case, batch),
            captured=captured,
            wait=wait,
        )

    def _losses(self) -> np.ndarray:
        self._runs.run()
        self._runs.read(self._case.hit)
        return self._runs.read(self._case.loss).ravel()


class Resident(_Moving):
    """Weights, directions and data on the device; a small session writes the weights."""

    def __init__(
        self,
        case: Case,
        place: Place,
        batch: int,
        options: Mapping[str, str] | None = None,
        disabled: Sequence[str] = (),
        *,
        wait: bool = False,
        captured: bool = False,
        narrow: str | None = None,
    ) -> None:
        weights = {w.tensor: place.empty(w.theta.shape, np.float32) for w in case.weights}
        self._mover = Mover(case, place, weights)
        model = graphs.overridable(case, batch)
        if narrow is not None:
            graphs.narrowed(model, narrow)
        super().__init__(
            case,
            place,
            batch,
            model,
            weights,
            options,
            disabled,
            wait=wait,
            captured=captured,
        )

    def point(self, alpha: float, beta: float) -> np.ndarray:
        """Return the losses, with weights moved by a session of their own."""
        self._mover.move(alpha, beta)
        return self._losses()

    def parts(self) -> dict[str, Callable[[], object]]:
        """Return what a point consists of, to be timed by itself."""
        return {
            "move": lambda: self._mover.move(0.5, 0.5),
            "run": self._runs.run,
            "read": lambda: (
                self._runs.read(self._case.hit),
                self._runs.read(self._case.loss),
            ),
        }


class Mover:
    """Writes the weights of a point into buffers on the device."""

    def __init__(self, case: Case, place: Place, weights: Mapping[str, ort.OrtValue]) -> None:
        model = graphs.perturbation(case).SerializeToString()
        self._session = open_session(model, place)
        self._binding = self._session.io_binding()
        self._steps = [place.buffer(np.zeros(1)) for _ in range(2)]
        for name, value in zip((graphs.ALPHA, graphs.BETA), self._steps, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        for name, value in weights.items():
            self._binding.bind_ortvalue_output(name, value)

    def move(self, alpha: float, beta: float) -> None:
        """Write them, and wait until it is done."""
        for buffer, step in zip(self._steps, (alpha, beta), strict=True):
            buffer.update_inplace(np.array([step]))
        self._session.run_with_iobinding(self._binding)


class InGraph(_Moving):
    """One session that computes its weights itself, in every batch anew."""

    def __init__(
        self,
        case: Case,
        place: Place,
        batch: int,
        options: Mapping[str, str] | None = None,
        disabled: Sequence[str] = (),
        *,
        captured: bool = False,
    ) -> None:
        names = (graphs.ALPHA, graphs.BETA)
        self._steps = {name: place.buffer(np.zeros(1)) for name in names}
        model = graphs.in_graph(case, batch)
        super().__init__(
            case, place, batch, model, self._steps, options, disabled, captured=captured
        )

    def point(self, alpha: float, beta: float) -> np.ndarray:
        """Return the losses, with weights moved in the graph."""
        for buffer, step in zip(self._steps.values(), (alpha, beta), strict=True):
            buffer.update_inplace(np.array([step]))
        return self._losses()


class Accumulating:
    """Batches are chosen in the graph, sums stay on the device: one small read per point."""

    def __init__(self, case: Case, place: Place, batch: int) -> None:
        weights = {w.tensor: place.empty(w.theta.shape, np.float32) for w in case.weights}
        self._mover = Mover(case, place, weights)
        model = graphs.accumulating(case, batch, len(case.x)).SerializeToString()
        self._session = open_session(model, place)
        data = {
            f"all::{case.input}": place.buffer(case.x),
            f"all::{LABELS}": place.buffer(case.y),
        }
        self._sums = [place.buffer(np.zeros(2)) for _ in range(2)]
        self._bindings = []
        for i, start in enumerate(range(0, len(case.x), batch)):
            rows = place.buffer(np.arange(start, start + batch))
            binding = self._session.io_binding()
            inputs = {**data, **weights, "rows": rows, "sums": self._sums[i % 2]}
            for name, value in inputs.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output("new_sums", self._sums[(i + 1) % 2])
            self._bindings.append(binding)
        self._rushed = ort.RunOptions()
        self._rushed.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def point(self, alpha: float, beta: float) -> np.ndarray:
        """Return the sums of losses and hits."""
        self._mover.move(alpha, beta)
        self._sums[0].update_inplace(np.zeros(2))
        for binding in self._bindings[:-1]:
            self._session.run_with_iobinding(binding, self._rushed)
        self._session.run_with_iobinding(self._bindings[-1])
        sums: np.ndarray = self._sums[len(self._bindings) % 2].numpy()
        return sums


class ConstantSession:
    """A session of its own for every point, its weights constant."""

    def __init__(
        self, case: Case, place: Place, batch: int, options: Mapping[str, str] | None = None
    ) -> None:
        model = onnx.load_from_string(case.prepared.with_external_weights())
        self._model = graphs.fixed(model, case.input, batch).SerializeToString()
        self._case, self._place, self._batch = case, place, batch
        self._options = options
        self._feeds = cut(case, place, batch)
        self.opening = 0.0

    def point(self, alpha: float, beta: float) -> np.ndarray:
        """Return the losses, from a new session."""
        start = time.perf_counter()
        settings = ort.SessionOptions()
        values = [
            ort.OrtValue.ortvalue_from_numpy(w.at(alpha, beta)) for w in self._case.weights
        ]
        settings.add_external_initializers([w.tensor for w in self._case.weights], values)
        session = open_session(
            self._model, self._place, self._options, session_options=settings
        )
        self.opening = time.perf_counter() - start
        runs = Runs(session, self._place, self._feeds, {}, per_sample(self._case, self._batch))
        runs.run()
        runs.read(self._case.hit)
        return runs.read(self._case.loss).ravel()


class Product:
    """The product's own evaluator of a strategy."""

    def __init__(
        self, case: Case, place: Place, batch: int, strategy: str = "overriding"
    ) -> None:
        from onnxscape.core.samples import Samples
        from onnxscape.runtime.devices import find_device
        from onnxscape.runtime.strategies import STRATEGIES

        samples = Samples(
            inputs={case.input: case.x},
            labels=case.y,
            population=len(case.x),
            name="images",
            digest="",
        )
        self._evaluator = STRATEGIES[strategy](
            case.prepared,
            samples,
            case.delta,
            case.eta,
            device=find_device(place.kind),
            batch=batch,
            threads=1,
        )

    def point(self, alpha: float, beta: float) -> np.ndarray:
        """Return the mean loss."""
        return np.array([self._evaluator.evaluate(alpha, beta)["loss"]])


class Run:
    """What `onnxscape eval` starts: self-test, plan and evaluator."""

    def __init__(
        self, case: Case, model: Path, device: str, precision: str, strategy: str
    ) -> None:
        from onnxscape.core.grid import Grid
        from onnxscape.evaluation.engine import start_engine
        from onnxscape.evaluation.inputs import resolve
        from onnxscape.evaluation.observer import QuietObserver
        from onnxscape.evaluation.request import EvalRequest

        request = EvalRequest(
            model=model,
            data=(case.x, case.y),
            samples="all",
            grid=Grid.parse("3x3"),
            device=device,
            precision=precision,
            strategy=strategy,
        )
        observer = QuietObserver()
        self._engine = start_engine(resolve(request, observer), None, observer)
        self.batch = self._engine.plan.batch

    def point(self, alpha: float, beta: float) -> np.ndarray:
        """Return the mean loss."""
        return np.array([self._engine.evaluator.evaluate(alpha, beta)["loss"]])
