"""Points side by side: several workers, one evaluator, results as they come."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING

from onnxscape.errors import OnnxscapeError
from onnxscape.runtime.evaluator import EvaluationStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.runtime.evaluator import PointEvaluator


def evaluate_points(
    evaluator: PointEvaluator,
    points: Iterable[Point],
    workers: int = 1,
    *,
    keep: Callable[[Point, Mapping[str, float]], None] | None = None,
) -> Generator[tuple[Point, Mapping[str, float]]]:
    """Evaluate points, several at a time.

    ONNX Runtime computes outside Python's lock, so threads are enough. What one point gives
    does not depend on the others, hence neither on the number of workers; only the order in
    which points come does.

    Args:
        evaluator: Evaluates one point; from several threads at once if `workers` is above 1.
        points: Which; taken one by one, as workers become free.
        workers: Points under way at the same time.
        keep: Given the points that were finished when the iteration was left, by an interrupt
            or otherwise, and had not come yet.

    Yields:
        A point and its metrics, as soon as they are there.

    Raises:
        OnnxscapeError: If a point fails, once those that did not have come. What is under way
            then is given up, as it is when the iteration is left: within one batch.
    """
    if workers == 1:
        for point in points:
            yield point, evaluator.evaluate(point.alpha, point.beta, samples=point.samples)
        return
    left = iter(points)
    stop = threading.Event()
    running: dict[Future[Mapping[str, float]], Point] = {}
    ready: deque[tuple[Point, Mapping[str, float]]] = deque()
    failure: BaseException | None = None
    with ThreadPoolExecutor(workers, thread_name_prefix="points") as pool:

        def submit(count: int) -> None:
            for point in islice(left, count):
                task = pool.submit(
                    evaluator.evaluate, point.alpha, point.beta, stop, samples=point.samples
                )
                running[task] = point

        def collect(finished: Iterable[Future[Mapping[str, float]]]) -> BaseException | None:
            failed = None
            for task in finished:
                point, error = running.pop(task), task.exception()
                if error is None:
                    ready.append((point, task.result()))
                elif not isinstance(error, EvaluationStopped):
                    failed = error
            return failed

        try:
            submit(workers)
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                failure = collect(finished)
                if failure is None:
                    submit(workers - len(running))
                else:
                    stop.set()
                    collect(wait(running).done)
                while ready:
                    yield ready[0]
                    ready.popleft()
            if failure is not None:
                raise failure
        finally:
            stop.set()
            collect(wait(running).done)
            if keep is not None:
                with contextlib.suppress(OnnxscapeError):  # what ended it is what counts
                    for result in ready:
                        keep(*result)
