"""The same networks through many exporters: every file of one network has the same surface.

conftest.py knows what it must be; README.md tells how the fixtures are made.
"""

from __future__ import annotations

import functools
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest

import onnxscape as ox
from onnxscape.errors import NoParametersError, UnsupportedModelError

HERE = Path(__file__).parent
MODELS = HERE / "models"
THREE_POINTS = ((0.5, -0.5), (-0.5, 0.0), (0.0, 0.5))

REFUSED = {
    "convhead_torch_legacy_nofolding": (UnsupportedModelError, r"\[96, 10, 1, 1\]"),
    "logistic_skl2onnx_tensors": (
        NoParametersError,
        "nothing to move.*LinearClassifier .* has learned stands in its attributes",
    ),
    "mlp_skl2onnx_tensors": (UnsupportedModelError, "2: label, probabilities"),
    "mlp_skl2onnx_zipmap": (UnsupportedModelError, "output_label, output_probability"),
}
"""Fixture to the error that it must give."""

OTHER_FUNCTIONS = {
    # Two tensors for one weight, the second transposed: nothing in the file tells.
    "autoencoder_torch_dynamo_optimized",
    # Tracing it in training mode moved torch's running statistics.
    "cnn_torch_legacy_training",
    "mlp_keras_softmax",
}
"""Fixtures that are evaluated but are not the same function of their weights."""

DEFECTS: dict[str, str] = {}
"""Fixture to why it does not have its network's surface yet."""

EVALUATED = sorted(
    {path.stem for path in MODELS.glob("*.onnx")} - REFUSED.keys() - OTHER_FUNCTIONS
)
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


TOLD = {"untrained": "merged equal tensors", "autoencoder": "with other filters"}
"""Network to what the user may be told of it."""


def network_of(fixture):
    return fixture.split("_")[0]


def xfail(reason, raises=(AssertionError, UnsupportedModelError)):
    """Mark a known defect; only the failure it is known for counts."""
    return pytest.mark.xfail(strict=True, reason=reason, raises=raises)


def marked(fixtures, defects=DEFECTS):
    return [
        pytest.param(name, marks=xfail(defects[name])) if name in defects else name
        for name in fixtures
    ]


class Recorder:
    """An observer that keeps warnings."""

    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)

    def ignore(self, *args, **options):
        """Ignore what else a run tells."""

    note = bytes_read = outline = point = ignore


