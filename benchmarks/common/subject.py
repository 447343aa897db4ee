"""What is measured: onnxscape's evaluation, and the bare forward passes beside it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnxruntime as ort

from onnxscape.core.grid import Point
from onnxscape.evaluation.engine import Engine, start_engine
from onnxscape.evaluation.inputs import EvalInputs, resolve
from onnxscape.evaluation.observer import QuietObserver
from onnxscape.runtime.buffers import buffer
from onnxscape.runtime.devices import usable_cores
from onnxscape.runtime.evaluator import filled_up
from onnxscape.runtime.sessions import session_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxscape.evaluation.request import EvalRequest


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """An engine that is ready to evaluate points, and what it was made from.

    Attributes:
        inputs: Model, samples, directions.
        engine: The engine.
        threads: Threads on the CPU that all contestants may use.
        start_seconds: What reading, preparing and the self-test took.
    """

    inputs: EvalInputs
    engine: Engine
    threads: int
    start_seconds: float

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.engine.device.kind


def make_subject(request: EvalRequest) -> Subject:
    """Start an engine as `onnxscape eval` does.

    Args:
        request: What to evaluate.

    Returns:
        The engine, its self-test passed.
    """
    begin = time.perf_counter()
    observer = QuietObserver()
    inputs = resolve(request, observer)
    engine = start_engine(inputs, None, observer)
    threads = usable_cores() if request.threads is None else request.threads
    return Subject(inputs, engine, threads, time.perf_counter() - begin)


def evaluate_points(engine: Engine, points: Sequence[tuple[float, float]]) -> list[float]:
    """Evaluate points as a run does; the one place where benchmarks call the engine.

    Args:
        engine: The engine.
        points: (alpha, beta) each.

    Returns:
        The mean loss of each, in their order.
    """
    numbered = [Point(0, column, *point) for column, point in enumerate(points)]
    losses = {point.column: metrics["loss"] for point, metrics in engine.evaluate(numbered)}
    return [losses[column] for column in range(len(points))]


class BarePasses:
    """ONNX Runtime's forward passes of the user's own file, nothing else.

    The weights stay the file's constants, the batches are those of the engine. On a GPU the
    samples lie there, every batch is full, and nothing waits for one but the last.
    """

    def __init__(self, subject: Subject, *, workers: int = 1) -> None:
        """Open the sessions, and run each once.

        Args:
            subject: The engine whose batches and device to take.
            workers: Sessions that run at once, sharing the threads out among them.
        """
        inputs, engine = subject.inputs, subject.engine
        self._output = [inputs.file.outputs[0].name]
        self._size = size = engine.plan.batch
        samples = inputs.samples
        self._batches = [
            {name: array[i : i + size] for name, array in samples.inputs.items()}
            for i in range(0, len(samples), size)
        ]
        for feeds in self._batches:
            feeds.update(samples.constants)
        self._device = engine.device
        self._kept: list[ort.OrtValue] = []
        self._rushed = ort.RunOptions()  # comes back before the device is done
        self._rushed.add_run_config_entry("disable_synchronize_execution_providers", "1")
        options = session_options(max(1, subject.threads // workers))
        self._sessions = [
            ort.InferenceSession(
                inputs.file.content, options, providers=engine.device.providers()
            )
            for _ in range(workers)
        ]
        self._bindings = self._bound() if self._device.kind == "cuda" else []
        self._pool = ThreadPoolExecutor(workers)
        self.run(workers)

    def _bound(self) -> list[ort.IOBinding]:
        """Return the batches bound on a GPU: the images stay there, and so do the outputs."""
        (session,) = self._sessions
        bindings = []
        for feeds in self._batches:
            binding = session.io_binding()
            for name, array in filled_up(feeds, self._size).items():
                self._kept.append(buffer(array, self._device))
                binding.bind_ortvalue_input(name, self._kept[-1])
            binding.bind_output(self._output[0], *self._device.memory)
            bindings.append(binding)
        return bindings

    def run(self, count: int) -> None:
        """Run all batches.

        Args:
            count: How often: once per point.
        """
        workers = len(self._sessions)
        shares = [len(range(i, count, workers)) for i in range(workers)]
        if workers == 1:
            self._run_share(self._sessions[0], shares[0])
        else:
            list(self._pool.map(self._run_share, self._sessions, shares))

    def _run_share(self, session: ort.InferenceSession, count: int) -> None:
        for _ in range(count):
            for binding in self._bindings[:-1]:
                session.run_with_iobinding(binding, self._rushed)
            if self._bindings:
                session.run_with_iobinding(self._bindings[-1])
                continue
            for feeds in self._batches:
                session.run(self._output, feeds)
