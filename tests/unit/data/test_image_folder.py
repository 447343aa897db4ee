from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from onnxscape.data.image_folder import read_image_folder
from onnxscape.errors import DataError


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (image if mode is None else image.convert(mode)).save(path)


def flat(value, *shape):
    return np.full(shape, value, np.uint8)


def test_subfolders_are_classes_in_the_order_of_their_names(tmp_path):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    for name, pixels in zip(
        ["dog/b.png", "cat/2.png", "cat/10.png", "dog/a.bmp"], pictures, strict=True
    ):
        save(tmp_path / name, pixels)
    (tmp_path / "notes.txt").write_text("not a class")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    images, labels = read_image_folder(tmp_path)
    assert np.array_equal(images, pictures[[2, 1, 3, 0]])
    assert labels.tolist() == [0, 0, 1, 1]
    assert labels.dtype == np.int64


def test_grey_images_have_no_channel_axis(tmp_path):
    save(tmp_path / "a" / "1.png", flat(7, 2, 3))
    save(tmp_path / "b" / "1.pgm", flat(9, 2, 3))
    images, _ = read_image_folder(tmp_path)
    assert images.shape == (2, 2, 3)
    assert images[:, 0, 0].tolist() == [7, 9]


def test_grey_images_among_colours_become_colours(tmp_path):
    save(tmp_path / "a" / "1.png", flat(7, 2, 3))
    save(tmp_path / "b" / "1.png", flat(9, 2, 3, 3))
    images, _ = read_image_folder(tmp_path)
    assert images.shape == (2, 2, 3, 3)
    assert images[0, 0, 0].tolist() == [7, 7, 7]


def test_palettes_are_the_colours_they_stand_for(tmp_path):
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 1] = (255, 0, 0)
    save(tmp_path / "a" / "1.png", pixels, mode="P")
    images, _ = read_image_folder(tmp_path)
    assert images[0, 0, 1].tolist() == [255, 0, 0]


def test_sizes_that_differ_are_an_error_with_both(tmp_path):
    save(tmp_path / "a" / "1.png", flat(0, 2, 3))
    save(tmp_path / "a" / "2.png", flat(0, 4, 5))
    with pytest.raises(DataError, match=r"got 5x4 in .*2\.png and 3x2 in .*1\.png; resize"):
        read_image_folder(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "LA", "I;16"])
def test_modes_that_would_lose_a_part_are_an_error(tmp_path, mode):
    folder = tmp_path / "a"
    folder.mkdir()
    Image.new(mode, (3, 2)).save(folder / ("1.tif" if mode == "CMYK" else "1.png"))
    with pytest.raises(DataError, match=f"mode {mode}"):
        read_image_folder(tmp_path)


def test_a_folder_without_images_is_an_error(tmp_path):
    save(tmp_path / "1.png", flat(0, 2, 3))
    with pytest.raises(DataError, match="one subfolder per class"):
        read_image_folder(tmp_path)


def png(width, height):
    """A .png file that claims a size and holds almost nothing."""
    chunks = [
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("side", [9000, 12000, 100000])
def test_a_picture_that_claims_too_many_pixels_is_refused(tmp_path, side):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(side, side))
    with pytest.raises(DataError, match=r"1\.png"):
        read_image_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", png(3, 2)])
def test_a_damaged_picture_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png is (no readable|a damaged) image"):
        read_image_folder(tmp_path)
