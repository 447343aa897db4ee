"""Operators: which of their operands are weights, how filters lie in them, other roles.

To support another operator, add its row to one of the tables in `tables`.
"""

from onnxscape.graph.operators.rules import WeightRule, attribute, operator_name, reported_name
from onnxscape.graph.operators.tables import (
    ARITHMETIC,
    CARRIERS,
    LINEAR,
    ROLES,
    WEIGHTS,
)

__all__ = [
    "ARITHMETIC",
    "CARRIERS",
    "LINEAR",
    "ROLES",
    "WEIGHTS",
    "WeightRule",
    "attribute",
    "operator_name",
    "reported_name",
]
