"""Failpoints: where they are, and what they do."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import onnxscape
from onnxscape.jobs import failpoints

PACKAGE = Path(onnxscape.__file__).parent

_REACH = """
import sys
from onnxscape.jobs.failpoints import reach
for i in range(5):
    reach(sys.argv[1])
    print(i, flush=True)
"""


def reach_five_times(name, armed):
    return subprocess.run(
        [sys.executable, "-c", _REACH, name],
        env={"PYTHONPATH": ":".join(sys.path), failpoints.VARIABLE: armed},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_failpoint_kills_the_process_when_it_is_reached_for_the_nth_time():
    ended = reach_five_times(
        "point.before_commit", "lease.after=error,point.before_commit=kill:3"
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["0", "1"]


def test_a_failpoint_that_is_not_armed_does_nothing():
    ended = reach_five_times("point.after_commit", "point.before_commit=kill")
    assert ended.returncode == 0
    assert ended.stdout.split() == ["0", "1", "2", "3", "4"]


def test_a_failpoint_fails_once_as_a_full_disk_does(monkeypatch):
    monkeypatch.setattr(failpoints, "_ARMED", failpoints.armed("lease.after=error:2"))
    monkeypatch.setattr(failpoints, "_reached", {})
    failpoints.reach("lease.after")
    with pytest.raises(OSError, match="No space left") as caught:
        failpoints.reach("lease.after")
    assert caught.value.errno == errno.ENOSPC
    failpoints.reach("lease.after")


@pytest.mark.parametrize(
    "text", ["lease.after", "lease.before=kill", "lease.after=die", "lease.after=kill:x"]
)
def test_a_slip_in_what_is_armed_is_told(text):
    with pytest.raises(ValueError, match=r"expected NAME=ACTION or NAME=ACTION:N .*, got"):
        failpoints.armed(f"job.after_commit=error,{text}")
    ended = reach_five_times("lease.after", text)
    assert ended.returncode == 1
    assert ended.stdout == ""


def test_every_place_that_is_reached_has_a_name_in_the_list():
    sources = [path.read_text() for path in PACKAGE.rglob("*.py")]
    reached = {name for text in sources for name in re.findall(r'\breach\("([^"]+)"\)', text)}
    assert {"job.after_commit", "point.before_commit", "point.after_commit"} <= reached
    assert reached <= failpoints.NAMES
