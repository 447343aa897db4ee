import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from onnxscape.errors import DiskFullError, StorageError, UsageError
from onnxscape.storage.blob_folder import MOST_UPLOADS, BlobFolder, NoRoomError
from onnxscape.storage.upload import Part

LATER = 1e12
"""After everything."""

BYTES = bytes(range(256)) * 40
SIZE = len(BYTES)
NAME = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def folder(tmp_path):
    made = BlobFolder(tmp_path / "blobs")
    made.create()
    return made


def written(folder, user="ann", data=BYTES, *, name=None, start=0, then=lambda: None):
    name = hashlib.sha256(data).hexdigest() if name is None else name
    with folder.open_upload(user, name, len(data)) as upload:
        upload.write(start, data[start:])
        upload.finish(then)
    return name


def files_of(folder):
    return sorted(path for path in folder.root.parent.rglob("*") if path.is_file())


def test_a_blob_holds_the_bytes_that_were_written_and_stands_under_their_digest(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:1000])
        upload.write(1000, BYTES[1000:])
        upload.finish()
    assert folder.path(NAME) == folder.root / NAME[:2] / NAME
    assert folder.path(NAME).read_bytes() == BYTES
    assert folder.size(NAME) == SIZE
    assert folder.has(NAME, SIZE)
    assert not folder.has(NAME, SIZE + 1)


@pytest.mark.parametrize(
    "name",
    ["", "ab", "../../etc/passwd", "A" * 64, "g" * 64, f"{NAME}\n", f"{NAME}/", f"{NAME}00"],
)
def test_what_is_no_digest_never_becomes_a_path(folder, name):
    with pytest.raises(UsageError, match="expected a sha256"):
        folder.path(name)
    with pytest.raises(UsageError, match="expected a sha256"):
        folder.open_upload("ann", name, 1)
    with pytest.raises(UsageError, match="expected a sha256"):
        folder.written("ann", name, 1)
    assert files_of(folder) == []


def test_names_of_users_never_become_paths(folder):
    for user in ("../../x", "a/b", ".", "", "\0", "x" * 1000):
        with folder.open_upload(user, NAME, SIZE) as upload:
            upload.write(0, b"\0")
    inside = folder.root.parent / "uploads"
    assert all(path.parent.parent == inside for path in files_of(folder))
    assert len(files_of(folder)) == 6


def test_a_stream_goes_on_where_the_one_before_broke_off_also_after_a_restart(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:4321])
    again = BlobFolder(folder.root)
    assert again.written("ann", NAME, SIZE) == 4321
    written(again, start=4321)
    assert again.path(NAME).read_bytes() == BYTES
    assert again.written("ann", NAME, SIZE) == 0


def test_nobody_goes_on_with_the_bytes_of_another_user(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:4321])
    assert folder.written("bob", NAME, SIZE) == 0
    with (
        folder.open_upload("bob", NAME, SIZE) as upload,
        pytest.raises(UsageError, match="from offset 0, got 4321"),
    ):
        upload.write(4321, BYTES[4321:])


def test_another_user_has_to_write_all_bytes_of_a_blob_that_is_there(folder):
    written(folder, "ann")
    with folder.open_upload("bob", NAME, SIZE) as upload:
        assert upload.offset == 0
        with pytest.raises(UsageError, match=f"expected {SIZE} bytes of the blob"):
            upload.finish()


def test_a_gap_is_refused_and_what_was_written_stays(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:100])
        with pytest.raises(UsageError, match="from offset 100, got 101"):
            upload.write(101, BYTES[101:])
        with pytest.raises(UsageError, match="from offset 100, got -1"):
            upload.write(-1, BYTES)
        upload.write(100, BYTES[100:])
        upload.finish()
    assert folder.path(NAME).read_bytes() == BYTES


def test_more_bytes_than_the_size_are_refused(folder):
    with (
        folder.open_upload("ann", NAME, 100) as upload,
        pytest.raises(UsageError, match="expected 100 bytes"),
    ):
        upload.write(0, BYTES[:101])


