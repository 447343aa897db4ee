"""Digits: 1797 handwritten digits of 8 x 8 pixels, which come with the package.

From the "Optical Recognition of Handwritten Digits" data set by E. Alpaydin and C. Kaynak,
UCI Machine Learning Repository, 1998 (https://doi.org/10.24432/C50P49), licensed under CC BY
4.0 (https://creativecommons.org/licenses/by/4.0/). It is the set's test part, in the order in
which scikit-learn's `load_digits` has it; here stored as uint8, values 0..16. Every fifth
sample is in the test split: that cut is ours.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.arrays import read_npz
from onnxscape.data.dataset import Preprocessing
from onnxscape.data.named import NamedDataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOLD = 5
"""Sample i is in the test split if i % 5 == 4."""


def read_digits(split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read a split.

    Args:
        split: `train` (1438 samples) or `test` (359).

    Returns:
        Images uint8 [samples, 8, 8] with values 0..16, and labels uint8 [samples].
    """
    with resources.as_file(resources.files("onnxscape.data") / "digits.npz") as path:
        arrays = read_npz(path)
    tested = np.arange(len(arrays["y"])) % _FOLD == _FOLD - 1
    chosen = tested if split == "test" else ~tested
    return arrays["x"][chosen], arrays["y"][chosen]


DIGITS = NamedDataset(
    name="digits",
    description="handwritten digits, grey 8x8, values 0..16",
    samples={"train": 1438, "test": 359},
    size=0,
    licence="CC BY 4.0",
    citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998",
    layout=None,
    preprocessing=Preprocessing(scale=16.0),
    bundled=read_digits,
    is_local=lambda _folder: True,
)
"""The digits; by default values are divided by 16."""
