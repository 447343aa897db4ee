"""Loss landscapes of any model that exports to ONNX.

Example:
    >>> import onnxscape as ox
    >>> landscape = ox.evaluate("models/digits_cnn.onnx", "digits", grid="5x5")
    >>> landscape
    Landscape(digits_cnn on digits train, 5x5 points, center loss 0.007247)
"""

from __future__ import annotations

from onnxscape import errors
from onnxscape.core.grid import Axis, Grid
from onnxscape.core.landscape import Landscape
from onnxscape.core.plan import Plan
from onnxscape.core.spec import EvalSpec
from onnxscape.errors import OnnxscapeError
from onnxscape.evaluation.api import evaluate, load
from onnxscape.evaluation.report import EvaluationInterrupted
from onnxscape.version import __version__

__all__ = [
    "Axis",
    "EvalSpec",
    "EvaluationInterrupted",
    "Grid",
    "Landscape",
    "OnnxscapeError",
    "Plan",
    "__version__",
    "errors",
    "evaluate",
    "load",
]
