"""Clients that share no code with us must get the same numbers, to the bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import onnxscape as ox

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "digits_cnn.onnx"

UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT", "ENETUNREACH")
NO_PACKAGES = ("No matching distribution", "Could not find a version", "Connection")


def run(command, **options):
    """Returns an ended process, with what it said."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=800, **options
    )


def compare(path, local):
    """Compares what an example wrote as JSON with a local run."""
    result = json.loads(path.read_text())
    assert tuple(result["shape"]) == local.loss.shape
    assert result["center"]["loss"] == local.center["loss"]
    for metric, expected in (("loss", local.loss), ("accuracy", local.accuracy)):
        found = np.array(result["surfaces"][metric]).reshape(expected.shape)
        assert found.tobytes() == expected.tobytes(), metric
    return result


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A copy of the Node example with its packages."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    project = tmp_path_factory.mktemp("project")
    folder = project / "examples" / "node"
    ignore = shutil.ignore_patterns("node_modules")
    shutil.copytree(ROOT / "examples" / "node", folder, ignore=ignore)
    (project / "proto").symlink_to(ROOT / "proto")
    done = run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder)
    if done.returncode and any(code in done.stderr for code in UNREACHABLE):
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stderr
    return folder


def test_node_gets_the_numbers_of_a_local_run_from_the_proto_files_alone(
    node, server, local, tmp_path
):
    out = tmp_path / "surface.json"
    command = ["node", "landscape.js", str(MODEL), "--server", server, "--grid", "5"]
    done = run([*command, "--out", str(out)], cwd=node)
    assert done.returncode == 0, done.stderr
    result = compare(out, local)
    assert result["complete"]
    assert result["seen"] == local.loss.size
    assert f"center loss {local.center['loss']!r}" in done.stdout
    low, high = local.loss.min(), local.loss.max()
    assert f"loss from {float(low)!r} to {float(high)!r}" in done.stdout


def test_node_tells_what_the_server_refuses(node, server, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    done = run(["node", "landscape.js", str(broken), "--server", server], cwd=node)
    assert done.returncode == 1
    assert "ONNX" in done.stderr
    assert "    at " not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # it makes two environments
def test_a_client_made_by_protoc_gets_them_with_grpcio_and_protobuf_alone(
    server, local, tmp_path, without_onnxscape
):
    out = tmp_path / "surface.json"
    command = ["bash", str(ROOT / "examples" / "protoc" / "run"), str(tmp_path / "made")]
    command += [str(MODEL), "--server", server, "--grid", "5", "--out", str(out)]
    done = run(command, env=without_onnxscape, cwd=tmp_path)
    if done.returncode and any(text in done.stderr for text in NO_PACKAGES):
        pytest.skip("pip reaches no registry")
    assert done.returncode == 0, done.stderr
    compare(out, local)
    assert f"{local.loss.size} points as watched" in done.stdout
    packages = {path.name for path in (tmp_path / "made/client").glob("lib/*/site-packages/*")}
    assert {"grpc", "google"} <= packages
    assert not {name for name in packages if name.startswith(("numpy", "onnx"))}


def test_a_keras_model_is_trained_exported_and_evaluated_by_a_server_without_tensorflow(
    server, tmp_path
):
    python = os.environ.get("ONNXSCAPE_TENSORFLOW")
    if python is None:
        pytest.skip("ONNXSCAPE_TENSORFLOW names no Python with TensorFlow and onnxscape")
    out = tmp_path / "shapes.h5"
    script = ROOT / "examples" / "tensorflow" / "landscape.py"
    done = run([python, str(script), "--server", server, "--grid", "5x5", "--out", str(out)])
    assert done.returncode == 0, done.stderr
    landscape = ox.load(out)
    assert landscape.loss.shape == (5, 5)
    assert landscape.center["loss"] < landscape.loss.max()
