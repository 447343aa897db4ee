from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from onnxscape.errors import StorageError
from onnxscape.files.atomic import replacing, write_atomically


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
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        write_atomically(tmp_path / "out", b"new")
    assert names(tmp_path) == ["out"]


def test_what_is_written_in_pieces_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with replacing(target) as file:
        file.write(b"ne")
        assert target.read_bytes() == b"old"
        file.write(b"w")
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_of_the_writer_passes_and_leaves_the_old_file(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def fail() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out.bin"]


def test_the_temporary_file_may_stand_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with replacing(tmp_path / "out.bin", folder=tmp_path / "work") as file:
        file.write(b"new")
        assert len(names(tmp_path / "work")) == 1
        assert names(tmp_path) == ["work"]
    assert (tmp_path / "out.bin").read_bytes() == b"new"
    assert names(tmp_path / "work") == []
