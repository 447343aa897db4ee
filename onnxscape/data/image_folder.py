"""Images in one folder per class, as image classifiers are usually trained on."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onnxscape.data.limits import check_size
from onnxscape.errors import DataError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_PIXELS = 1 << 26
"""Most pixels that one image may have."""

_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
"""How an image of a mode is taken; others (transparency, CMYK, 16 bits) would lose a part."""


def read_image_folder(
    folder: Path, *, classes_of: Path | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read all images below the subfolders of a folder.

    Subfolders in the order of their names are the classes, as in torchvision's ImageFolder;
    within them images are taken in the order of their names. Grey images become colour images
    where any other image has colours.

    Args:
        folder: The folder.
        classes_of: Folder whose subfolders number the classes, where that is another one: the
            test images of a class have its number in training.

    Returns:
        Images [samples, height, width, 3], or [samples, height, width] if all are grey; and
        class numbers [samples].

    Raises:
        DataError: If there are no images, an image is unreadable, their sizes differ, or
            `classes_of` does not have one of the classes.
    """
    try:
        numbers = _classes(folder if classes_of is None else classes_of)
        files = [
            (path, numbers.get(name, -1))
            for name in _classes(folder)
            for path in sorted((folder / name).iterdir())
            if path.suffix.lower() in _SUFFIXES and path.is_file()
        ]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {reason(error)}") from error
    unknown = [path.parent for path, number in files if number < 0]
    if unknown:
        raise DataError(
            f"{unknown[0]} holds images of a class that {classes_of} does not have: expected "
            f"one of {', '.join(numbers)}"
        )
    if not files:
        raise DataError(
            f"{folder} holds no images by class; expected one subfolder per class with files "
            f"{', '.join(sorted(_SUFFIXES))}"
        )
    size, modes = _look_at_all([path for path, _ in files])
    mode = "RGB" if "RGB" in modes else "L"
    channels = (3,) if mode == "RGB" else ()
    width, height = size
    check_size(len(files) * width * height * (3 if channels else 1), f"the images in {folder}")
    images = np.empty((len(files), height, width, *channels), dtype=np.uint8)
    for index, (path, _) in enumerate(files):
        images[index] = _decode(path, size, mode)
    return images, np.array([label for _, label in files], dtype=np.int64)


def _classes(folder: Path) -> dict[str, int]:
    names = sorted(child.name for child in folder.iterdir() if child.is_dir())
    return {name: number for number, name in enumerate(names)}


def _look_at_all(paths: list[Path]) -> tuple[tuple[int, int], set[str]]:
    # The size that all images have, and the modes they are taken in.
    first: tuple[int, int] | None = None
    modes = set()
    for path in paths:
        with _open(path) as image:
            if first is None:
                first = image.size
            if image.size != first:
                raise DataError(
                    f"expected images of one size, got {_dimensions(image.size)} in {path} "
                    f"and {_dimensions(first)} in {paths[0]}; resize them first"
                )
            if image.mode not in _MODES:
                raise DataError(
                    f"{path} is an image of mode {image.mode}; expected grey or RGB, 8 bits: "
                    "convert it first"
                )
            modes.add(_MODES[image.mode])
    if first is None:
        raise DataError("expected at least one image, got none")
    return first, modes


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=_FORMATS)
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{path} is no readable image: {error}") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(
            f"{path} claims {_dimensions(image.size)} pixels; expected at most {MAX_PIXELS}"
        )
    return image


def _decode(path: Path, size: tuple[int, int], mode: str) -> NDArray[Any]:
    with _open(path) as image:
        if image.size != size:
            raise DataError(f"{path} changed while it was read")
        try:
            return np.asarray(image.convert(mode))
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path} is a damaged image: {error}") from error


def _dimensions(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