def test_a_truncated_upload_is_no_blob_and_can_be_gone_on_with(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:-1])
        with pytest.raises(UsageError, match=f"got {SIZE - 1}; send the rest"):
            upload.finish()
    assert not folder.has(NAME)
    written(folder, start=SIZE - 1)
    assert folder.path(NAME).read_bytes() == BYTES


def test_bytes_with_another_digest_are_dropped(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, bytes(SIZE))
        with pytest.raises(UsageError, match=f"expected bytes with the sha256 {NAME}"):
            upload.finish()
    assert files_of(folder) == []
    assert folder.written("ann", NAME, SIZE) == 0
    written(folder)
    assert folder.path(NAME).read_bytes() == BYTES


def test_a_wrong_beginning_of_an_earlier_stream_is_found_out(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, b"\xff" * 100)
    with pytest.raises(UsageError, match="expected bytes with the sha256"):
        written(folder, start=100)
    assert not folder.has(NAME)
    assert folder.written("ann", NAME, SIZE) == 0


def test_streams_that_write_the_same_blob_at_once_make_one_whole_blob(folder):
    data = os.urandom(3_000_000)
    name = hashlib.sha256(data).hexdigest()
    errors, granted = [], []
    barrier = threading.Barrier(4)

    def stream(step):
        try:
            with folder.open_upload("ann", name, len(data)) as upload:
                barrier.wait()
                for start in range(0, len(data), step):
                    upload.write(start, data[start : start + step])
                upload.finish(lambda: granted.append(step))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [
        threading.Thread(target=stream, args=(step,)) for step in (999, 4096, 65_537, 1 << 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(granted) == [999, 4096, 65_537, 1 << 20]
    assert folder.path(name).read_bytes() == data
    assert files_of(folder) == [folder.path(name)]


def test_a_stream_whose_blob_another_one_spoilt_is_told(folder):
    good = folder.open_upload("ann", NAME, SIZE)
    bad = folder.open_upload("ann", NAME, SIZE)
    bad.write(0, bytes(SIZE))
    with pytest.raises(UsageError, match="sha256"):
        bad.finish()
    with pytest.raises(UsageError, match="dropped: send them again"):
        good.write(0, BYTES)
    written(folder)  # although both are still open
    good.close()
    bad.close()
    assert folder.path(NAME).read_bytes() == BYTES


def test_an_upload_without_room_is_refused(folder):
    other = "0" * 64
    with folder.open_upload("ann", other, 700, room=lambda: 1000) as upload:
        with pytest.raises(NoRoomError) as caught:
            folder.open_upload("ann", NAME, SIZE, room=lambda: 700 + SIZE - 1)
        assert caught.value.left == SIZE - 1
        upload.write(0, b"\0")
    folder.open_upload("ann", NAME, SIZE, room=lambda: SIZE + 1).close()
    folder.open_upload("bob", NAME, SIZE, room=lambda: SIZE).close()


def test_a_stream_that_is_gone_on_with_is_counted_once(folder):
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:100])
    with folder.open_upload("ann", NAME, SIZE, room=lambda: SIZE) as upload:
        upload.write(100, BYTES[100:])
        upload.finish()


def test_there_is_an_end_to_unfinished_uploads(folder, monkeypatch):
    monkeypatch.setattr("onnxscape.storage.blob_folder.MOST_UPLOADS", 3)
    for number in range(3):
        with folder.open_upload("ann", f"{number:064x}", 5, room=lambda: 1 << 30) as upload:
            upload.write(0, b"\0")
    with pytest.raises(NoRoomError) as caught:
        folder.open_upload("ann", NAME, SIZE, room=lambda: 1 << 30)
    assert caught.value.uploads == 3
    assert MOST_UPLOADS >= 100


def test_an_upload_that_wrote_nothing_leaves_nothing(folder):
    folder.open_upload("ann", NAME, SIZE).close()
    assert files_of(folder) == []


