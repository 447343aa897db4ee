"""The packages `loss-landscapes` and `Landscaper`, each used as its documentation says.

Both run a loop of their own over all points and call a function of the user at each. That
function is where they are held between two blocks, so that they can take turns with others:
from a package's point of view, it takes long at some points.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch_loops import BATCH, Task, mean_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Points = Sequence[tuple[float, float]]


class _Closed(BaseException):
    """The contest is over; goes through the package's loop and ends it."""


class Stepped:
    """A package's loop, so many points at a time; a contestant.

    The work between two points counts for the second of them.

    Args:
        loop: Calls the package; is given what must be called at every point, with a function
            that computes the loss there.
        warm_up: Computes a loss, once, before the loop.
        path: Where the loop goes, if that can be told.
    """

    def __init__(
        self,
        loop: Callable[[Callable[[Callable[[], float]], float]], object],
        warm_up: Callable[[], float],
        path: Points | None = None,
    ) -> None:
        self._permits = threading.Semaphore(0)
        self._losses: queue.SimpleQueue[float | Exception] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._closing = False
        self._path = path
        self._loop, self._warm_up = loop, warm_up
        self.setup_seconds = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def advance(self, points: Points) -> list[float]:
        """Let the loop evaluate as many points.

        Args:
            points: How many.

        Returns:
            Their mean losses.

        Raises:
            Exception: What the loop raised.
        """
        self._permits.release(len(points))
        losses: list[float] = []
        for _ in points:
            loss = self._losses.get()
            if isinstance(loss, Exception):
                raise loss
            losses.append(loss)
        return losses

    def path(self, points: Points) -> Points | None:
        """Return where the loop goes, if that can be told.

        Args:
            points: Not looked at.
        """
        del points
        return self._path

    def close(self) -> None:
        """End the loop."""
        self._closing = True
        self._permits.release()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            self._warm_up()
            self._begin = time.perf_counter()
            self._loop(self._at_point)
        except _Closed:
            pass
        except Exception as error:  # noqa: BLE001 - raised again where the points are waited for
            self._losses.put(error)
        finally:
            self._ready.set()

    def _at_point(self, evaluate: Callable[[], float]) -> float:
        if not self._ready.is_set():
            self.setup_seconds = time.perf_counter() - self._begin
            self._ready.set()
            self._wait()
        loss = evaluate()
        self._losses.put(loss)
        self._wait()
        return loss

    def _wait(self) -> None:
        self._permits.acquire()
        if self._closing:
            raise _Closed


def loss_landscapes_plane(task: Task, steps: int, *, at_once: bool) -> Stepped:
    """Let `loss-landscapes` walk our plane, by `planar_interpolation`.

    Its loop is that of `random_plane`, which draws directions of its own. It goes up and
    down the columns in turns, and the columns that it goes up are shifted by one step.

    Args:
        task: Network, directions, data.
        steps: Points per direction.
        at_once: Whether to use its own metric `Loss`, which takes all samples at once, as in
            its documentation; else one that goes through the batches of the reference.

    Returns:
        The contestant.
    """
    import loss_landscapes
    from loss_landscapes.metrics import Loss, Metric

    batches = task.batches(len(task.x) if at_once else BATCH)
    step = 2 / (steps - 1)
    start = _moved(task, -1.0, -1.0)
    ends = [_moved(task, -1.0 + steps * step, -1.0), _moved(task, -1.0, -1.0 + steps * step)]
    own = Loss(nn.functional.cross_entropy, *batches[0]) if at_once else None

    def loop(at_point: Callable[[Callable[[], float]], float]) -> object:
        class Held(Metric):  # type: ignore[misc, valid-type]
            """A metric, held between two blocks."""

            def __call__(self, wrapper: Any) -> float:
                """Return the mean loss."""
                if own is not None:
                    return at_point(lambda: own(wrapper))
                return at_point(lambda: mean_loss(wrapper.forward, batches))

        return loss_landscapes.planar_interpolation(
            start, *ends, Held(), steps=steps, deepcopy_model=True
        )

    def warm_up() -> float:
        return mean_loss(start, batches)

    path = []
    for i in range(steps):
        columns = range(1, steps + 1) if i % 2 == 0 else reversed(range(steps))
        path += [(-1.0 + i * step, -1.0 + j * step) for j in columns]
    return Stepped(loop, warm_up, path)


def random_plane_setup(task: Task) -> float:
    """Return the seconds that `random_plane` draws and normalizes its directions."""
    import loss_landscapes
    from loss_landscapes.metrics import Metric

    class Once(Metric):  # type: ignore[misc, valid-type]
        """Ends the loop at its first point."""

        def __call__(self, wrapper: Any) -> float:
            """Evaluate nothing.

            Raises:
                _Closed: Always.
            """
            raise _Closed

    begin = time.perf_counter()
    with contextlib.suppress(_Closed):
        loss_landscapes.random_plane(
            task.copy(), Once(), steps=2, normalization="filter", deepcopy_model=True
        )
    return time.perf_counter() - begin


def landscaper_plane(
    task: Task, steps: int, distance: float, *, batch: int = BATCH
) -> Stepped:
    """Let `Landscaper` walk a plane along our directions, by `LossLandscape.compute`.

    It scales each tensor of a direction to a length of its own, so that its points are
    others than ours, and walks to each by steps from the center.

    Args:
        task: Network, directions, data.
        steps: Points per direction.
        distance: How far it goes, relative to the length of all weights.
        batch: Samples per forward pass of the function that it is given.

    Returns:
        The contestant.
    """
    from landscaper import LossLandscape

    batches = task.batches(batch)
    network = task.copy()
    directions = [task.direction(task.delta), task.direction(task.eta)]

    def loop(at_point: Callable[[Callable[[], float]], float]) -> object:
        return LossLandscape.compute(
            network,
            batches,
            directions,
            lambda model, data: at_point(lambda: mean_loss(model, data)),
            steps=steps,
            distance=distance,
            dim=2,
            device=task.device,
        )

    return Stepped(loop, lambda: mean_loss(network, batches))


def landscaper_steps(
    task: Task, steps: int, distance: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the steps that `Landscaper` makes of our directions.

    Args:
        task: Network and directions.
        steps: Points per direction.
        distance: How far it goes.

    Returns:
        Its step along each direction: parameter name to float32 array.
    """
    parameters = dict(task.network.named_parameters())
    total = torch.sqrt(sum(p.detach().double().pow(2).sum() for p in parameters.values()))
    found = []
    for tensors in (task.delta, task.eta):
        scaled = {
            name: torch.from_numpy(d).double() * d.size**0.5 / float((d**2).sum()) ** 0.5
            for name, d in tensors.items()
        }
        norm = torch.sqrt(sum(d.pow(2).sum() for d in scaled.values()))
        factor = total * distance / (steps / 2) / norm
        found.append({name: (d * factor).float().numpy() for name, d in scaled.items()})
    return found[0], found[1]


def _moved(task: Task, alpha: float, beta: float) -> nn.Module:
    network = copy.deepcopy(task.network).to(task.device)
    with torch.no_grad():
        for parameter, d, e in zip(
            network.parameters(),
            task.direction(task.delta),
            task.direction(task.eta),
            strict=True,
        ):
            parameter.add_(alpha * d + beta * e)
    return network.eval()
