"""Directions: random, normalized steps through the weights, reproducible to the bit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.core.normalization import Normalization, normalize
from onnxscape.core.selection import perturbed
from onnxscape.errors import NoParametersError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from onnxscape.core.parameter import Parameter

SCHEME = 1
"""Version of the rules by which noise is drawn."""

MAX_SEED = 2**32 - 1
"""Largest seed: one word of the stream's key."""


class Ignore(StrEnum):
    """Which parameters a random direction leaves alone."""

    BIASBN = "biasbn"
    """Biases and normalization parameters stay."""
    NONE = "none"
    """They are scaled with the weights: d := w, as in the reference implementation."""


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A step through the weights.

    Attributes:
        tensors: Parameter name to array, shaped like that parameter. Only what moves.
    """

    tensors: Mapping[str, NDArray[np.floating]]

    def norm(self) -> float:
        """Return the Euclidean norm of the whole direction."""
        return float(np.sqrt(sum(np.vdot(d, d) for d in _float64(self.tensors.values()))))

    def dot(self, other: Direction) -> float:
        """Return the scalar product with another direction."""
        shared = [name for name in self.tensors if name in other.tensors]
        mine = _float64(self.tensors[name] for name in shared)
        theirs = _float64(other.tensors[name] for name in shared)
        return float(sum(np.vdot(a, b) for a, b in zip(mine, theirs, strict=True)))

    def digest(self) -> str:
        """Return the sha256 (hex) of names, shapes and values."""
        sha = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = np.ascontiguousarray(self.tensors[name])
            sha.update(f"{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
            sha.update(tensor.tobytes())
        return sha.hexdigest()


def direction_type(parameter: Parameter) -> np.dtype[Any]:
    """Return the precision of a parameter's directions: its own, but at least float32."""
    return np.promote_types(parameter.values.dtype, np.float32)


def noise(seed: int, axis: int, key: int, filters: int, elements: int) -> NDArray[np.float64]:
    """Draw the standard normal noise of one weight.

    Args:
        seed: The user's seed, 0 to 2^32 - 1.
        axis: 0 for delta, 1 for eta.
        key: Number of the weight among the model's weights.
        filters: Rows.
        elements: Columns.

    Returns:
        float64 [filters, elements] from the Philox stream keyed by (1, seed, axis, key).
    """
    entropy = np.random.SeedSequence((SCHEME, seed, axis, key))
    generator = np.random.Generator(np.random.Philox(entropy))
    return generator.standard_normal((filters, elements))


def random_direction(
    parameters: Sequence[Parameter],
    *,
    seed: int,
    axis: int,
    normalization: Normalization = Normalization.FILTER,
    ignore: Ignore = Ignore.BIASBN,
    orthogonal_to: Direction | None = None,
) -> Direction:
    """Draw a random direction and normalize it.

    Args:
        parameters: The model's parameters.
        seed: The user's seed, 0 to 2^32 - 1.
        axis: 0 for delta, 1 for eta.
        normalization: How it is scaled by the weights.
        ignore: Which parameters stay.
        orthogonal_to: A direction that this one is made orthogonal to, within the groups that
            the normalization scales as one (filter, tensor or all), so that their norms stay
            what the normalization says. A group of one element cannot turn and is kept.

    Returns:
        The direction, in the precision of the weights or float32 if theirs is less.

    Raises:
        UsageError: If the seed is out of range, or the direction cannot be orthogonal.
        NoParametersError: If there is nothing to move.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"expected a seed from 0 to {MAX_SEED}, got {seed}")
    if orthogonal_to is not None and ignore is Ignore.NONE and not _is_global(normalization):
        raise UsageError(
            f"{normalization}-normalized directions cannot be orthogonal with ignore none: "
            "both move biases and normalization parameters by d := w; use ignore biasbn"
        )
    tensors: dict[str, NDArray[np.floating]] = {}
    for parameter in parameters:
        if not perturbed(parameter, ignore).perturbed:
            continue
        if parameter.layout is not None:
            d = _random_tensor(parameter, seed, axis, normalization, orthogonal_to)
        else:
            d = parameter.values.astype(np.float64)
        tensors[parameter.name] = d.astype(direction_type(parameter))
    if not tensors:
        raise NoParametersError("the model has no weights to move")
    direction = Direction(tensors)
    if orthogonal_to is not None and _is_global(normalization):
        direction = _orthogonalized(direction, orthogonal_to)
    return direction


def _random_tensor(
    parameter: Parameter,
    seed: int,
    axis: int,
    normalization: Normalization,
    orthogonal_to: Direction | None,
) -> NDArray[np.float64]:
    layout, key = parameter.layout, parameter.noise_key
    assert layout is not None  # noqa: S101 - a weight has both
    assert key is not None  # noqa: S101
    d = noise(seed, axis, key, layout.filters, layout.elements)
    if normalization is Normalization.FILTER and parameter.signs is not None:
        # Folding a normalization with a negative scale turns its filter around: turning the
        # noise as well keeps the surface the same whether the export folded it or not.
        d *= parameter.signs[:, None]
    if orthogonal_to is not None and not _is_global(normalization):
        other = layout.to_filters(orthogonal_to.tensors[parameter.name]).astype(np.float64)
        if normalization in {Normalization.LAYER, Normalization.DLAYER}:
            d = _reject(d.reshape(1, -1), other.reshape(1, -1)).reshape(d.shape)
        else:
            d = _reject(d, other)
    return layout.from_filters(
        normalize(d, layout.to_filters(parameter.values), normalization)
    )


def _is_global(normalization: Normalization) -> bool:
    return normalization in {Normalization.WEIGHT, Normalization.NONE}


def _reject(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows without their part along the other's; a row of one element stays."""
    if rows.shape[1] == 1:
        return rows
    squares = np.einsum("ij,ij->i", others, others)
    squares[squares == 0.0] = 1.0
    shares = np.einsum("ij,ij->i", rows, others) / squares
    rejected: NDArray[np.float64] = rows - shares[:, None] * others
    return rejected


def _orthogonalized(direction: Direction, other: Direction) -> Direction:
    """Return the direction without its part along the other, its norm kept."""
    share = direction.dot(other) / (other.dot(other) or 1.0)
    rejected = {
        name: d.astype(np.float64) - share * other.tensors[name]
        for name, d in direction.tensors.items()
    }
    scale = direction.norm() / (Direction(rejected).norm() or 1.0)
    return Direction(
        {
            name: (scale * d).astype(direction.tensors[name].dtype)
            for name, d in rejected.items()
        }
    )


def _float64(arrays: Iterable[NDArray[np.floating]]) -> Iterable[NDArray[np.float64]]:
    return (array.astype(np.float64) for array in arrays)
