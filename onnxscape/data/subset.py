"""The subset of samples a landscape is computed on: a function of the data alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnxscape.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def subset_indices(
    digest: str, population: int, samples: int | None, *, shuffled: bool = False
) -> NDArray[np.int64]:
    """Choose samples: a prefix of one permutation that is keyed by the data's digest.

    So a larger subset holds every smaller one, two models are compared on the same samples,
    and the seed of the directions has no say.

    Args:
        digest: sha256 (hex) of the whole data.
        population: Number of samples there are.
        samples: Number wanted; None for all.
        shuffled: Whether all of them too come in the order of the permutation, so that each
            smaller subset is a prefix.

    Returns:
        Indices [samples] in the order of the permutation; all of them in natural order,
        unless they are shuffled.

    Raises:
        UsageError: If less than one sample is wanted.
        DataError: If more samples are wanted than there are.
    """
    samples = population if samples is None else samples
    if samples == population and not shuffled:
        return np.arange(population, dtype=np.int64)
    if samples < 1:
        raise UsageError(f"expected at least 1 sample, got --samples {samples}")
    if samples > population:
        raise DataError(
            f"the data has {population} samples, fewer than the {samples} asked for; "
            f"use --samples all, or a number up to {population}"
        )
    key = np.random.SeedSequence(int(digest[:32], 16))
    permutation = np.random.Generator(np.random.Philox(key)).permutation(population)
    return permutation[:samples].astype(np.int64, copy=False)
