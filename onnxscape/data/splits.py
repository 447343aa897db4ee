"""Splits that one file or folder holds side by side, told by names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SPLITS = ("train", "test")
_OTHERS = ("val", "valid", "validation")
"""Splits that are recognized, to be left out."""


def arrays_of_split(names: Iterable[str], split: str, source: str) -> dict[str, str] | None:
    """Tell the arrays of a split by their suffixes, as in `x_train`, `y_train`, `x_test`.

    Args:
        names: Names of all arrays there are.
        split: `train` or `test`.
        source: Where they are, for messages.

    Returns:
        Name of each array of the split to its name without the suffix; None if not all
        arrays belong to splits.

    Raises:
        DataError: If there are splits, but not this one.
    """
    by_split: dict[str, dict[str, str]] = {}
    for name in names:
        stem, _, suffix = name.rpartition("_")
        if not stem or suffix not in {*_SPLITS, *_OTHERS}:
            return None
        by_split.setdefault(suffix, {})[name] = stem
    if not by_split.keys() & {*_SPLITS}:
        return None
    if split not in by_split:
        raise DataError(_missing(split, by_split, source))
    return by_split[split]


def folder_of_split(folder: Path, split: str) -> Path | None:
    """Tell the subfolder of a split, where subfolders are splits and not classes.

    Args:
        folder: The folder, which exists.
        split: `train` or `test`.

    Returns:
        The split's folder of classes; None if the subfolders of `folder` are classes: if they
        have other names than splits, or hold files themselves.

    Raises:
        DataError: If there are splits, but not this one.
        OSError: If a folder cannot be read.
    """
    children = {child.name: child for child in folder.iterdir() if child.is_dir()}
    if not children.keys() & {*_SPLITS} or not children.keys() <= {*_SPLITS, *_OTHERS}:
        return None
    if not all(
        any(inner.is_dir() for inner in child.iterdir()) for child in children.values()
    ):
        return None
    if split not in children:
        raise DataError(_missing(split, children, str(folder)))
    return children[split]


def _missing(split: str, held: Iterable[str], source: str) -> str:
    return (
        f"{source} holds the split {' and '.join(sorted(held))}, not {split}: choose another "
        "with --split, or rename what it holds"
    )
