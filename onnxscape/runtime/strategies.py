"""Strategies: the ways in which weights reach ONNX Runtime, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from onnxscape.runtime.constant_sessions import ConstantSessions
from onnxscape.runtime.in_graph import in_graph
from onnxscape.runtime.overriding_inputs import overriding_inputs
from onnxscape.runtime.resident_weights import captured_weights, resident_weights
from onnxscape.runtime.shared_buffers import shared_buffers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnxscape.core.direction import Direction
    from onnxscape.core.samples import Samples
    from onnxscape.graph.prepared import PreparedModel
    from onnxscape.runtime.devices import Device
    from onnxscape.runtime.evaluator import PointEvaluator

    class Strategy(Protocol):
        """Makes an evaluator."""

        def __call__(
            self,
            prepared: PreparedModel,
            samples: Samples,
            delta: Direction | None,
            eta: Direction | None,
            *,
            device: Device,
            batch: int,
            threads: int,
            pad: bool = False,
        ) -> PointEvaluator:
            """Make an evaluator.

            Args:
                prepared: The model.
                samples: The samples.
                delta: Direction of alpha.
                eta: Direction of beta.
                device: Where it runs.
                batch: Samples per forward pass.
                threads: Threads within one operator.
                pad: Whether every batch must be full.
            """


STRATEGIES: Mapping[str, Strategy] = {
    "constant": ConstantSessions,
    "overriding": overriding_inputs,
    "resident": resident_weights,
    "captured": captured_weights,
    "in-graph": in_graph,
    "shared": shared_buffers,
}
"""What makes the evaluator of each strategy."""
