"""What the server's pages tell users to do must work as written, but for the address."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import onnxscape as ox

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "server"
SHOWN = "127.0.0.1:50051"


@pytest.fixture
def project_folder(tmp_path, monkeypatch):
    """A folder with the project's models in it, where examples may write."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 625 points on a niced worker: others may use the machine as well
def test_the_quick_start_gives_the_bits_of_a_local_run(server, project_folder):
    commands = [block.strip() for block in blocks("quick-start.md", "bash")]
    serve, evaluate, listing = commands[:3]
    assert serve == "onnxscape serve --port 50051"
    said = []
    for command in (evaluate, listing):
        assert SHOWN in command
        words = shlex.split(command.replace(SHOWN, server))
        done = subprocess.run(
            [sys.executable, "-m", "onnxscape_cli.main", *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=1000,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    remote = ox.load(project_folder / "s.h5")
    local = ox.evaluate("models/digits_cnn.onnx", "digits")
    assert remote.loss.tobytes() == local.loss.tobytes()
    assert remote.accuracy.tobytes() == local.accuracy.tobytes()
    assert (project_folder / "s_contour.png").stat().st_size > 10_000
    assert "digits_cnn" in said[1]


def test_the_examples_of_the_python_page_run(server, project_folder, capsys):
    _, jobs, without_waiting = blocks("python-client.md", "python")
    names = {"ox": ox}
    for code in (jobs, without_waiting):
        assert SHOWN in code
        exec(compile(code.replace(SHOWN, server), "page", "exec"), names)  # noqa: S102
    assert names["landscape"].loss.shape == (5, 5)
    assert "succeeded" in capsys.readouterr().out
    landscapes = asyncio.run(names["both"]())
    assert [landscape.spec.seed for landscape in landscapes] == [0, 1]
