from __future__ import annotations

import numpy as np
import pytest

from onnxscape.core.normalization import Normalization, normalize

SCALED = [n for n in Normalization if n is not Normalization.NONE]


@pytest.fixture(scope="module")
def published(reference):
    """The reference implementation's own noise and normalized directions."""
    with np.load(reference / "normalizations.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("suffix", ["", "_biasbn"])
@pytest.mark.parametrize("normalization", SCALED)
@pytest.mark.parametrize(
    "name", ["c1.weight", "c2.weight", "dw.weight", "f1.weight", "f2.weight"]
)
def test_weights_are_normalized_as_by_the_reference_implementation(
    name, normalization, suffix, published, weights_of, reference
):
    raw, weights = published[f"raw/{name}"], weights_of(reference / "model.onnx")[name]
    rows = len(raw)
    ours = normalize(raw.reshape(rows, -1), weights.reshape(rows, -1), normalization)
    theirs = published[f"{normalization}{suffix}/{name}"]
    np.testing.assert_allclose(
        ours.reshape(raw.shape), theirs, rtol=1e-6, atol=1e-7 * np.abs(theirs).max()
    )


def test_without_normalization_noise_stays_as_drawn():
    d = np.array([[1.0, -2.0]])
    assert normalize(d, 5 * d, Normalization.NONE).tolist() == [[1.0, -2.0]]


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 7)), rng.standard_normal((4, 7)) * [[1], [1e3], [1e-3], [5]]


def test_each_filter_gets_the_norm_of_the_weights_filter(matrices):
    d, w = matrices
    norms = np.linalg.norm(normalize(d, w, Normalization.FILTER), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(w, axis=1), rtol=1e-9)


def test_each_tensor_gets_the_norm_of_the_weights_tensor(matrices):
    d, w = matrices
    norm = np.linalg.norm(normalize(d, w, Normalization.LAYER))
    assert norm == pytest.approx(np.linalg.norm(w), rel=1e-12)


def test_the_d_variants_give_norm_one(matrices):
    filters = normalize(*matrices, Normalization.DFILTER)
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 1.0, rtol=1e-9)
    layer = normalize(*matrices, Normalization.DLAYER)
    assert np.linalg.norm(layer) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("normalization", [n for n in SCALED if n != "weight"])
def test_no_filter_is_turned(normalization, matrices):
    d, w = matrices
    for before, after in zip(d, normalize(d, w, normalization), strict=True):
        cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
        assert cosine == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("normalization", ["filter", "weight"])
def test_a_filter_of_zeros_does_not_move(normalization, matrices):
    d, w = matrices
    w[2] = 0.0
    moved = normalize(d, w, Normalization(normalization))
    assert moved[2].tolist() == [0.0] * 7
    assert moved[1].any()


def test_a_tensor_of_zeros_does_not_move_by_layer(matrices):
    assert not normalize(matrices[0], np.zeros((4, 7)), Normalization.LAYER).any()


@pytest.mark.parametrize("normalization", Normalization)
def test_noise_of_zeros_stays_zero_and_finite(normalization, matrices):
    assert normalize(np.zeros((4, 7)), matrices[1], normalization).tolist() == [[0.0] * 7] * 4


@pytest.mark.parametrize("normalization", Normalization)
def test_float32_is_computed_in_float64(normalization, matrices):
    d, w = (m.astype(np.float32) for m in matrices)
    ours = normalize(d, w, normalization)
    assert ours.dtype == np.float64
    again = normalize(d.astype(np.float64), w.astype(np.float64), normalization)
    assert (ours == again).all()
