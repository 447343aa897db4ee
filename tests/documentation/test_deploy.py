"""What `deploy/` holds must be what the server understands, and as closed as it says."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from onnxscape.service.settings.config import ServerConfig
from onnxscape.service.settings.loading import PREFIX, SETTINGS, load_config

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TOML = (DEPLOY / "server.toml").read_text()

EXAMPLES = {"auth", "client_ca", "users", "models"}
"""What stands commented out in server.toml and is no default."""


def uncommented() -> str:
    """The example with everything in it."""
    text = re.sub(r"^# (?=\[\w[\w.]*\]|\w+ = )", "", TOML, flags=re.MULTILINE)
    assert text != TOML
    return text.replace('auth = "token"\n', "", 1)  # it is there once more, as mtls


@pytest.mark.parametrize("text", [TOML, uncommented()], ids=["as it is", "all of it"])
def test_the_example_is_understood(tmp_path, text):
    (tmp_path / "server.toml").write_text(text)
    load_config({}, environment={}, file=tmp_path / "server.toml")


def test_what_is_commented_out_is_the_default(tmp_path):
    (tmp_path / "server.toml").write_text(uncommented())
    config = dataclasses.asdict(load_config({}, environment={}, file=tmp_path / "server.toml"))
    defaults = dataclasses.asdict(ServerConfig())
    commented = tomllib.loads(uncommented()).keys() - tomllib.loads(TOML).keys() - EXAMPLES
    assert len(commented) > 5
    for name in commented:
        assert config[name] == defaults[name], name


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_variables_are_settings_with_values_that_are_understood(file):
    text = (DEPLOY / file).read_text()
    given = dict(re.findall(rf"^ +{PREFIX}(\w+)[=:] *([^\s\\]+)", text, re.MULTILINE))
    assert given
    assert {name.lower() for name in given} <= set(SETTINGS)
    environment = {PREFIX + name: value for name, value in given.items()}
    load_config({}, environment=environment, file=None)


def test_the_image_runs_as_nobody_in_particular():
    stages = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert len(stages) == 3
    (user,) = re.findall(r"^USER (\S+)$", stages[-1], re.MULTILINE)
    assert all(int(number) > 1000 for number in user.split(":"))
    assert "pip install" not in stages[-1]


def test_what_the_image_is_made_of_is_there_and_reaches_the_build():
    sources = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    )
    names = [name for line in sources for name in line.split()]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for name in names:
        assert (ROOT / name).exists()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in kept)


@pytest.fixture
def unit(tmp_path):
    """The unit, with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "onnxscape.service").read_text()
    path = tmp_path / "onnxscape.service"
    path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    return path


def test_systemd_finds_no_fault_with_the_unit(unit):
    command = ["systemd-analyze", "verify", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Unknown" not in done.stderr


def test_systemd_rates_the_unit_as_little_exposed(unit):
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]
