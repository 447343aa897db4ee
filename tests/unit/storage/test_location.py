from __future__ import annotations

from pathlib import Path

import pytest

from onnxscape.errors import OutputError
from onnxscape.storage.location import file_system_type, is_local, real_path, reason

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/export /home nfs4 rw,vers=4.2 0 0
/dev/sdb /home/with\\040space xfs rw 0 0
tmpfs /scratch tmpfs rw 0 0
sshfs /scratch fuse.sshfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/run", "ext4"),
        ("/home/me", "nfs4"),
        ("/homework", "ext4"),
        ("/home/with space/run", "xfs"),
        ("/scratch/run", "fuse.sshfs"),
    ],
)
def test_the_deepest_and_last_mount_decides(folder: str, kind: str) -> None:
    assert file_system_type(Path(folder), MOUNTS) == kind


def test_a_folder_without_a_mount_has_no_type() -> None:
    assert file_system_type(Path("/srv"), "tmpfs /scratch tmpfs rw 0 0\n") is None


def test_the_kernel_file_system_is_not_a_local_disk() -> None:
    assert not is_local(Path("/proc"))


def test_a_link_and_its_target_are_one_place(tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to(tmp_path / "target.h5")
    assert real_path(tmp_path / "link.h5") == (tmp_path / "target.h5").resolve()


def test_links_in_a_circle_are_refused_or_kept_but_no_crash(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    # Python up to 3.12 raises here; later ones return the path as it is.
    try:
        found = str(real_path(tmp_path / "a"))
    except OutputError as error:
        found = str(error)
    assert "choose another" in found or found.startswith(str(tmp_path.resolve()))


def test_a_path_with_nul_is_refused() -> None:
    with pytest.raises(OutputError, match="as a path"):
        real_path("a\0b")


def test_a_reason_is_one_line_without_the_number() -> None:
    assert reason(OSError(28, "No space left on device", "/x")) == "No space left on device"
    assert reason(ValueError("two\n  lines")) == "two lines"
    assert reason(KeyError("bare")) == "bare"
    assert reason(MemoryError()) == "MemoryError"
