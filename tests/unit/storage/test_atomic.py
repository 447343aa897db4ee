from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from onnxscape.errors import OutputError, StorageError
from onnxscape.storage import check_writable, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_content_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "out.bin", b"new")
    assert (tmp_path / "out.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["out.bin"]


def test_an_existing_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old content")
    target.chmod(0o640)
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_gets_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "out.bin", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.bin").stat().st_mode) == 0o640


def test_readers_of_the_old_file_keep_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old content")
    with target.open("rb") as reader:
        write_atomically(target, b"new")
        assert reader.read() == b"old content"


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises((StorageError, KeyboardInterrupt)) as caught:
        write_atomically(target, b"new")
    if isinstance(error, OSError):
        message = str(caught.value)
        assert str(target) in message
        assert "No space left on device" in message
        assert "run the same command again" in message
        assert "\n" not in message
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out.bin"]


def test_the_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recording_fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        order.append(f"sync {kind}")
        fsync(descriptor)

    def recording_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    write_atomically(tmp_path / "out.bin", b"new")
    assert order == ["sync file", "rename", "sync folder"]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        write_atomically(tmp_path / "absent" / "out.bin", b"new")


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders there")
def test_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a regular file"):
        write_atomically(tmp_path / "pipe", b"new")
    with pytest.raises(OutputError, match="device or pipe"):
        check_writable(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_good_output_is_accepted_and_nothing_is_left(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.h5")
    (tmp_path / "old.h5").write_bytes(b"old")
    check_writable(tmp_path / "old.h5")
    assert names(tmp_path) == ["old.h5"]
    assert (tmp_path / "old.h5").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is a folder"),
        ("absent/out.h5", "there is no folder"),
        ("file/out.h5", "there is no folder"),
        ("line\nbreak.h5", "control characters"),
        ("x" * 250 + ".h5", "too long"),
    ],
)
def test_a_bad_output_is_refused_early_on_one_line(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=message) as caught:
        check_writable(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_a_name_that_leaves_room_for_the_points_is_accepted(tmp_path: Path) -> None:
    check_writable(tmp_path / ("x" * 200 + ".h5"))


def test_a_read_only_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)  # mode bits do not hold the superuser back
    with pytest.raises(OutputError, match="Read-only file system"):
        check_writable(tmp_path / "out.h5")


def test_a_read_only_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.h5").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser would be let in
    with pytest.raises(OutputError, match="read-only"):
        check_writable(tmp_path / "out.h5")