def assert_same_surface(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    # A flat landscape would pass that whatever its shape.
    assert np.abs(ours - theirs).max() <= 1e-3 * np.ptp(theirs)


@pytest.fixture(scope="module")
def evaluate(truth):
    """Returns what evaluates a fixture on all samples, given alike for every network."""

    def run(fixture, **options):
        x, y = truth.samples()
        if network_of(fixture) == "autoencoder":
            y, options["loss"] = x.reshape(len(x), -1), "mse"
        defaults = {"grid": "3x3", "radius": 0.5, "seed": truth.seed, "threads": 1}
        options = defaults | {"observer": Recorder()} | options
        return ox.evaluate(MODELS / f"{fixture}.onnx", (x, y), samples="all", **options)

    return run


@pytest.fixture(scope="module")
def evaluated(evaluate, tmp_path_factory):
    """Returns, evaluating only once, a fixture's landscape, its directions and warnings."""
    folder = tmp_path_factory.mktemp("surfaces")

    @functools.cache
    def run(fixture):
        observer = Recorder()
        path = folder / f"{fixture}.directions.h5"
        landscape = evaluate(
            fixture, out=folder / f"{fixture}.h5", save_directions=path, observer=observer
        )
        with h5py.File(path) as file:
            directions = [
                {
                    tensor.attrs["name"]: tensor[()].astype(np.float64)
                    for tensor in file[group].values()
                    if np.any(tensor[()])
                }
                for group in ("xdirection", "ydirection")
            ]
        return landscape, directions, observer.warnings

    return run


@pytest.mark.parametrize("fixture", marked(EVALUATED))
def test_all_exports_of_a_network_have_its_one_surface(fixture, evaluated, truth):
    landscape, _, warnings = evaluated(fixture)
    assert_same_surface(landscape.loss, truth.surface(network_of(fixture)))
    assert landscape.center["loss"] == landscape.loss[1, 1]
    told = [text for text in warnings if TOLD.get(network_of(fixture), "?") not in text]
    assert not told


@pytest.mark.parametrize(
    "fixture",
    sorted(
        (set(EVALUATED) | OTHER_FUNCTIONS)
        # the edited files are in training mode, or round what they are given to float16
        - {"cnn_torch_legacy_training", "mlp_half"}
    ),
)
def test_points_equal_the_file_with_edited_weights(fixture, evaluated, truth):
    landscape, (delta, eta), _ = evaluated(fixture)
    for alpha, beta in THREE_POINTS:
        ours = landscape.loss[truth.steps.index(beta), truth.steps.index(alpha)]
        assert ours == pytest.approx(truth.loss_at(fixture, delta, eta, alpha, beta), rel=1e-4)


@pytest.mark.parametrize(
    ("fixture", "error", "message"), [(name, *case) for name, case in REFUSED.items()]
)
def test_what_cannot_be_handled_is_refused_with_its_reason(fixture, error, message, evaluate):
    with pytest.raises(error, match=message) as raised:
        evaluate(fixture)
    assert type(raised.value) is error


@pytest.mark.parametrize("fixture", UNFOLDED)
def test_unfolded_exports_move_biases_and_normalization_alike(fixture, evaluate, truth):
    surface = evaluate(fixture, ignore="none").loss
    assert_same_surface(surface, truth.surface(network_of(fixture), ignore="none"))


@pytest.mark.parametrize("fixture", UNFOLDED)
def test_unfolded_exports_are_normalized_by_layer_alike(fixture, evaluate, truth):
    surface = evaluate(fixture, normalize="layer").loss
    assert_same_surface(surface, truth.surface(network_of(fixture), normalize="layer"))


@pytest.mark.parametrize("fixture", marked(EVALUATED))
def test_overriding_inputs_give_the_same_line(fixture, evaluate, truth):
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
def test_directions_fit_another_export_with_the_same_names(other, evaluate, truth, tmp_path):
    path = tmp_path / "directions.h5"
    saved = evaluate(truth.plain("cnn"), out=tmp_path / "surface.h5", save_directions=path)
    observer = Recorder()
    reused = evaluate(other, directions=path, observer=observer)
    assert_same_surface(reused.loss, saved.loss)
    assert not observer.warnings


def test_a_keras_model_that_ends_in_a_softmax_is_warned_of(evaluated):
    _, _, warnings = evaluated("mlp_keras_softmax")
    assert len(warnings) == 1
    assert "probabilities" in warnings[0]


@pytest.mark.parametrize("export", ["legacy_nofolding", "dynamo_plain"])
def test_a_tied_weight_with_two_filter_axes_is_warned_of(export, evaluated):
    _, _, warnings = evaluated(f"autoencoder_torch_{export}")
    (text,) = warnings
    assert "'encode.weight' is used again by" in text


def test_a_tied_weight_that_the_export_copied_is_warned_of(evaluated):
    _, _, warnings = evaluated("autoencoder_torch_dynamo_optimized")
    (text,) = warnings
    assert "encode.weight and " in text
    assert "hold the same values" in text


def test_a_file_in_training_mode_is_evaluated_as_in_inference(evaluated, evaluate, truth):
    landscape, _, warnings = evaluated("cnn_torch_legacy_training")
    assert len(warnings) == 3
    assert all("in training mode: its stored statistics are used" in w for w in warnings)
    model = onnx.load(MODELS / "cnn_torch_legacy_training.onnx")
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            next(a for a in node.attribute if a.name == "training_mode").i = 0
    inference = ox.evaluate(
        model, truth.samples(), grid="3x3", radius=0.5, seed=truth.seed, samples="all"
    )
    np.testing.assert_allclose(landscape.loss, inference.loss, rtol=1e-5)


def test_the_fixtures_are_small_and_say_nothing_of_the_machine(truth):
    files = [path for path in HERE.rglob("*") if path.suffix in {".onnx", ".data", ".npz"}]
    sizes = {path.name: path.stat().st_size for path in files}
    assert max(sizes.values()) < 60_000
    assert sum(sizes.values()) < 1_000_000
    for path in files:
        assert b"site-packages" not in path.read_bytes(), path.name
    assert {name.split("_")[0] for name in EVALUATED} == set(truth.networks)
    assert len(truth.samples()[0]) == 96
