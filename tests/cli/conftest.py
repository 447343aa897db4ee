"""The command in this process (fast) and in one of its own (for signals)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_server import FakeServer

from onnxscape.storage import PointStore
from onnxscape_cli.main import main

MODELS = Path(__file__).parents[2] / "models"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Result:
    """What the shell would see."""

    status: int
    out: str
    err: str

    def error(self):
        """The one line of an error; there must be nothing else on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("onnxscape: error: ")
        assert "Traceback" not in self.out
        return line.removeprefix("onnxscape: error: ")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(here, capsys):
    """Runs the command in this process."""
    del here

    def run(*arguments):
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as done:
                main([str(argument) for argument in arguments])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Result(done.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def arguments(reference):
    """Returns the arguments of a small evaluation, no pictures."""

    def build(*more, model=None, data=None, grid="3x3", out="s.h5"):
        sized = [] if {"--x", "--y"} & set(map(str, more)) else ["--grid", grid]
        return [
            "eval",
            str(model or reference / "model.onnx"),
            *("--data", str(data or reference / "data.npz")),
            *("--samples", "50", *sized, "--threads", "1", "--no-plot"),
            *(["--out", str(out)] if out else []),
            *map(str, more),
        ]

    return build


class Running:
    """The command in a process of its own."""

    def __init__(self, arguments, folder, **options):
        command = [sys.executable, "-m", "onnxscape_cli.main", *arguments]
        self._store = PointStore.location(folder / "s.h5")
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            **options,
        )

    def points(self):
        """Number of points that are stored by now."""
        if not self._store.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{self._store}?mode=ro", uri=True)) as store:
                return store.execute("SELECT count(*) FROM points").fetchone()[0]
        except sqlite3.OperationalError:  # its tables are just being made
            return 0

    def wait_for_points(self, count):
        """Wait until so many are stored."""
        give_up = time.monotonic() + 60
        while (found := self.points()) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.005)
        return found

    def end(self):
        """Wait for the process and return what it said."""
        out, err = self.process.communicate(timeout=120)
        return Result(self.process.returncode, out, err)


@pytest.fixture
def start(here):
    """Starts the command in a process of its own; the test's end ends it."""
    started = []

    def run(arguments, **options):
        running = Running(arguments, here, **options)
        started.append(running)
        return running

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


@pytest.fixture
def own_environment(tmp_path):
    """The environment of a user without caches, tools and proxies."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    empty = tmp_path / "home"
    empty.mkdir()
    return kept | {"HOME": str(empty), "XDG_CACHE_HOME": str(empty), "PATH": str(empty)}


@pytest.fixture
def server(monkeypatch):
    """A fake server; the test's end ends it."""
    for name in ("ONNXSCAPE_SERVER", "ONNXSCAPE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    fake = FakeServer()
    yield fake
    fake.stop()
