"""The bundled networks against the answers known from training them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import onnxscape as ox

MODELS = Path(__file__).parents[2] / "models"
ANSWERS = {
    answer["file"]: answer
    for answer in json.loads((MODELS / "known_answers.json").read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_center_of_the_digits_network_is_its_known_answer(split):
    known = ANSWERS["digits_cnn.onnx"]["splits"][split]
    landscape = ox.evaluate(
        MODELS / "digits_cnn.onnx", "digits", split=split, samples="all", grid=2, radius=0.1
    )
    assert landscape.spec.samples == landscape.spec.population == known["samples"]
    assert landscape.center["loss"] == pytest.approx(known["loss"], rel=1e-4)
    assert landscape.center["accuracy"] == known["accuracy"]


def test_the_digest_of_the_model_is_that_of_its_file():
    answer = ANSWERS["digits_cnn.onnx"]
    landscape = ox.evaluate(MODELS / "digits_cnn.onnx", "digits", samples=10, grid=2)
    assert landscape.spec.model == answer["sha256"]


@pytest.mark.network
@pytest.mark.parametrize("name", ["resnet20_cifar10", "resnet20_noshort_cifar10"])
def test_the_center_of_a_cifar10_network_is_its_known_answer(name):
    known = ANSWERS[f"{name}.onnx"]["splits"]["test"]
    landscape = ox.evaluate(
        MODELS / f"{name}.onnx", "cifar10", split="test", samples="all", x=(-0.1, 0.1, 2)
    )
    assert landscape.center["loss"] == pytest.approx(known["loss"], abs=1e-4)
    assert landscape.center["accuracy"] == pytest.approx(known["accuracy"], abs=1e-3)
