"""What the tests of audits share: audits of all the exports that can be handled."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import onnxscape as ox

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def audits():
    """Path of each model to its audit."""
    made = {}
    for folder in ("models", "tests/exporters/models"):
        for path in sorted((ROOT / folder).glob("*.onnx")):
            with contextlib.suppress(ox.OnnxscapeError):
                made[path] = ox.inspect(path)
    return made
