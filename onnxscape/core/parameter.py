"""Parameters: the tensors of a model that a direction may move."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from onnxscape.core.filters import FilterLayout


class Role(StrEnum):
    """What a tensor is to the operator that uses it."""

    WEIGHT = "weight"
    BIAS = "bias"
    NORMALIZATION = "normalization"
    STATISTIC = "statistic"
    CONSTANT = "constant"


TRAINABLE = frozenset({Role.WEIGHT, Role.BIAS, Role.NORMALIZATION})
"""Roles of tensors that training changes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameter:
    """One tensor of the user's file.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
        role: What it is to its operator.
        op: Type of the operator that uses it first, without domain.
        nodes: Names of the operators that use it.
        values: The trained values (theta), shaped `shape`.
        filter_axis: Axis of this tensor that counts filters; None if there is none, or if
            more than one axis does.
        layout: How its elements form filters; None unless it is a weight.
        noise_key: Number of its noise stream (k of the randomness scheme); None unless it is
            a weight.
        signs: float64 [filters], the sign of the per-channel scale of a normalization behind
            each filter; None if there is none.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    op: str
    nodes: tuple[str, ...]
    values: NDArray[np.floating]
    filter_axis: int | None = None
    layout: FilterLayout | None = None
    noise_key: int | None = None
    signs: NDArray[np.float64] | None = None
