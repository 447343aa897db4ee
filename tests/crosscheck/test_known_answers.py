"""The bundled digits network against the answers known from training it."""

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
