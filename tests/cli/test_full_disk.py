"""A real disk that is full: a small file system in a mount name space of its own."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from onnxscape import evaluate, load


def unshared(script):
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture
def on_small_disk(tmp_path, arguments):
    """Runs a script where `$disk` is a file system of 1 MiB and `$eval` evaluates onto it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    probe = f"mount -t tmpfs -o size=1m none {shlex.quote(str(disk))}"
    if shutil.which("unshare") is None or unshared(probe).returncode:
        pytest.skip("needs unshare -m and mount")
    out = disk / "s.h5"
    command = arguments("--quiet", "--json", grid="15x15", out=out)
    evaluation = shlex.join([sys.executable, "-m", "onnxscape_cli.main", *command])

    def run(script):
        variables = f"disk={shlex.quote(str(disk))} kept={shlex.quote(str(tmp_path))}"
        functions = f"evaluate() {{ {evaluation}; echo $? >&2; }}"
        return unshared(f"{probe} || exit 9\n{variables}\n{functions}\n{script}")

    return run


def test_a_disk_that_fills_up_costs_no_point(on_small_disk, tmp_path, reference):
    result = on_small_disk(
        "evaluate\n"
        "mount -o remount,size=16m $disk\n"
        "evaluate\n"
        "cp $disk/s.h5 $kept/\n"
        "ls -A $disk >&2"
    )
    error, status, *after = result.stderr.splitlines()
    assert error.startswith("onnxscape: error: cannot ")
    assert "run the same command again" in error
    assert status == "6"
    assert after == ["0", "s.h5"]
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    assert report["points"] == 225
    assert report["points_reused"] >= 20
    landscape = load(tmp_path / "s.h5")
    expected = evaluate(
        reference / "model.onnx", reference / "data.npz", samples=50, grid="15x15", threads=1
    )
    for name, surface in expected.surfaces.items():
        assert np.array_equal(landscape.surfaces[name], surface)


def test_a_disk_that_is_full_from_the_start_is_refused(on_small_disk):
    result = on_small_disk(
        "cat /dev/zero > $disk/other 2> /dev/null\nevaluate\nls -A $disk >&2"
    )
    error, status, *left = result.stderr.splitlines()
    assert error.startswith("onnxscape: error: cannot ")
    assert "No space left on device" in error or "disk is full" in error
    assert status == "2"
    assert left == ["other"]
    assert result.stdout == ""
