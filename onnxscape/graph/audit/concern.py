"""Warnings of an audit: what they are about, and how they read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from onnxscape.graph.audit.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable


class Kind(StrEnum):
    """What a warning is about; `docs/inspect.md` explains each."""

    REWRITTEN = "rewritten"
    TENSORS = "tensors"
    LITTLE = "little moves"
    WEIGHTS_AS_INPUTS = "weights as inputs"
    FOLDED = "folded by the exporter"
    SHARED = "shared weights"
    MERGED = "merged tensors"
    PROBABILITIES = "probabilities out"
    OUTPUTS = "several outputs"
    FIXED_BATCH = "fixed batch"
    QUANTIZED = "quantized"
    DYNAMIC = "dynamically quantized"
    HALF = "half precision"
    DEAD = "dead filters"
    EXTREME = "extreme values"
    UNUSED = "unused tensors"


@dataclass(frozen=True, slots=True)
class Concern:
    """One warning of an audit.

    Attributes:
        kind: What it is about.
        text: What was found, what it means for the plot, and what to do.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


_LONG = 100
"""A name in a warning has no more characters: files may hold any."""


def listed(names: Iterable[str]) -> str:
    """Name a few and count the rest.

    Args:
        names: All of them.

    Returns:
        For instance `a, b, c and 5 more`.
    """
    some = [shortened(name, _LONG) for name in names]
    if len(some) > 4:
        return f"{', '.join(some[:3])} and {len(some) - 3} more"
    return ", ".join(some)
