from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from onnxscape.errors import OutputBusyError, OutputError
from onnxscape.storage import WriterLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from onnxscape.storage import WriterLock
with WriterLock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(output: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_no_lock_file_is_left_after_a_normal_end(tmp_path: Path) -> None:
    with WriterLock(tmp_path / "out.h5") as lock:
        assert [path.name for path in tmp_path.iterdir()] == ["out.h5.lock"]
        assert lock.path.name == "out.h5.lock"
    assert list(tmp_path.iterdir()) == []


def test_no_lock_file_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), WriterLock(tmp_path / "out.h5"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    with holder(output) as process:
        expected = (
            f"{output} is being written by process {process.pid}; "
            "wait for it or stop it, or choose another --out"
        )
        with pytest.raises(OutputBusyError) as caught, WriterLock(output):
            pytest.fail("two writers")
        assert str(caught.value) == expected
        # A refused writer must not have disturbed the first.
        with pytest.raises(OutputBusyError, match=str(process.pid)), WriterLock(output):
            pytest.fail("two writers")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
    with WriterLock(output):
        pass


def test_a_link_to_the_output_is_the_same_output(tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to(tmp_path / "out.h5")
    with (
        WriterLock(tmp_path / "out.h5"),
        pytest.raises(OutputBusyError),
        WriterLock(tmp_path / "link.h5"),
    ):
        pytest.fail("two writers")


def test_another_output_in_the_folder_is_free(tmp_path: Path) -> None:
    with WriterLock(tmp_path / "a.h5"), WriterLock(tmp_path / "b.h5"):
        assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9 there")
def test_a_killed_holder_does_not_block(tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    with holder(output) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        assert (tmp_path / "out.h5.lock").exists()
        with WriterLock(output) as lock:
            assert lock.path.read_text().split()[0] == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_an_old_lock_file_of_any_content_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "out.h5.lock").write_text("1 some-longer-host-name-than-ours-is\nand more\n")
    with WriterLock(tmp_path / "out.h5") as lock:
        assert len(lock.path.read_text().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_holder_on_another_machine_is_named_with_it(tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    with WriterLock(output) as lock:
        lock.path.write_text("42 elsewhere\n")
        with (
            pytest.raises(OutputBusyError, match="by process 42 on elsewhere;"),
            WriterLock(output),
        ):
            pytest.fail("two writers")


def test_a_number_of_no_living_process_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxscape.files.kernel_lock._is_alive", lambda number: number != 99)
    monkeypatch.setattr("onnxscape.files.kernel_lock.socket.gethostname", lambda: "here")
    monkeypatch.setattr("onnxscape.storage.writer_lock._PATIENCE", 30.0)
    output = tmp_path / "out.h5"
    with WriterLock(output) as lock:
        lock.path.write_text("99 here\n")  # of a killed writer: ours is about to be written
        timer = threading.Timer(0.1, lock.path.write_text, ["7 here\n"])
        timer.start()
        with pytest.raises(OutputBusyError, match="by process 7;"), WriterLock(output):
            pytest.fail("two writers")
        timer.join()


def test_a_place_without_a_folder_is_an_output_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="No such file"),
        WriterLock(tmp_path / "absent" / "o.h5"),
    ):
        pytest.fail("locked nothing")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system cannot tell links here")
def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out.h5.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError), WriterLock(tmp_path / "out.h5"):
        pytest.fail("locked another's file")
    assert (tmp_path / "precious").read_text() == "precious"
