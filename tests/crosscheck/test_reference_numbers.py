"""Surfaces against those of the public reference implementation (torch), and other means.

The numbers come from tomgoldstein/loss-landscape, run with torch on the network that was
exported here, so no code is shared. Its float32 sums have another order: losses agree to 1e-4
relative, accuracies to one sample.
"""

from __future__ import annotations

import h5py
import numpy as np
import onnxruntime as ort
import pytest

import onnxscape as ox
from onnxscape.storage import load_directions

RELATIVE = 1e-4
SAMPLES = 300
CASES = {
    "surface_2d.h5": {"x": "-1:1:11", "y": "-1:1:11"},
    "surface_1d.h5": {"x": "-1:1:21"},
    "surface_1d_far.h5": {"y": "-20:20:9"},
    "surface_2d_7x5.h5": {"x": "-1:1:7", "y": "-0.5:1.5:5"},
}


@pytest.fixture(scope="module")
def surface(reference):
    """Evaluates the network along the directions of the reference implementation."""

    def evaluate(**options):
        return ox.evaluate(
            reference / "model.onnx",
            reference / "data.npz",
            samples="all",
            directions=reference / "directions.h5",
            **options,
        )

    return evaluate


def reference_surface(path, shape):
    """Read with h5py alone: loss and accuracy as a fraction, [n_beta, n_alpha]."""
    with h5py.File(path) as file:
        loss, percent = file["test_loss"][:], file["test_acc"][:]
    assert loss.shape == shape
    return loss, percent / 100.0


@pytest.mark.parametrize("strategy", ["constant", "overriding"])
@pytest.mark.parametrize("name", CASES)
def test_a_surface_equals_the_reference(reference, surface, name, strategy):
    landscape = surface(strategy=strategy, **CASES[name])
    loss, accuracy = reference_surface(reference / name, landscape.loss.shape)
    np.testing.assert_allclose(landscape.loss, loss, rtol=RELATIVE)
    assert np.abs(landscape.accuracy - accuracy).max() <= 1.0 / SAMPLES + 1e-12
    assert landscape.complete


def test_the_coordinates_are_those_of_the_reference(reference, surface):
    landscape = surface(**CASES["surface_2d_7x5.h5"])
    with h5py.File(reference / "surface_2d_7x5.h5") as file:
        np.testing.assert_allclose(landscape.alphas, file["xcoordinates"][:], atol=1e-12)
        np.testing.assert_allclose(landscape.betas, file["ycoordinates"][:], atol=1e-12)


def test_a_surface_of_the_reference_reads_like_ours(reference, surface):
    landscape = surface(**CASES["surface_2d_7x5.h5"])
    loaded = ox.load(reference / "surface_2d_7x5.h5")
    np.testing.assert_allclose(landscape.loss, loaded.loss, rtol=RELATIVE)


def test_the_command_line_gives_the_reference_surface(reference, tmp_path, capsys):
    from onnxscape_cli.eval import command

    out = tmp_path / "surface.h5"
    arguments = [reference / "model.onnx", "--data", reference / "data.npz", "--out", out]
    arguments += ["--directions", reference / "directions.h5", "--samples", "all", "--no-plot"]
    for axis, text in CASES["surface_2d.h5"].items():
        arguments += [f"--{axis}", text]
    assert command([str(a) for a in arguments], standalone_mode=False) == 0
    assert "121 points" in capsys.readouterr().out
    with h5py.File(out) as file:
        ours, accuracy = file["loss"][:], file["accuracy"][:]
        assert np.array_equal(file["train_loss"][:], ours)
        np.testing.assert_allclose(file["train_acc"][:], accuracy * 100, rtol=1e-15)
    loss, expected = reference_surface(reference / "surface_2d.h5", ours.shape)
    np.testing.assert_allclose(ours, loss, rtol=RELATIVE)
    assert np.abs(accuracy - expected).max() <= 1.0 / SAMPLES + 1e-12


@pytest.mark.parametrize("seed", [0, 11])
def test_a_folded_export_has_the_same_surface(reference, seed):
    a, b = (
        ox.evaluate(
            reference / name,
            reference / "data.npz",
            samples="all",
            grid="5x5",
            seed=seed,
        )
        for name in ("model.onnx", "model_bn_folded.onnx")
    )
    assert a.plan.folded
    assert not b.plan.folded
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-3)
    assert np.abs(a.accuracy - b.accuracy).max() <= 2.0 / SAMPLES


def test_both_strategies_give_the_same_surface(surface):
    a, b = (
        surface(strategy=strategy, x="-1:1:5", y="-1:1:5")
        for strategy in ("constant", "overriding")
    )
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    np.testing.assert_allclose(a.loss_stderr, b.loss_stderr, rtol=1e-5, atol=1e-12)


def per_sample_losses(proto, x, y):
    """Plain ONNX Runtime, and the cross-entropy of its logits in float64."""
    session = ort.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits = session.run(["logits"], {"input": x})[0].astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    rows = np.arange(len(y))
    return log_sum - shifted[rows, y], logits.argmax(axis=1) == y


@pytest.mark.parametrize("ignore", ["biasbn", "none"])
def test_points_equal_a_file_edited_by_hand(
    reference, digits_arrays, edited, weights_of, tmp_path, ignore
):
    saved = tmp_path / "d.h5"
    landscape = ox.evaluate(
        reference / "model.onnx",
        digits_arrays,
        samples="all",
        grid="5x5",
        seed=2,
        ignore=ignore,
        out=tmp_path / "s.h5",
        save_directions=saved,
    )
    file = load_directions(saved)
    delta, eta = ({t.name: t.array.astype(np.float64) for t in d} for d in (file.x, file.y))
    weights = weights_of(reference / "model.onnx")
    for row, column in ((2, 2), (0, 3), (4, 1)):
        alpha, beta = landscape.alphas[column], landscape.betas[row]
        moved = {n: weights[n] + alpha * delta[n] + beta * eta[n] for n in delta}
        losses, hits = per_sample_losses(
            edited(reference / "model.onnx", moved), *digits_arrays
        )
        assert landscape.loss[row, column] == pytest.approx(losses.mean(), rel=RELATIVE)
        assert landscape.accuracy[row, column] == pytest.approx(hits.mean(), abs=1 / SAMPLES)
    losses, hits = per_sample_losses(edited(reference / "model.onnx", {}), *digits_arrays)
    assert landscape.center["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert landscape.center["accuracy"] == hits.mean()
