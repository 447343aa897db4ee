"""Landscapes of quantized files beside those of the networks that they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from fixture_evaluation import evaluate, network_of
from fixture_kinds import EVALUATED, QUANTIZED

FIXTURES = list(filter(QUANTIZED.search, EVALUATED))
LIMITED = [name for name in FIXTURES if "_qdq" in name or "_qoperator" in name]
"""Fixtures whose activations have ranges measured at the center: far from it they saturate."""


def rows(array, turned):
    """Return a weight as [filters, elements], its filters on axis 0 or on the last one."""
    if turned:
        array = np.swapaxes(array, -1, -2)
    count = array.shape[0] * array.shape[1] if array.ndim == 3 else array.shape[0]
    return array.reshape(count, -1)


def same_noise(ours, theirs):
    """Return whether all filters of two arrays point the same way, or the opposite one.

    A folded BatchNormalization with a negative scale turns a filter.
    """
    for turned in (False, True):
        if ours.ndim < 2 or sorted(ours.shape[-2:]) != sorted(theirs.shape[-2:]):
            continue
        a = rows(ours, turned=turned and ours.ndim < 4)
        b = rows(theirs, turned=False)
        if a.shape == b.shape:
            products = np.sum(a * b, axis=1)
            lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            if np.allclose(np.abs(products), lengths, rtol=1e-6):
                return True
    return False


@pytest.mark.parametrize("fixture", sorted(set(FIXTURES) - set(LIMITED)))
def test_a_file_with_quantized_weights_has_nearly_its_networks_surface(
    fixture, evaluated, truth
):
    theirs = truth.surface(network_of(fixture))
    ours = evaluated(fixture).landscape.loss
    share = 0.15 if "nbits" in fixture else 0.05
    assert np.abs(ours - theirs).max() <= share * np.ptp(theirs)


@pytest.mark.parametrize("fixture", LIMITED)
def test_a_file_with_quantized_activations_is_alike_near_the_center(fixture, truth):
    """The same where the activations stay in the ranges that were measured."""
    network = network_of(fixture)
    delta = truth.direction(network, 0)
    steps = (-0.1, 0.0, 0.1)
    theirs = [truth.loss_at(truth.plain(network), delta, {}, step, 0.0) for step in steps]
    ours = evaluate(fixture, grid="3", radius=0.1).loss
    np.testing.assert_allclose(ours, theirs, rtol=0.12)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_quantization_leaves_the_noise_as_it_is(fixture, evaluated, truth):
    for axis, ours in enumerate(evaluated(fixture).directions):
        for name, theirs in truth.direction(network_of(fixture), axis).items():
            found = [other for other, array in ours.items() if same_noise(array, theirs)]
            assert len(found) == 1, name
