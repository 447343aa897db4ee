"""The same networks through many exporters: every file of one network has the same surface.

fixture_truth.py knows what it must be; README.md tells how the fixtures are made.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fixture_evaluation import Recorder, evaluate, network_of
from fixture_kinds import (
    EVALUATED,
    EXACT,
    OTHER_WEIGHTS,
    PERHAPS_WARNED,
    REFUSED,
    ROUNDED,
    WARNED,
    warning_of,
)
from fixture_networks import NETWORKS

HERE = Path(__file__).parent

UNFOLDED = [
    f"{network}_{export}"
    for network, exports in {
        "block": "jax2onnx keras_export ort_extended paddle_constants torch_dynamo_optimized "
        "torch_legacy_opset13",
        "cnn": "converter_anonymous converter_views jax2onnx old_ir3 paddle_views "
        "torch_dynamo_plain torch_legacy_folding_preserve",
        "deconv": "torch_dynamo_plain",
        "densebn": "jax2onnx keras_export torch_legacy_nofolding",
        "residual": "jax2onnx torch_dynamo_plain",
        "upsample": "keras_export torch_legacy_nofolding",
    }.items()
    for export in exports.split()
]
"""Fixtures whose trained tensors are torch's, one by one: no normalization is folded. (Keras
folds its own parameters, but a scale and shift both take the step of gamma and beta.)"""


FIRST = [next(name for name in EXACT if network_of(name) == network) for network in NETWORKS]
FIRST += [name for name in EXACT if "handmade" in name or name.startswith("cnn")]
"""Fixtures of every network, and of every form of two of them."""


def assert_same_surface(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    # A flat landscape would pass that whatever its shape.
    assert np.abs(ours - theirs).max() <= 1e-3 * np.ptp(theirs)


@pytest.mark.parametrize("fixture", EXACT)
def test_all_exports_of_a_network_have_its_one_surface(fixture, evaluated, truth):
    landscape = evaluated(fixture).landscape
    assert_same_surface(landscape.loss, truth.surface(network_of(fixture)))
    assert landscape.center["loss"] == landscape.loss[1, 1]


@pytest.mark.parametrize("fixture", sorted(OTHER_WEIGHTS))
def test_the_same_function_of_other_weights_has_another_surface(fixture, evaluated, truth):
    ours = evaluated(fixture).landscape.loss
    theirs = truth.surface(OTHER_WEIGHTS[fixture])
    assert ours[1, 1] == pytest.approx(theirs[1, 1], rel=1e-4)
    assert np.abs(ours - theirs).max() > 0.01 * np.ptp(theirs)


@pytest.mark.parametrize("fixture", list(filter(ROUNDED.search, EVALUATED)))
def test_a_file_in_half_precision_has_nearly_its_networks_surface(fixture, evaluated, truth):
    theirs = truth.surface(network_of(fixture))
    ours = evaluated(fixture).landscape.loss
    np.testing.assert_allclose(ours, theirs, rtol=0.03, atol=3e-3 * np.ptp(theirs))


@pytest.mark.parametrize("fixture", EVALUATED)
def test_warnings_say_what_is_not_as_the_file_has_it(fixture, evaluated):
    needed = warning_of(fixture, WARNED)
    expected = needed or warning_of(fixture, PERHAPS_WARNED)
    warnings = evaluated(fixture).warnings
    assert all(expected is not None and re.search(expected, text) for text in warnings)
    assert warnings or needed is None


@pytest.mark.parametrize("fixture", sorted(REFUSED))
def test_what_cannot_be_handled_is_refused_with_its_reason(fixture):
    error, message = REFUSED[fixture]
    with pytest.raises(error, match=message):
        evaluate(fixture)


@pytest.mark.parametrize("fixture", UNFOLDED)
def test_unfolded_exports_move_biases_and_normalization_alike(fixture, truth):
    surface = evaluate(fixture, ignore="none").loss
    assert_same_surface(surface, truth.surface(network_of(fixture), ignore="none"))


@pytest.mark.parametrize("fixture", UNFOLDED)
def test_unfolded_exports_are_normalized_by_layer_alike(fixture, truth):
    surface = evaluate(fixture, normalize="layer").loss
    assert_same_surface(surface, truth.surface(network_of(fixture), normalize="layer"))


@pytest.mark.parametrize("fixture", FIRST)
def test_overriding_inputs_give_the_same_line(fixture, truth):
    line = evaluate(fixture, grid="3", strategy="overriding").loss
    expected = truth.surface(network_of(fixture))[1]
    np.testing.assert_allclose(line, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        "cnn_torch_dynamo_plain",
        "cnn_torch_dynamo_plain_external",
        "cnn_torch_legacy_nofolding_preserve",
        "cnn_paddle_constants",
        "cnn_old_ir3",
    ],
)
def test_directions_fit_another_export_with_the_same_names(other, truth, tmp_path):
    path = tmp_path / "directions.h5"
    saved = evaluate(truth.plain("cnn"), out=tmp_path / "surface.h5", save_directions=path)
    observer = Recorder()
    reused = evaluate(other, directions=path, observer=observer)
    assert_same_surface(reused.loss, saved.loss)
    assert not observer.warnings


def test_probabilities_given_to_cross_entropy_are_warned_of():
    observer = Recorder()
    evaluate("mlp_keras_softmax", loss="cross-entropy", observer=observer)
    assert len(observer.warnings) == 1
    assert "probabilities" in observer.warnings[0]


def test_the_fixtures_are_small_and_say_nothing_of_the_machine(truth):
    files = [path for path in HERE.rglob("*") if path.suffix in {".onnx", ".data", ".npz"}]
    sizes = {path.name: path.stat().st_size for path in files}
    assert max(sizes.values()) < 60_000
    assert sum(sizes.values()) < 2_000_000
    for path in files:
        content = path.read_bytes()
        assert b"site-packages" not in content, path.name
        assert b"make_" not in content, path.name
    assert {network_of(name) for name in EXACT} == set(truth.networks)
    assert len(truth.samples()[0]) == 96
