from __future__ import annotations

import errno
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from onnxscape import plots
from onnxscape.errors import OutputError, StorageError


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_the_suffix_decides_on_the_format(slanted, tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    plots.draw(slanted, path=path)
    beginning = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix.lower()]
    assert path.read_bytes().startswith(beginning)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("contour", ".png"), ("filled", ".pdf"), ("heatmap", ".svg"), ("surface", ".svg")],
)
def test_the_same_landscape_gives_the_same_bytes(slanted, tmp_path, kind, suffix):
    first, second = (tmp_path / f"{name}{suffix}" for name in "ab")
    plots.draw(slanted, kind, path=first)
    plots.draw(slanted, kind, path=second)
    assert first.read_bytes() == second.read_bytes()


def test_text_stays_text_in_vector_files(slanted, tmp_path):
    plots.draw(slanted, "filled", path=tmp_path / "p.svg")
    root = ET.fromstring((tmp_path / "p.svg").read_text())  # noqa: S314 - our own file
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "resnet20" in texts
    assert any("filter-normalized direction" in text for text in texts)
    plots.draw(slanted, "filled", path=tmp_path / "p.pdf")
    content = (tmp_path / "p.pdf").read_bytes()
    assert b"/CIDFontType2" in content
    assert b"/Type3" not in content


def test_a_picture_has_room_for_all_it_shows(slanted, tmp_path):
    plots.draw(slanted, "filled", path=tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        pixels = image.convert("L")
        width, height = image.size
        edges = [
            pixels.crop(box).getextrema()[0]
            for box in (
                (0, 0, width, 2),
                (0, height - 2, width, height),
                (0, 0, 2, height),
                (width - 2, 0, width, height),
            )
        ]
    assert edges == [255] * 4
    assert width > 900


def test_an_existing_picture_is_replaced(slanted, tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(b"old")
    plots.draw(slanted, path=path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_failure_while_writing_leaves_the_old_picture_alone(slanted, tmp_path, monkeypatch):
    path = tmp_path / "p.png"
    path.write_bytes(b"old")

    def full(_self, _target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"cannot write .*p\.png: No space left on device"):
        plots.draw(slanted, path=path)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]
    assert path.read_bytes() == b"old"


def test_a_folder_that_is_not_there_is_an_error_of_one_line(slanted, tmp_path):
    with pytest.raises(OutputError, match="No such file or directory") as caught:
        plots.draw(slanted, path=tmp_path / "nowhere" / "p.png")
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_place_of_the_picture_is_an_error(slanted, tmp_path):
    (tmp_path / "p.png").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        plots.draw(slanted, path=tmp_path / "p.png")
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_matplotlibs_settings_are_left_as_they_were(slanted, tmp_path):
    before = dict(mpl.rcParams)
    plots.draw(slanted, path=tmp_path / "p.svg")
    assert dict(mpl.rcParams) == before


def test_pictures_can_be_drawn_in_threads(slanted, tmp_path):
    plots.draw(slanted, "filled", path=tmp_path / "alone.svg")
    paths = [tmp_path / f"{k}.svg" for k in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda path: plots.draw(slanted, "filled", path=path), paths))
    assert {path.read_bytes() for path in paths} == {(tmp_path / "alone.svg").read_bytes()}
