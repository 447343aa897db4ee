from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from onnxscape.data import npm as module
from onnxscape.data.npm import npm_pack
from onnxscape.errors import DataUnavailableError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fake npm is a shell script")

CONTENT = b"an archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Put a shell script named npm first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def write(body):
        script = folder / "npm"
        script.write_text(
            "#!/bin/sh\n"
            'arguments="$*"\n'
            "while [ $# -gt 0 ]; do\n"
            '  [ "$1" = --pack-destination ] && destination=$2\n'
            "  shift\n"
            "done\n" + textwrap.dedent(body)
        )
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return write


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = f"/proc/{pid}/stat"
    if os.path.exists(status):  # noqa: PTH110
        with open(status) as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    return True


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.01)


def test_the_archive_is_fetched_and_no_script_is_run(fake_npm, work):
    fake_npm('echo "$arguments" > said; printf "an archive" > "$destination/p-1.0.0.tgz"')
    assert npm_pack("p@1.0.0", work, sha256=SHA256).read_bytes() == CONTENT
    said = (work / "said").read_text().split()
    assert said[:2] == ["pack", "p@1.0.0"]
    assert "--ignore-scripts" in said


def test_another_archive_than_expected_is_refused(fake_npm, work):
    fake_npm('printf "other" > "$destination/p-1.0.0.tgz"')
    with pytest.raises(DataUnavailableError, match=f"another file.*not {SHA256}"):
        npm_pack("p@1.0.0", work, sha256=SHA256)


def test_what_npm_says_is_passed_on(fake_npm, work):
    fake_npm("echo 'npm error code E404' >&2; echo 'npm error see log' >&2; exit 1")
    with pytest.raises(DataUnavailableError, match=r"npm failed \(npm error code E404\)"):
        npm_pack("p@1.0.0", work, sha256=SHA256)


def test_npm_without_an_archive_is_an_error(fake_npm, work):
    fake_npm("exit 0")
    with pytest.raises(DataUnavailableError, match="brought no archive"):
        npm_pack("p@1.0.0", work, sha256=SHA256)


def test_a_missing_npm_is_an_error(work, monkeypatch):
    monkeypatch.setenv("PATH", str(work))
    with pytest.raises(DataUnavailableError, match="npm is not on the PATH"):
        npm_pack("p@1.0.0", work, sha256=SHA256)


def test_an_npm_that_cannot_be_started_is_an_error(fake_npm, work, tmp_path):
    fake_npm("")
    (tmp_path / "bin" / "npm").write_bytes(b"\x7fELF broken")
    with pytest.raises(DataUnavailableError, match=r"npm package p@1\.0\.0"):
        npm_pack("p@1.0.0", work, sha256=SHA256)


def test_an_npm_that_hangs_is_ended_with_its_children(fake_npm, work, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.5)
    fake_npm("sleep 60 & echo $! > child; echo $$ > self; wait")
    with pytest.raises(DataUnavailableError, match="not done after"):
        npm_pack("p@1.0.0", work, sha256=SHA256)
    for name in ("child", "self"):
        pid = int((work / name).read_text())
        wait_until(lambda pid=pid: not alive(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems lack the call")
def test_npm_dies_with_the_process_that_started_it(fake_npm, work):
    fake_npm("echo $$ > self.part; mv self.part self; exec sleep 60")
    program = (
        "import sys; from pathlib import Path; from onnxscape.data.npm import npm_pack; "
        "npm_pack('p@1.0.0', Path(sys.argv[1]), sha256='')"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(work)])
    try:
        wait_until((work / "self").exists)
        pid = int((work / "self").read_text())
        assert alive(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not alive(pid))
