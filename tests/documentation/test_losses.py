"""The page on losses: its example runs, and it knows every loss and option."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort
import pytest

from onnxscape.core.loss import LABELS_OF
from onnxscape.data import load_dataset
from onnxscape.data.subset import subset_indices

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "losses.md").read_text()
COMMANDS = re.findall(r"^(onnxscape .*?)(?:#.*)?$", PAGE, re.MULTILINE)


def test_the_custom_loss_of_the_example_is_the_focal_loss(tmp_path, monkeypatch):
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(compile(code, "losses.md", "exec"), names)  # noqa: S102 - our own text
    landscape = names["landscape"]

    data = load_dataset("digits", split="train")
    chosen = subset_indices(data.digest(), len(data), landscape.spec.samples)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        ROOT / "models" / "digits_cnn.onnx", options, providers=["CPUExecutionProvider"]
    )
    (signature,) = session.get_inputs()
    scale = next(iter(landscape.spec.preprocessing.values()))["scale"]
    x = np.float32(data.fields["x"][chosen] / scale)
    x = x.reshape(len(x), *(size for size in signature.shape[1:]))
    (logits,) = session.run(None, {signature.name: x})
    wide = logits.astype(float) - logits.max(axis=1, keepdims=True)
    log_p = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    own = log_p[np.arange(len(x)), data.labels[chosen]]
    expected = -((1 - np.exp(own)) ** 2 * own).mean()
    assert landscape.center["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_the_program_understands(line):
    words = shlex.split(line)
    command = importlib.import_module(f"onnxscape_cli.{words[1]}").command
    with click.Context(command, info_name=words[1]) as context:
        command.parse_args(context, words[2:])


def test_every_loss_is_in_the_table():
    listed = re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)
    assert listed == ["--loss", *LABELS_OF]
