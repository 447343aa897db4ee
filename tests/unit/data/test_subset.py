from __future__ import annotations

import hashlib

import numpy as np
import pytest

from onnxscape.data.subset import subset_indices
from onnxscape.errors import DataError, UsageError

ZEROS = "0" * 64
ABC = hashlib.sha256(b"abc").hexdigest()


def test_golden_indices():
    # Part of the contract: equal data and equal numbers of samples are equal samples, in
    # every version. The second row pins numpy's Philox and permutation too.
    assert subset_indices(ZEROS, 10, 4).tolist() == [8, 0, 3, 7]
    assert subset_indices(ABC, 50000, 6).tolist() == [15053, 18997, 44780, 38124, 41982, 32625]


def test_the_key_is_the_first_half_of_the_digest():
    key = np.random.SeedSequence(int(ABC[:32], 16))
    permutation = np.random.Generator(np.random.Philox(key)).permutation(100)
    assert subset_indices(ABC, 100, 7).tolist() == permutation[:7].tolist()
    assert subset_indices(ABC[:32] + "f" * 32, 100, 7).tolist() == permutation[:7].tolist()


def test_a_larger_subset_starts_with_the_smaller_one():
    small, large = subset_indices(ABC, 1000, 10), subset_indices(ABC, 1000, 999)
    assert large[:10].tolist() == small.tolist()
    assert len(set(large.tolist())) == 999


@pytest.mark.parametrize("samples", [None, 50])
def test_all_samples_are_in_natural_order(samples):
    assert subset_indices(ABC, 50, samples).tolist() == list(range(50))


def test_more_samples_than_there_are_is_an_error_that_says_how_many():
    with pytest.raises(DataError, match=r"has 50 samples.*51.*--samples all"):
        subset_indices(ABC, 50, 51)


@pytest.mark.parametrize("samples", [0, -1])
def test_less_than_one_sample_is_an_error(samples):
    with pytest.raises(UsageError, match="at least 1"):
        subset_indices(ABC, 50, samples)


def test_all_samples_may_come_in_the_order_of_the_permutation():
    shuffled = subset_indices(ABC, 100, None, shuffled=True)
    assert sorted(shuffled.tolist()) == list(range(100))
    assert shuffled[:7].tolist() == subset_indices(ABC, 100, 7).tolist()
