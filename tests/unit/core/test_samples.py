from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.samples import Samples, TensorSignature


@pytest.mark.parametrize(
    ("shape", "text"),
    [((None, 3, 32), "x [?, 3, 32] float32"), ((), "x [] float32"), (None, "x [?] float32")],
)
def test_a_signature_reads_as_people_write_it(shape, text):
    assert str(TensorSignature("x", shape, np.dtype(np.float32))) == text


def test_the_length_of_samples_is_that_of_the_inputs():
    samples = Samples({"x": np.zeros((3, 2))}, None, 10, "some", "0" * 64)
    assert len(samples) == 3
    assert samples.preprocessing == {}
    assert samples.constants == {}
    assert samples.weights is None
