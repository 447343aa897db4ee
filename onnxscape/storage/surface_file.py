"""Surface files (HDF5): written once and whole, read with care."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxscape.core.landscape import Landscape
from onnxscape.core.samples import SUBSET
from onnxscape.errors import OutputError, SurfaceFileError, UsageError
from onnxscape.files.atomic import write_atomically
from onnxscape.files.guarded_hdf5 import UntrustedHdf5, open_untrusted
from onnxscape.files.hdf5_image import hdf5_image
from onnxscape.storage.output import check_writable
from onnxscape.storage.recorded import (
    interpolation_from_json,
    plan_from_json,
    provenance_from_json,
    provenance_to_json,
    spec_from_json,
)
from onnxscape.storage.reference_surface import read_reference_surface
from onnxscape.storage.stored_grid import COORDINATES, read_grid
from onnxscape.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import h5py
    from numpy.typing import NDArray

FORMAT = 1
"""Version of the file's layout, kept in the attribute `onnxscape_format`."""

_CENTER = "center_"
_TEXTS = ("spec", "plan", "provenance", "interpolation")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]*")


def save_landscape(landscape: Landscape, path: Path) -> None:
    """Write a landscape as a surface file, atomically.

    Args:
        landscape: The result, complete or not. `provenance["split"]` (else `train`) names
            the copies made for the plotting scripts of the reference implementation.
        path: The HDF5 file to write or replace.

    Raises:
        UsageError: If a surface does not fit the grid, or a metric's name cannot be used.
        StorageError: If the file could not be written; an older one is as it was.
    """
    write_atomically(path, surface_image(landscape))


def surface_image(landscape: Landscape) -> bytes:
    """Return the bytes of a landscape's surface file.

    Args:
        landscape: The result, complete or not.

    Returns:
        The HDF5 file.

    Raises:
        UsageError: As `save_landscape`.
    """
    split = _split(landscape.provenance)
    _check(landscape, split)
    return hdf5_image(lambda file: _fill(file, landscape, split))


def save_without_loss(landscape: Landscape, path: Path, *, overwrite: bool) -> None:
    """Write a landscape as a surface file, unless another one would be lost.

    Args:
        landscape: The result, complete or not.
        path: The file to write.
        overwrite: Whether another landscape of onnxscape's may be replaced.

    Raises:
        OutputError: If the file cannot be written, or holds anything else.
        UsageError: As `save_landscape`.
        StorageError: As `save_landscape`.
    """
    check_writable(path)
    if path.is_file() and path.stat().st_size > 0:
        if not is_ours(path):
            raise OutputError(
                f"{path} exists and is no landscape of onnxscape's; choose another name, or "
                "remove it first"
            )
        if not overwrite:
            _refuse_loss(landscape, path)
    save_landscape(landscape, path)


def _refuse_loss(landscape: Landscape, path: Path) -> None:
    """Refuse to replace a file by what does not hold all its points.

    Raises:
        OutputError: If the landscape does not.
    """
    try:
        found = load_landscape(path)
    except SurfaceFileError as error:
        raise OutputError(
            f"{path} exists and is not a landscape this version reads ({error}); choose "
            "another name, or say that it may be overwritten (overwrite=True, --restart)"
        ) from error
    if found.spec is None or landscape.spec is None:
        why = "another landscape"
    elif differences := found.spec.differences(landscape.spec):
        why = f"another landscape; it differs in {'; '.join(differences)}"
    elif (found.evaluated & ~landscape.evaluated).any():
        why = "points that this landscape lacks"
    else:
        return
    raise OutputError(
        f"{path} holds {why}; choose another name, or say that it may be overwritten "
        "(overwrite=True, --restart)"
    )


def load_landscape(path: str | Path) -> Landscape:
    """Read a surface file of ours or of the reference implementation.

    A file of the reference has neither spec nor plan. Its first loss of `train_loss` and
    `test_loss` is taken, percent become fractions, and its values of 0 or less count as not
    evaluated, as they do there.

    Args:
        path: The HDF5 file; it need not be trusted.

    Returns:
        The landscape, with all values to the bit as they were saved.

    Raises:
        SurfaceFileError: If it is missing, damaged, harmful, or no surface, or was written by
            a newer version.
    """
    with open_untrusted(Path(path), SurfaceFileError) as source:
        version = source.number("onnxscape_format")
        if version is None:
            return read_reference_surface(source)
        if version != FORMAT:
            source.refuse(
                f"the surface has format {version:g}, this version reads {FORMAT}; "
                "update onnxscape"
            )
        return _read(source)


def is_ours(path: Path) -> bool:
    """Return whether a file is a surface that onnxscape wrote, of whatever version.

    Args:
        path: The file.

    Returns:
        False also for a file so damaged that it does not tell.
    """
    try:
        with open_untrusted(Path(path), SurfaceFileError) as source:
            return source.number("onnxscape_format") is not None
    except SurfaceFileError:
        return False


def _split(provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("split", "train"))


