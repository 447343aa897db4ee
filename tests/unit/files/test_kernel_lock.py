from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from onnxscape.files import kernel_lock
from onnxscape.files.kernel_lock import Holder, KernelLock, _lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from onnxscape.files.kernel_lock import KernelLock
assert KernelLock(Path(sys.argv[1])).acquire()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_a_lock_excludes_another_of_the_same_process(path: Path) -> None:
    first, second = KernelLock(path), KernelLock(path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    assert not path.exists()


def test_the_file_is_removed_by_its_holder_alone(path: Path) -> None:
    first, second = KernelLock(path), KernelLock(path)
    assert first.acquire()
    assert not second.acquire()
    second.release()
    assert path.exists()
    first.release()
    first.release()
    assert not path.exists()


def test_the_holder_is_named(path: Path, holder: subprocess.Popen[str]) -> None:
    lock = KernelLock(path)
    assert not lock.acquire()
    assert lock.holder() == Holder(f"process {holder.pid}", certain=True)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 there")
def test_a_killed_holder_does_not_block(path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(30)
    assert path.exists()
    lock = KernelLock(path)
    assert lock.acquire()
    assert lock.holder() == Holder(f"process {os.getpid()}", certain=True)
    lock.release()


def test_a_lock_is_waited_for(path: Path) -> None:
    first, second = KernelLock(path), KernelLock(path)
    assert first.acquire()
    timer = threading.Timer(0.1, first.release)
    timer.start()
    assert second.acquire(seconds=60.0)
    timer.join()
    second.release()


def test_waiting_ends(path: Path) -> None:
    first, second = KernelLock(path), KernelLock(path)
    assert first.acquire()
    assert not second.acquire(seconds=0.05)
    first.release()


@pytest.mark.parametrize(
    ("text", "holder"),
    [
        ("42 elsewhere\n", Holder("process 42 on elsewhere", certain=True)),
        ("99 here\n", Holder("process 99", certain=False)),
        ("7 here\n", Holder("process 7", certain=True)),
        ("7 here", Holder("another process", certain=False)),
        ("", Holder("another process", certain=False)),
    ],
)
def test_a_holder_is_only_certain_where_it_may_live(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: str, holder: Holder
) -> None:
    monkeypatch.setattr("onnxscape.files.kernel_lock._is_alive", lambda number: number != 99)
    monkeypatch.setattr("onnxscape.files.kernel_lock.socket.gethostname", lambda: "here")
    path.write_text(text)
    assert KernelLock(path).holder() == holder


def test_a_lock_on_a_file_that_lost_its_name_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race of unlinking: the holder ends between our opening and our locking."""
    attempts = []

    def lock_after_the_holder_left(descriptor: int) -> bool:
        attempts.append(descriptor)
        if len(attempts) == 1:
            path.unlink()
        return _lock(descriptor)

    monkeypatch.setattr(kernel_lock, "_lock", lock_after_the_holder_left)
    lock = KernelLock(path)
    assert not lock.acquire()
    assert lock.acquire()
    assert path.exists()
    assert not KernelLock(path).acquire()
    lock.release()


def test_many_processes_never_hold_the_lock_together(tmp_path: Path) -> None:
    """Each adds 1 to a file, unprotected but for the lock."""
    script = """
import sys
from pathlib import Path
from onnxscape.files.kernel_lock import KernelLock
counter = Path(sys.argv[1]) / "counter"
lock = KernelLock(Path(sys.argv[1]) / "lock")
for _ in range(30):
    assert lock.acquire(seconds=100)
    counter.write_text(str(int(counter.read_text()) + 1))
    lock.release()
"""
    (tmp_path / "counter").write_text("0")
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert (tmp_path / "counter").read_text() == "60"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_a_place_without_a_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KernelLock(tmp_path / "absent" / "lock").acquire()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system cannot tell links here")
def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path, path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        KernelLock(path).acquire()
    assert (tmp_path / "precious").read_text() == "precious"
