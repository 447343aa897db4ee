from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from onnxscape.data import cache
from onnxscape.data.cache import Source, cache_file, default_data_dir, obtain
from onnxscape.errors import DataError, DataUnavailableError
from onnxscape.files.kernel_lock import KernelLock

ARRAYS = {
    "train_x": np.arange(6, dtype=np.uint8).reshape(3, 2),
    "train_y": np.array([0, 1, 2], np.uint8),
    "test_x": np.zeros((1, 2), np.uint8),
    "test_y": np.zeros(1, np.uint8),
}


class Fetch:
    """A source that counts how often it is asked."""

    def __init__(self, result=ARRAYS):
        self.result = result
        self.places = []

    def __call__(self, place):
        self.places.append(place)
        if isinstance(self.result, BaseException):
            raise self.result
        (place.work / "download").write_bytes(b"large")
        return self.result


def get(folder, *fetches, split="train", said=None):
    sources = [Source(title=f"source {i}", fetch=fetch) for i, fetch in enumerate(fetches)]
    report = (lambda _line: None) if said is None else said.append
    return obtain("toy", split, folder, sources=sources, report=report, progress=None)


def test_data_is_fetched_once_and_kept(tmp_path):
    fetch = Fetch()
    folder = tmp_path / "new" / "folder"
    x, y = get(folder, fetch)
    assert np.array_equal(x, ARRAYS["train_x"])
    assert cache_file("toy", folder).is_file()
    again, _ = get(folder, fetch)
    assert np.array_equal(again, x)
    assert get(folder, fetch, split="test")[0].tolist() == [[0, 0]]
    assert y.tolist() == [0, 1, 2]
    assert len(fetch.places) == 1


def test_only_the_cache_file_is_left(tmp_path):
    get(tmp_path, Fetch())
    assert [path.name for path in tmp_path.iterdir()] == ["onnxscape-toy.npz"]


def test_data_is_kept_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def no_locks(_self, **_options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(KernelLock, "acquire", no_locks)
    said = []
    get(tmp_path, Fetch(), said=said)
    why = "cannot be written or locked (No locks available)"
    assert said == [f"{tmp_path} {why}: toy is put together elsewhere"]
    assert [path.name for path in tmp_path.iterdir()] == ["onnxscape-toy.npz"]


def test_sources_are_tried_in_order(tmp_path):
    fetches = [Fetch(DataError("no")), Fetch(OSError(5, "bad disk")), Fetch(), Fetch()]
    said = []
    get(tmp_path, *fetches, said=said)
    assert [len(fetch.places) for fetch in fetches] == [1, 1, 1, 0]
    assert said == ["source 0: no", "source 1: [Errno 5] bad disk"]


def test_when_none_has_it_the_error_says_what_was_tried_and_what_to_do(tmp_path):
    fetches = [Fetch(DataError("wrong sum")), Fetch(FileNotFoundError("not there"))]
    said = []
    with pytest.raises(DataUnavailableError) as caught:
        get(tmp_path, *fetches, said=said)
    text = str(caught.value)
    assert "source 0: wrong sum; source 1: not there" in text
    assert "onnxscape data get toy" in text
    assert "--data-dir" in text
    assert "\n" not in text
    assert said == ["source 0: wrong sum"]
    assert not cache_file("toy", tmp_path).exists()
    assert not (tmp_path / "onnxscape-toy.part").exists()


def test_why_the_last_source_failed_is_told_once(tmp_path):
    said = []
    with pytest.raises(DataUnavailableError, match="no network"):
        get(tmp_path, Fetch(DataError("no network")), said=said)
    assert said == []


@pytest.mark.parametrize("damage", ["cut", "emptied", "other arrays"])
def test_a_damaged_cache_file_is_made_anew(tmp_path, damage):
    get(tmp_path, Fetch())
    kept = cache_file("toy", tmp_path)
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:-100])
    elif damage == "emptied":
        kept.write_bytes(b"")
    else:
        np.savez(kept, x=np.zeros(3))
    fetch, said = Fetch(), []
    x, _ = get(tmp_path, fetch, said=said)
    assert np.array_equal(x, ARRAYS["train_x"])
    assert len(fetch.places) == 1
    assert "made anew" in said[0]
    get(tmp_path, Fetch(DataError("not asked")))


def test_what_a_killed_process_left_is_removed(tmp_path):
    work = tmp_path / "onnxscape-toy.part"
    work.mkdir()
    (work / "half").write_bytes(b"x")
    fetch = Fetch()
    get(tmp_path, fetch)
    assert not work.exists()


def test_an_interrupt_leaves_no_download(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, Fetch(KeyboardInterrupt()))
    assert not (tmp_path / "onnxscape-toy.part").exists()
    get(tmp_path, Fetch())


def test_a_folder_that_cannot_be_written_does_not_hinder_reading(tmp_path):
    (tmp_path / "file").write_text("in the way")
    fetch, said = Fetch(), []
    x, _ = get(tmp_path / "file", fetch, said=said)
    assert np.array_equal(x, ARRAYS["train_x"])
    assert "cannot be written" in said[0]
    assert not fetch.places[0].work.exists()


def test_a_full_disk_does_not_hinder_reading(tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "savez", full)
    said = []
    x, _ = get(tmp_path, Fetch(), said=said)
    assert np.array_equal(x, ARRAYS["train_x"])
    assert "cannot be kept" in said[0]
    assert not cache_file("toy", tmp_path).exists()


PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from onnxscape.data.cache import Source, obtain

folder = Path(sys.argv[1])
values = np.arange(3, dtype=np.uint8)

def fetch(place):
    with (folder / "fetched").open("a") as file:
        file.write("x")
    time.sleep(0.5)
    return {f"{split}_{kind}": values for split in ("train", "test") for kind in "xy"}

source = Source(title="slow", fetch=fetch)
x, y = obtain("toy", "test", folder, sources=[source], report=print, progress=None)
assert x.tolist() == [0, 1, 2]
"""


def test_processes_that_want_the_same_data_fetch_it_once(tmp_path):
    workers = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)]) for _ in range(2)
    ]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert (tmp_path / "fetched").read_text() == "x"


def test_waiting_for_another_process_ends_at_some_time(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.05)
    said = []
    lock = KernelLock(tmp_path / ".onnxscape-toy.lock")
    assert lock.acquire()
    with pytest.raises(
        DataUnavailableError, match=f"another process has been fetching.*process {os.getpid()}"
    ):
        get(tmp_path, Fetch(), said=said)
    lock.release()
    assert said == ["waiting for another process that fetches toy"]


def test_the_data_folder_is_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_data_dir().name == "onnxscape"
