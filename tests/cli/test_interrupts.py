"""Processes that are killed or interrupted, and the same command afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from onnxscape import evaluate, load
from onnxscape.storage import PointStore, WriterLock, save_landscape
from onnxscape_cli.main import main
from onnxscape_cli.terminal import Terminal

GRID, POINTS = "24x24", 577
"""The center is off this grid: one point more."""


@pytest.fixture(scope="module")
def expected(reference):
    """The landscape of a run that nothing disturbs."""
    return evaluate(
        reference / "model.onnx", reference / "data.npz", samples=50, grid=GRID, threads=1
    )


def identical(a, b):
    assert a.surfaces.keys() == b.surfaces.keys()
    for name, surface in a.surfaces.items():
        assert np.array_equal(surface, b.surfaces[name]), name
    assert a.center == b.center
    assert a.complete
    assert b.complete


def test_a_killed_run_goes_on_to_the_same_bits(start, cli, arguments, here, expected):
    arguments = arguments("--json", grid=GRID)
    kept = 0
    for count in (1, 30, 150):
        running = start(arguments)
        running.wait_for_points(count)
        running.process.kill()
        result = running.end()
        assert result.status == -signal.SIGKILL
        assert running.points() >= max(count, kept)
        kept = running.points()
    assert not (here / "s.h5").exists()
    report = json.loads(cli(*arguments).out)
    assert report["points_reused"] == kept
    assert report["points_computed"] == POINTS - kept
    assert report["complete"]
    identical(load(here / "s.h5"), expected)
    assert [path.name for path in here.iterdir()] == ["s.h5"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_what_there_is(start, cli, arguments, here, expected, number):
    running = start(arguments("--json", grid=GRID))
    acknowledged = running.wait_for_points(20)
    running.process.send_signal(number)
    result = running.end()
    assert result.status == 130
    said = re.fullmatch(
        r"onnxscape: interrupted: (\d+) points are kept in s\.h5; the same command continues",
        result.err.splitlines()[-1],
    )
    kept = int(said[1])
    assert acknowledged <= kept < POINTS
    assert "Traceback" not in result.err
    report = json.loads(result.out)
    assert (report["points"], report["complete"]) == (kept, False)
    partial = load(here / "s.h5")
    assert np.count_nonzero(partial.evaluated) == kept - 1  # the center is off the grid
    assert np.array_equal(partial.loss[partial.evaluated], expected.loss[partial.evaluated])
    report = json.loads(cli(*arguments("--json", grid=GRID)).out)
    assert (report["points_reused"], report["points_computed"]) == (kept, POINTS - kept)
    identical(load(here / "s.h5"), expected)


def test_the_impatient_do_not_stop_the_saving(cli, arguments, here, monkeypatch):
    def point(*_arguments):
        os.kill(os.getpid(), signal.SIGINT)

    def save(landscape, path):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        save_landscape(landscape, path)

    monkeypatch.setattr(Terminal, "point", point)
    monkeypatch.setattr("onnxscape.evaluation.run.save_landscape", save)
    assert cli(*arguments()).status == 130
    assert np.count_nonzero(load(here / "s.h5").evaluated) == 1


def test_an_interrupt_before_the_first_point_is_one_line(cli, arguments, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxscape.evaluation.run.resolve", interrupted)
    result = cli(*arguments())
    assert result.status == 130
    assert result.err.strip() == "onnxscape: interrupted"


def test_a_second_writer_is_refused_by_the_number_of_the_first(start, cli, arguments):
    running = start(arguments(grid="30x30"))
    running.wait_for_points(1)
    result = cli(*arguments(grid="30x30"))
    assert result.status == 2
    assert f"is being written by process {running.process.pid};" in result.error()
    assert running.process.poll() is None


def test_the_lock_of_a_killed_writer_does_not_block(start, cli, arguments, here):
    running = start(arguments(grid="30x30"))
    running.wait_for_points(1)
    running.process.kill()
    running.end()
    assert WriterLock(here / "s.h5").path.exists()
    PointStore.location(here / "s.h5").unlink()
    assert cli(*arguments()).status == 0


def test_signals_that_the_caller_ignores_stay_ignored(capsys):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with pytest.raises(SystemExit):
            main(["--version"])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "onnxscape" in capsys.readouterr().out


def test_the_module_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "onnxscape_cli.main", "--version"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.startswith("onnxscape")


def test_an_interrupt_while_libraries_load_is_one_line(tmp_path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", "from onnxscape_cli.main import main; main()", "--version"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "onnxscape: interrupted\n")