def test_a_full_disk_is_told_and_the_upload_goes_on_when_there_is_room(folder, monkeypatch):
    full = [True]
    append = Part.append

    def limited(part, data):
        if full[0] and part.written >= 5000:
            part.file.write(data[:7])  # what a disk takes before it is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(part, data)

    monkeypatch.setattr(Part, "append", limited)
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:5000])
        with pytest.raises(DiskFullError, match="No space left on device"):
            upload.write(5000, BYTES[5000:6000])
        assert upload.offset == 5000
        full[0] = False
        upload.write(5000, BYTES[5000:])
        upload.finish()
    assert folder.path(NAME).read_bytes() == BYTES


def test_a_disk_that_is_full_when_the_blob_gets_its_name_loses_nothing(folder, tmp_path):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hindered = BlobFolder(folder.root, before_rename=full)
    with pytest.raises(DiskFullError):
        written(hindered)
    assert not folder.has(NAME)
    assert folder.written("ann", NAME, SIZE) == SIZE
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.finish()
    assert folder.path(NAME).read_bytes() == BYTES


def test_a_blob_that_could_not_be_noted_is_written_again(folder):
    def fails():
        raise StorageError("no luck")

    with pytest.raises(StorageError, match="no luck"):
        written(folder, then=fails)
    noted = []
    written(folder, then=lambda: noted.append(1))
    assert noted == [1]
    assert folder.path(NAME).read_bytes() == BYTES


def test_uploads_leave_some_of_the_disk_free(tmp_path):
    folder = BlobFolder(tmp_path / "blobs", free_kept=1 << 62)
    folder.create()
    with pytest.raises(DiskFullError, match="no room"):
        folder.open_upload("ann", NAME, SIZE)


def test_other_trouble_of_the_disk_is_no_full_disk(folder, monkeypatch):
    def broken(part, data):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Part, "append", broken)
    with (
        folder.open_upload("ann", NAME, SIZE) as upload,
        pytest.raises(StorageError, match="Input/output error") as caught,
    ):
        upload.write(0, BYTES)
    assert not isinstance(caught.value, DiskFullError)


def test_only_blobs_that_nothing_needs_are_collected(folder):
    kept = written(folder, data=b"kept")
    unused = written(folder, data=b"unused")
    assert folder.collect(lambda: {kept}, before=LATER) == len(b"unused")
    assert folder.has(kept)
    assert not folder.has(unused)


def test_what_was_touched_lately_is_not_collected(folder):
    name = written(folder)
    os.utime(folder.path(name), (1000, 1000))
    folder.touch(name)
    assert folder.collect(set, before=2000) == 0
    os.utime(folder.path(name), (1000, 1000))
    assert folder.collect(set, before=2000) == SIZE


def test_a_blob_that_becomes_needed_while_collecting_stays(folder):
    name = written(folder)
    answers = [set(), {name}]
    assert folder.collect(lambda: answers.pop(0), before=LATER) == 0
    assert folder.has(name)


def test_old_uploads_are_collected_but_not_those_under_way(folder):
    with folder.open_upload("ann", "0" * 64, 10) as upload:
        upload.write(0, b"old")
    with folder.open_upload("ann", NAME, SIZE) as upload:
        upload.write(0, BYTES[:10])
        assert folder.collect(set, before=0, uploads_before=LATER) == 3
        upload.write(10, BYTES[10:])
        upload.finish()
    assert folder.path(NAME).read_bytes() == BYTES


def test_files_of_the_server_are_added_once(folder, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(BYTES)
    assert folder.add(file) == (NAME, SIZE)
    assert folder.add(file) == (NAME, SIZE)
    assert folder.path(NAME).read_bytes() == BYTES
    with pytest.raises(StorageError, match="No such file"):
        folder.add(Path(tmp_path / "none.onnx"))


def test_a_piece_that_is_written_after_the_end_of_its_stream_hurts_nobody(folder):
    upload = folder.open_upload("ann", NAME, SIZE)
    upload.write(0, BYTES[:10])
    upload.close()
    upload.close()
    with pytest.raises(ValueError, match="closed file"):
        upload.write(10, BYTES[10:])
    assert folder.written("ann", NAME, SIZE) == 10
