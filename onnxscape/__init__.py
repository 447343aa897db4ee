"""Loss landscapes of any model that exports to ONNX.

Example:
    >>> import onnxscape as ox
    >>> landscape = ox.evaluate("models/digits_cnn.onnx", "digits", grid="5x5")
    >>> landscape
    Landscape(digits_cnn on digits train, 5x5 points, center loss 0.007247)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxscape import errors
    from onnxscape.core.grid import Axis, Grid
    from onnxscape.core.landscape import Landscape
    from onnxscape.core.plan import Plan
    from onnxscape.core.spec import EvalSpec
    from onnxscape.errors import OnnxscapeError
    from onnxscape.evaluation.api import evaluate, load
    from onnxscape.evaluation.report import EvaluationInterrupted
    from onnxscape.graph.audit import Audit, inspect
    from onnxscape.service.client.async_client import AsyncClient
    from onnxscape.service.client.client import Client
    from onnxscape.service.client.watching import JobChanged, PointsDone
    from onnxscape.version import __version__

__all__ = [
    "AsyncClient",
    "Audit",
    "Axis",
    "Client",
    "EvalSpec",
    "EvaluationInterrupted",
    "Grid",
    "JobChanged",
    "Landscape",
    "OnnxscapeError",
    "Plan",
    "PointsDone",
    "__version__",
    "errors",
    "evaluate",
    "inspect",
    "load",
]

_MODULES = {
    "AsyncClient": "service.client.async_client",
    "Audit": "graph.audit",
    "Axis": "core.grid",
    "Client": "service.client.client",
    "EvalSpec": "core.spec",
    "EvaluationInterrupted": "evaluation.report",
    "Grid": "core.grid",
    "JobChanged": "service.client.watching",
    "Landscape": "core.landscape",
    "OnnxscapeError": "errors",
    "Plan": "core.plan",
    "PointsDone": "service.client.watching",
    "__version__": "version",
    "evaluate": "evaluation.api",
    "inspect": "graph.audit",
    "load": "evaluation.api",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: ONNX Runtime takes its time to load.

    Args:
        name: The name.

    Returns:
        What it stands for.

    Raises:
        AttributeError: If it is not public.
    """
    if name == "errors":
        return importlib.import_module("onnxscape.errors")
    if name not in _MODULES:
        raise AttributeError(f"module 'onnxscape' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"onnxscape.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
