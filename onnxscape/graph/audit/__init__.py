"""Audits: what onnxscape understands of a model, without running it."""

from onnxscape.graph.audit.concern import Concern, Kind
from onnxscape.graph.audit.inspection import inspect
from onnxscape.graph.audit.result import Audit, AuditedParameter, ModelFacts, Totals
from onnxscape.graph.audit.text import printable

__all__ = [
    "Audit",
    "AuditedParameter",
    "Concern",
    "Kind",
    "ModelFacts",
    "Totals",
    "inspect",
    "printable",
]
