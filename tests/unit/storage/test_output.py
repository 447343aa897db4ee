from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from onnxscape.errors import OutputError
from onnxscape.storage import check_writable

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders there")
def test_a_pipe_is_refused_and_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
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
