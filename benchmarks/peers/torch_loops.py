"""PyTorch in the loop of the reference implementation (tomgoldstein/loss-landscape).

At every point all weights are set to theta + alpha * delta + beta * eta; then, without
gradients and in evaluation mode, loss and hits of every batch are brought back to Python. The
images are ready in memory, as tensors: the reference decodes and transforms them at every
point.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH = 128
"""The reference's default."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What all contestants that use torch get.

    Attributes:
        network: The network, on the CPU, in evaluation mode.
        delta: Direction of alpha: parameter name to array.
        eta: Direction of beta, likewise.
        x: Inputs.
        y: Labels.
        device: `cpu` or `cuda`.
    """

    network: nn.Module
    delta: dict[str, np.ndarray]
    eta: dict[str, np.ndarray]
    x: np.ndarray
    y: np.ndarray
    device: str

    def copy(self) -> nn.Module:
        """Return a network of one's own, on the device."""
        return copy.deepcopy(self.network).to(self.device).eval()

    def direction(self, tensors: dict[str, np.ndarray]) -> list[torch.Tensor]:
        """Return a direction of all parameters, in their order, zero where nothing moves."""
        return [
            torch.from_numpy(tensors[name].astype(np.float32)).to(self.device)
            if name in tensors
            else torch.zeros_like(parameter, device=self.device)
            for name, parameter in self.network.named_parameters()
        ]

    def batches(
        self, size: int, layout: torch.memory_format = torch.contiguous_format
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return inputs and labels on the device, cut into batches."""
        x, y = torch.from_numpy(self.x), torch.from_numpy(self.y.astype(np.int64))
        return [
            (part.to(self.device).contiguous(memory_format=layout), labels.to(self.device))
            for part, labels in zip(x.split(size), y.split(size), strict=True)
        ]


def mean_loss(
    network: Callable[[torch.Tensor], torch.Tensor],
    batches: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> float:
    """Return the mean loss, as the reference evaluates it.

    Args:
        network: The network.
        batches: Inputs and labels.
    """
    total, hits, count = 0.0, 0, 0
    with torch.no_grad():
        for x, y in batches:
            outputs = network(x)
            total += functional.cross_entropy(outputs, y).item() * len(y)
            hits += int(outputs.max(1)[1].eq(y).sum().item())
            count += len(y)
    return total / count


@dataclass(frozen=True, slots=True)
class Mode:
    """How torch runs a network.

    Attributes:
        batch: Samples per forward pass.
        channels_last: Whether images and weights lie channels last.
        tf32: Whether CUDA may round float32 to TF32 within products.
        compiled: Whether the network goes through `torch.compile`.
        captured: Whether all passes of a point are one CUDA graph, summing on the device.
    """

    batch: int = BATCH
    channels_last: bool = False
    tf32: bool = False
    compiled: bool = False
    captured: bool = False


class ReferenceLoop:
    """The reference's loop over the points; a contestant.

    Args:
        task: Network, directions, data.
        mode: How torch runs it.
    """

    def __init__(self, task: Task, mode: Mode) -> None:
        self._mode = mode
        layout = torch.channels_last if mode.channels_last else torch.contiguous_format
        network = task.copy().to(memory_format=layout)
        self._batches = task.batches(mode.batch, layout)
        self._weights = [
            (p, p.detach().clone(), _laid_out(d, layout), _laid_out(e, layout))
            for p, d, e in zip(
                network.parameters(),
                task.direction(task.delta),
                task.direction(task.eta),
                strict=True,
            )
        ]
        self._count = len(task.x)
        self._call: Callable[[torch.Tensor], torch.Tensor] = network
        if mode.compiled:
            self._call = torch.compile(network, dynamic=False)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._set_precision()
        if mode.captured:
            self._capture()
        self.advance([(0.0, 0.0)])

    def advance(self, points: Points) -> list[float]:
        """Evaluate points.

        Args:
            points: The points.

        Returns:
            The mean losses.
        """
        self._set_precision()
        return [self._evaluate(*point) for point in points]

    def path(self, points: Points) -> Points:
        """Return the points.

        Args:
            points: The points.
        """
        return points

    def close(self) -> None:
        """Free what is held."""
        self._graph = None
        self._batches.clear()

    def _evaluate(self, alpha: float, beta: float) -> float:
        with torch.no_grad():
            for parameter, theta, delta, eta in self._weights:
                moved = theta + (delta * alpha + eta * beta)
                if self._mode.compiled or self._mode.captured:
                    parameter.data.copy_(moved)  # what is compiled knows addresses only
                else:
                    parameter.data = moved
        if self._graph is None:
            return mean_loss(self._call, self._batches)
        self._graph.replay()
        return float(self._sum.item()) / self._count

    def _set_precision(self) -> None:
        torch.backends.cudnn.allow_tf32 = self._mode.tf32
        torch.backends.cuda.matmul.allow_tf32 = self._mode.tf32
        torch.backends.cudnn.benchmark = True

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.no_grad():
            for _ in range(2):
                self._summed()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            self._sum = self._summed()
        self._graph = graph

    def _summed(self) -> torch.Tensor:
        total = torch.zeros((), device=self._batches[0][0].device, dtype=torch.float64)
        for x, y in self._batches:
            total += functional.cross_entropy(self._call(x), y, reduction="sum")
        return total


def _laid_out(tensor: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor
