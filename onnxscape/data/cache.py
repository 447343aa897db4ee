"""Where data sets known by name are kept, and how they get there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from onnxscape.data.arrays import read_npz
from onnxscape.errors import DataError, DataUnavailableError
from onnxscape.files.atomic import replacing
from onnxscape.files.kernel_lock import KernelLock
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

LOCK_SECONDS = 3900.0
"""How long to wait for another process that fetches the same data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a source may look and write, and whom it tells.

    Attributes:
        folder: The data folder: may hold files the user put there.
        work: An empty folder for downloads, removed afterwards.
        report: Told what happens, one line at a time.
        progress: Told the bytes done and, if known, their total.
    """

    folder: Path
    work: Path
    report: Callable[[str], None]
    progress: Callable[[int, int | None], None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One way to get a data set.

    Attributes:
        title: For people.
        fetch: Returns `train_x`, `train_y`, `test_x`, `test_y`; raises DataError or OSError,
            FileNotFoundError where there is just nothing to be read.
    """

    title: str
    fetch: Callable[[Place], Arrays]


def default_data_dir() -> Path:
    """Return the user's cache folder of onnxscape."""
    return Path(platformdirs.user_cache_dir("onnxscape", appauthor=False))


def cache_file(name: str, folder: Path) -> Path:
    """Return where a data set is kept.

    Args:
        name: Its name.
        folder: The data folder.

    Returns:
        The file; it may not exist.
    """
    return folder / f"onnxscape-{name}.npz"


def obtain(
    name: str,
    split: str,
    folder: Path,
    *,
    sources: Sequence[Source],
    report: Callable[[str], None],
    progress: Callable[[int, int | None], None] | None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read a data set from the data folder, and fetch it first if it is not there.

    Args:
        name: Its name.
        split: `train` or `test`.
        folder: The data folder; made if missing.
        sources: Ways to get it, in the order to be tried.
        report: Told what happens.
        progress: Told how far a download is.

    Returns:
        Inputs and labels [samples, ...].

    Raises:
        DataUnavailableError: If no source has it; says what was tried and why it failed.
    """
    kept = cache_file(name, folder)
    found = _cached(kept, split, report)
    if found is not None:
        return found
    with contextlib.ExitStack() as stack:
        beside: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_lock(name, folder, report))
            work = beside = stack.enter_context(
                _work_folder(folder / f"onnxscape-{name}.part")
            )
        except DataUnavailableError:
            raise
        except OSError as error:
            report(
                f"{folder} cannot be written or locked ({reason(error)}): "
                f"{name} is put together elsewhere"
            )
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxscape-")))
        found = _cached(kept, split, report)  # another process may have been quicker
        if found is not None:
            return found
        place = Place(folder=folder, work=work, report=report, progress=progress)
        arrays = _fetch(name, place, sources)
        try:
            _keep(arrays, kept, beside)
        except OSError as error:
            report(f"{name} cannot be kept in {folder}: {reason(error)}")
    return arrays[f"{split}_x"], arrays[f"{split}_y"]


def _cached(
    kept: Path, split: str, report: Callable[[str], None]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    if not kept.is_file():
        return None
    names = (f"{split}_x", f"{split}_y")
    try:
        arrays = read_npz(kept, only=names)
        return arrays[names[0]], arrays[names[1]]
    except (DataError, KeyError) as error:
        report(f"{error}; it is made anew")
        return None


def _fetch(name: str, place: Place, sources: Sequence[Source]) -> Arrays:
    tried = []
    for source in sources:
        try:
            return source.fetch(place)
        except (DataError, OSError) as error:
            why = str(error)
            titled = why if source.title in why else f"{source.title}: {why}"
            tried.append(titled)
            # The last one is told by the error.
            if not isinstance(error, FileNotFoundError) and source is not sources[-1]:
                place.report(titled)
    raise DataUnavailableError(
        f"{name} cannot be had here; tried {'; '.join(tried)}. Run `onnxscape data get {name} "
        f"--data-dir DIR` where there is a network, copy "
        f"{cache_file(name, place.folder).name} here, and name its folder with --data-dir"
    )


def _keep(arrays: Arrays, kept: Path, work: Path | None) -> None:
    # In the work folder, what a killed process has half written is found and removed.
    with replacing(kept, folder=work) as file:
        np.savez(file, allow_pickle=False, **arrays)


@contextlib.contextmanager
def _lock(name: str, folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    lock = KernelLock(folder / f".onnxscape-{name}.lock")
    if not lock.acquire():
        report(f"waiting for another process that fetches {name}")
        if not lock.acquire(seconds=LOCK_SECONDS):
            raise DataUnavailableError(
                f"{name}: another process has been fetching it for {LOCK_SECONDS:.0f} s "
                f"({lock.holder().name}, {lock.path}); stop it or wait for it"
            )
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    # The lock is held: what is there was left by a process that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
