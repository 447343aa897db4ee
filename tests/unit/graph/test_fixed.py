"""Formulas show in values; what was trained, or only drawn at random, never looks like one."""

from __future__ import annotations

import numpy as np
import pytest

from onnxscape.graph.fixed import fixed_filters, fixed_rows, fixed_table

RNG = np.random.default_rng(0)


def window(kind, length, size):
    t = np.arange(length)
    values = {
        "none": np.ones(length),
        "hann": 0.5 - 0.5 * np.cos(2 * np.pi * t / length),
        "hamming": 0.54 - 0.46 * np.cos(2 * np.pi * t / (length - 1)),
        "povey": (0.5 - 0.5 * np.cos(2 * np.pi * t / (length - 1))) ** 0.85,
    }[kind]
    before = (size - length) // 2
    return np.pad(values, (before, size - length - before))


def waves(length, size):
    """Return cosines and sines [size / 2 + 1, length] of the frequencies of a transform."""
    angles = 2 * np.pi * np.arange(size // 2 + 1)[:, None] * np.arange(length) / size
    return np.cos(angles), -np.sin(angles)


@pytest.mark.parametrize("kind", ["none", "hann", "hamming", "povey"])
@pytest.mark.parametrize(
    ("length", "size"), [(64, 64), (256, 256), (400, 400), (400, 512), (320, 512)]
)
@pytest.mark.parametrize("arranged", ["cosines", "sines", "both", "in turn"])
def test_a_windowed_fourier_basis_is_recognized(kind, length, size, arranged):
    cosines, sines = (wave * window(kind, length, length) for wave in waves(length, size))
    filters = {
        "cosines": cosines,
        "sines": sines,
        "both": np.concatenate([cosines, sines]),
        "in turn": np.stack([cosines, sines], axis=1).reshape(-1, length),
    }[arranged]
    assert fixed_filters(np.float32(filters)) == "a Fourier basis"


def test_a_basis_with_a_short_window_is_recognized():
    cosines, sines = (wave * window("hann", 160, 512) for wave in waves(512, 512))
    assert fixed_filters(np.concatenate([cosines, sines])) == "a Fourier basis"


def mel(bands, bins, rate=16000):
    """Return triangles [bands, bins] whose centers are evenly spaced in mel."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, bins)
    left, center, right = (edges[i : i + bands, None] for i in range(3))
    rising = (frequencies - left) / (center - left)
    falling = (right - frequencies) / (right - center)
    return np.maximum(0, np.minimum(rising, falling))


@pytest.mark.parametrize(("bands", "bins"), [(40, 257), (80, 513), (24, 129)])
def test_a_mel_filter_bank_is_recognized(bands, bins):
    assert fixed_filters(np.float32(mel(bands, bins))) == "a mel filter bank"


TRAINED = {
    "noise": RNG.standard_normal((64, 64)),
    "few long filters": RNG.standard_normal((16, 400)),
    "identity": np.eye(64),
    "zeros": np.zeros((64, 64)),
    "ones": np.ones((64, 64)),
    "positive noise": np.abs(RNG.standard_normal((64, 64))),
    "sparse noise": RNG.standard_normal((64, 64)) * (RNG.random((64, 64)) < 0.1),
    "pruned and positive": RNG.random((64, 64)) * (RNG.random((64, 64)) < 0.1),
    "smooth": np.cumsum(RNG.standard_normal((64, 64)), axis=1),
    "waves in another order": RNG.permutation(waves(64, 64)[0]),
    "short filters": waves(16, 16)[0],
    "few filters": waves(64, 64)[0][:6],
    "one that is not finite": np.where(np.eye(64) > 0, np.nan, 1.0),
    "noise around a basis": waves(64, 64)[0] + RNG.standard_normal((33, 64)),
}


@pytest.mark.parametrize("name", TRAINED)
def test_other_weights_are_not_fixed(name):
    assert fixed_filters(np.float32(TRAINED[name])) is None


def positions(count, dim, *, turned=False):
    angles = np.arange(count)[:, None] / 10000 ** (np.arange(0, dim, 2) / dim)
    halves = [np.sin(angles), np.cos(angles)]
    return (
        np.concatenate(halves, axis=1) if turned else np.stack(halves, -1).reshape(count, -1)
    )


@pytest.mark.parametrize(
    "table",
    [
        positions(50, 16),
        positions(128, 64, turned=True)[None],
        positions(12, 8)[None, None],
        np.cos(np.arange(32)[:, None] * 10000 ** (-np.arange(8) / 8)),
        np.sin(np.arange(32)[:, None] * 10000 ** (-np.arange(8) / 8)),
    ],
)
def test_sines_of_positions_are_recognized(table):
    assert fixed_table(np.float32(table)) == "sines and cosines of the position"
    assert fixed_rows(np.float32(table)) == "sines and cosines of the position"


CAUSAL = np.triu(np.ones((8, 8), bool), 1)


@pytest.mark.parametrize(
    "table",
    [
        np.where(CAUSAL, -np.inf, 0),
        np.where(CAUSAL, np.finfo(np.float32).min, 0),
        np.where(CAUSAL, -1e4, RNG.standard_normal((8, 8))),
        np.where(CAUSAL, 0.0, 1.0),
        np.where(CAUSAL, -1e9, 0)[None, None],
        np.pad(np.ones((1, 1)), ((0, 99), (0, 99))),
    ],
)
def test_masks_are_recognized(table):
    assert fixed_table(np.float32(table)) == "a mask"


@pytest.mark.parametrize(
    "rows",
    [
        np.where(CAUSAL, -np.inf, 0),
        np.where(CAUSAL, np.finfo(np.float32).min, 0),
        np.where(CAUSAL, 0.0, 1.0),
        np.where(CAUSAL, -1e9, 0)[None, None],
        np.pad(np.ones((1, 1)), ((0, 99), (0, 99))),
    ],
)
def test_masks_that_are_looked_up_are_recognized(rows):
    assert fixed_rows(np.float32(rows)) == "a mask"


@pytest.mark.parametrize(
    "rows",
    [
        np.where(RNG.random((50, 16)) < 0.5, -1, 1),
        np.where(RNG.random((50, 16)) < 0.5, -0.05, 0.05),
        np.where(RNG.random((50, 16)) < 0.5, 0, 0.25),
        np.where(RNG.random((50, 16)) < 0.5, -1, 0),
        np.where(CAUSAL, -1e9, 1),
        np.where(CAUSAL, -1e4, RNG.standard_normal((8, 8))),
        RNG.standard_normal((50, 16)),
        np.zeros((50, 16)),
        np.ones((4, 4)),
        np.full((3, 3), np.nan),
        np.zeros((1, 1)),
    ],
)
def test_embeddings_are_not_fixed_even_if_trained_to_two_values(rows):
    assert fixed_rows(np.float32(rows)) is None


@pytest.mark.parametrize(
    "table",
    [
        RNG.standard_normal((50, 16)),
        0.02 * RNG.standard_normal((1, 50, 16)),
        np.zeros((50, 16)),
        np.ones((4, 4)),
        np.full((3, 3), np.nan),
        positions(50, 16) + 0.05 * RNG.standard_normal((50, 16)),
        1e-4 * positions(50, 16),
        np.zeros((1, 1)),
    ],
)
def test_other_tables_are_not_fixed(table):
    assert fixed_table(np.float32(table)) is None
