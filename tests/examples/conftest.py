"""What tests of the examples share: a server as users start it, and the local truth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import onnxscape as ox

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "digits_cnn.onnx"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Address of a server; at the end it is stopped, and must have had no trouble."""
    folder = tmp_path_factory.mktemp("server")
    port_file = folder / "port"
    command = [sys.executable, "-m", "onnxscape_cli.main", "serve", "--port", "0"]
    command += ["--port-file", str(port_file), "--data-dir", str(folder / "data")]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().strip()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port_file.read_text().strip()}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def local():
    """The landscape that the examples order, evaluated without a server."""
    return ox.evaluate(MODEL, "digits", grid="5x5")


@pytest.fixture
def without_onnxscape():
    """Environment variables of a program that cannot import what is tested."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
