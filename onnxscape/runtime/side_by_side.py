"""Points side by side: several workers, one evaluator, results as they come."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from onnxscape.core.grid import Point
    from onnxscape.runtime.evaluator import PointEvaluator


def evaluate_points(
    evaluator: PointEvaluator, points: Iterable[Point], workers: int = 1
) -> Generator[tuple[Point, Mapping[str, float]]]:
    """Evaluate points, several at a time.

    ONNX Runtime computes outside Python's lock, so threads are enough. What one point gives
    does not depend on the others, hence neither on the number of workers; only the order in
    which points come does.

    Args:
        evaluator: Evaluates one point; from several threads at once if `workers` is above 1.
        points: Which; taken one by one, as workers become free.
        workers: Points under way at the same time.

    Yields:
        A point and its metrics, as soon as they are there.

    Raises:
        OnnxscapeError: If a point fails. The points under way are then given up, as they are
            on an interrupt or when the iteration is left: within one batch.
    """
    if workers == 1:
        for point in points:
            metrics = evaluator.evaluate(point.alpha, point.beta, samples=point.samples)
            yield point, metrics
        return
    left = iter(points)
    stop = threading.Event()
    running: dict[Future[Mapping[str, float]], Point] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="points") as pool:

        def submit(count: int) -> None:
            for point in islice(left, count):
                wanted = (point.alpha, point.beta, stop, point.samples)
                task = pool.submit(evaluator.evaluate, *wanted)
                running[task] = point

        try:
            submit(workers)
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                done = [(running.pop(task), task) for task in finished]
                submit(len(done))
                for point, task in done:
                    yield point, task.result()
        finally:
            stop.set()
