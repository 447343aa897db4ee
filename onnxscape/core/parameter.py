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


class Choice(StrEnum):
    """Who decided whether a tensor is moved."""

    ROLE = "role"
    """Its role."""
    INCLUDED = "included"
    """The user, who wants it moved."""
    EXCLUDED = "excluded"
    """The user, who wants it left alone."""


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
            it takes several. Of stacked matrices it is the axis of each one.
        layout: How its elements form filters; None unless it is a weight or included.
        noise_key: Number of its noise stream (k of the randomness scheme); None likewise.
        signs: float64 [filters], the sign of the per-channel scale of a normalization behind
            each filter; None if there is none.
        fixed: What its values are known as, of a tensor that looks like a weight or a bias but
            was computed, not trained; None for all others.
        choice: Who decided whether it is moved.
        pattern: The pattern of the user's that matched its name; None if its role decided.
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
    fixed: str | None = None
    choice: Choice = Choice.ROLE
    pattern: str | None = None
