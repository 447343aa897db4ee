from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from onnxscape.errors import OutputError
from onnxscape.files.location import real_path

if TYPE_CHECKING:
    from pathlib import Path


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
