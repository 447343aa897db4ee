from __future__ import annotations

from pathlib import Path

import pytest

from onnxscape.storage.file_system import file_system_type, is_local

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
