"""Softmax regression: cross-entropy is convex in the weights, hence along every line."""

from __future__ import annotations

import numpy as np
import pytest

import onnxscape as ox


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(1)
    return random.normal(size=(60, 5)).astype(np.float32), random.integers(0, 4, size=60)


@pytest.mark.parametrize("normalize", ["filter", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_midpoints_lie_below_their_chords(dense_model, data, normalize, seed):
    random = np.random.default_rng(seed)
    model = dense_model(random.normal(size=(5, 4)), random.normal(size=4))
    loss = ox.evaluate(
        model, data, samples="all", grid="9x9", radius=3, seed=seed, normalize=normalize
    ).loss
    index = np.arange(9)
    r1, c1, r2, c2 = (axis.ravel() for axis in np.meshgrid(index, index, index, index))
    even = ((r1 + r2) % 2 == 0) & ((c1 + c2) % 2 == 0) & ((r1 != r2) | (c1 != c2))
    r1, c1, r2, c2 = (axis[even] for axis in (r1, c1, r2, c2))
    chords = (loss[r1, c1] + loss[r2, c2]) / 2
    gaps = chords - loss[(r1 + r2) // 2, (c1 + c2) // 2]
    # Logits are float32: their rounding is about 1e-7 of their size.
    assert gaps.min() >= -1e-6 * loss.max()
    assert gaps.max() > 0.1
    assert len(gaps) > 1000


def test_weights_of_zero_give_a_flat_plane_at_the_log_of_the_classes(dense_model):
    # All weights 0: every class has probability 1/4, whatever the sample.
    x, y = np.ones((8, 5), dtype=np.float32), np.arange(8) % 4
    landscape = ox.evaluate(
        dense_model(np.zeros((5, 4)), np.zeros(4)), (x, y), samples="all", grid="3x3"
    )
    # Filters of norm 0 have steps of norm 0: the plane is flat.
    np.testing.assert_allclose(landscape.loss, np.log(4.0), rtol=1e-12)