def _check(landscape: Landscape, split: str) -> None:
    if _NAME.fullmatch(split) is None:
        raise UsageError(f"expected a split such as train or test, got {split!r}")
    taken = {*COORDINATES, "evaluated", *_copies(split)}
    for name in landscape.surfaces:
        if _NAME.fullmatch(name) is None or name in taken:
            raise UsageError(
                f"a metric cannot be called {name!r} in a surface file; "
                f"use letters, digits and _, and none of {', '.join(sorted(taken))}"
            )
    arrays = {**landscape.surfaces, "evaluated": landscape.evaluated}
    for name, values in arrays.items():
        if np.shape(values) != landscape.grid.shape:
            raise UsageError(
                f"expected {name!r} of shape {list(landscape.grid.shape)} on this grid, "
                f"got {list(np.shape(values))}"
            )
    if "loss" not in landscape.surfaces:
        raise UsageError("a landscape needs the surface 'loss' to be saved")


def _copies(split: str) -> tuple[str, str]:
    """Return the names under which the reference's scripts look for loss and accuracy."""
    return f"{split}_loss", f"{split}_acc"


def _fill(file: h5py.File, landscape: Landscape, split: str) -> None:
    attributes: dict[str, str | int | bool | float | np.float64] = {
        "onnxscape_format": FORMAT,
        "onnxscape_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": landscape.complete,
        "provenance": provenance_to_json(landscape.provenance),
    }
    if landscape.spec is not None:
        attributes["spec"] = landscape.spec.to_json()
    if landscape.plan is not None:
        attributes["plan"] = landscape.plan.to_json()
    if landscape.interpolation is not None:
        attributes["interpolation"] = landscape.interpolation.to_json()
    for name, value in landscape.center.items():
        attributes[_CENTER + name] = np.float64(value)
    for name, attribute in attributes.items():
        file.attrs[name] = attribute

    grid = landscape.grid
    for name, coordinates in zip(COORDINATES, (grid.alphas, grid.betas), strict=True):
        if coordinates is not None:
            file.create_dataset(name, data=coordinates)
    evaluated = np.asarray(landscape.evaluated, dtype=np.bool_)
    file.create_dataset("evaluated", data=evaluated.astype(np.uint8))
    for name, values in landscape.surfaces.items():
        kept = np.where(landscape.known, np.asarray(values, dtype=np.float64), np.nan)
        file.create_dataset(name, data=kept)
        if name == "accuracy":
            file.create_dataset(_copies(split)[1], data=kept * 100.0)
    file[_copies(split)[0]] = file["loss"]  # a hard link: the same array, not a copy


def _read(source: UntrustedHdf5) -> Landscape:
    texts = {name: source.text(name) for name in _TEXTS}
    spec = spec_from_json(texts["spec"], source.path)
    provenance = provenance_from_json(texts["provenance"], source.path)
    grid = read_grid(source, None if spec is None else spec.grid)
    evaluated = _on_grid(source, "evaluated", grid.shape, kinds="ub")

    surfaces: dict[str, NDArray[np.float64]] = {}
    other = {*COORDINATES, "evaluated", *_copies(_split(provenance))}
    for name in source.arrays():
        _, dtype = source.shape_and_type(name)
        if name not in other and dtype.kind == "f":
            values = _on_grid(source, name, grid.shape, kinds="f")
            surfaces[name] = values.astype(np.float64, copy=False)
    if "loss" not in surfaces:
        source.refuse("a surface file needs the array 'loss', which is missing")
    landscape = Landscape(
        grid=grid,
        surfaces=surfaces,
        evaluated=evaluated.astype(np.bool_),
        center=_center(source),
        spec=spec,
        plan=plan_from_json(texts["plan"], source.path),
        provenance=provenance,
        interpolation=interpolation_from_json(texts["interpolation"], source.path),
    )
    _check_interpolated(source, landscape)
    return landscape


def _check_interpolated(source: UntrustedHdf5, landscape: Landscape) -> None:
    """Refuse a file whose points were not interpolated as it says.

    Raises:
        SurfaceFileError: If their number is another, or one has no loss.
    """
    if landscape.interpolation is None:
        return
    claimed, others = landscape.interpolation.interpolated, ~landscape.evaluated
    missing = others & np.isnan(landscape.loss)
    on_few = landscape.surfaces.get(SUBSET + "loss")
    if on_few is not None:
        missing &= ~np.isnan(on_few)  # a loss that is NaN on few samples is estimated as NaN
    advice = "the file was changed or is damaged; compute it anew with --restart"
    if others.sum() != claimed:
        source.refuse(
            f"the attribute 'interpolation' needs {claimed} points that were not evaluated, "
            f"the array 'evaluated' has {others.sum()}; {advice}"
        )
    if missing.any():
        source.refuse(
            f"the array 'loss' needs a value at all {claimed} interpolated points, "
            f"{missing.sum()} of them are NaN; {advice}"
        )


def _on_grid(
    source: UntrustedHdf5, name: str, shape: tuple[int, ...], *, kinds: str
) -> NDArray[Any]:
    claimed, _ = source.shape_and_type(name)
    if claimed != shape:
        found = "nothing" if claimed is None else list(claimed)
        source.refuse(
            f"array {name!r} should have the grid's shape {list(shape)}, has {found}"
        )
    return source.array(name, kinds=kinds)


def _center(source: UntrustedHdf5) -> dict[str, float]:
    numbers = {
        name.removeprefix(_CENTER): source.number(name)
        for name in source.attributes()
        if name.startswith(_CENTER)
    }
    return {name: number for name, number in numbers.items() if number is not None}
