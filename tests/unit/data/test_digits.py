from __future__ import annotations

import numpy as np
import pytest

from onnxscape.data import load_dataset
from onnxscape.errors import UsageError


def test_there_are_1797_digits_in_the_known_classes():
    train, test = (load_dataset("digits", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1438, 359)
    counts = np.bincount(np.concatenate([train.labels, test.labels]))
    # scikit-learn's documentation of load_digits
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_values_are_0_to_16_on_8_by_8_pixels():
    for split in ("train", "test"):
        images = load_dataset("digits", split=split).fields["x"]
        assert images.shape[1:] == (8, 8)
        assert images.dtype == np.uint8
        assert (images.min(), images.max()) == (0, 16)


@pytest.mark.slow
def test_every_fifth_sample_is_a_test_sample():
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    tested = np.arange(1797) % 5 == 4
    for split, chosen in (("train", ~tested), ("test", tested)):
        data = load_dataset("digits", split=split)
        assert np.array_equal(data.fields["x"], digits.images[chosen])
        assert np.array_equal(data.labels, digits.target[chosen])


def test_golden_digests():
    # They key the subsets, and are part of every stored spec.
    expected = {
        "train": "ee5ad07c00888f46f6942443551833be2fd11eaae02d30e1e0cec0ef445a6a83",
        "test": "95e37787691d9dcc764fa53083d5ee3fb22e55c08cda289a35adae483d26490b",
    }
    for split, digest in expected.items():
        assert load_dataset("digits", split=split).digest() == digest


def test_another_split_is_an_error():
    with pytest.raises(UsageError, match="splits train and test, got --split val"):
        load_dataset("digits", split="val")
