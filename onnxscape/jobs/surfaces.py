"""Surface files of jobs: written once and whole, from the points in the store."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from onnxscape.core.plan import Plan
from onnxscape.core.spec import EvalSpec
from onnxscape.errors import StorageError
from onnxscape.evaluation.assembly import assembled
from onnxscape.evaluation.progress import Progress
from onnxscape.evaluation.schedule import make_schedule
from onnxscape.files.atomic import replacing
from onnxscape.files.reason import reason
from onnxscape.jobs.failpoints import reach
from onnxscape.storage import surface_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnxscape.core.landscape import Landscape
    from onnxscape.evaluation.assembly import Results
    from onnxscape.evaluation.schedule import Schedule
    from onnxscape.jobs.records import Job

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def spec_of(job: Job) -> EvalSpec:
    """Return the spec of a job.

    Args:
        job: The job.

    Returns:
        The spec.

    Raises:
        SurfaceFileError: If another version wrote it, which this one cannot read.
    """
    return EvalSpec.from_dict(json.loads(job.spec))


def landscape_of(job: Job, results: Results) -> Landscape:
    """Arrange the points of a job as a landscape, as `evaluate` does.

    Args:
        job: The job, finished or not.
        results: Its points that are there.

    Returns:
        The landscape. Points that a refinement left out are interpolated as soon as all
        others are there; what is missing is NaN, and not evaluated.

    Raises:
        SurfaceFileError: If another version wrote spec or plan, which this one cannot read.
    """
    spec = spec_of(job)
    plan = None if job.plan is None else Plan.from_dict(json.loads(job.plan))
    origin = {} if job.provenance is None else json.loads(job.provenance)
    landscape = assembled(spec, results, plan, origin)
    schedule = _over(spec, results)
    return landscape if schedule is None else schedule.finished(landscape)


def _over(spec: EvalSpec, results: Results) -> Schedule | None:
    """Return the spec's schedule after its last round, or None if points are missing."""
    progress, schedule = Progress(spec.grid), make_schedule(spec)
    for (row, column), metrics in results.items():
        progress.add(row, column, metrics["loss"])
    for points in schedule.rounds(progress):
        if next(iter(progress.missing(points)), None) is not None:
            return None
    return schedule


def surface_path(folder: Path, job_id: str) -> Path:
    """Return where the surface of a job is, or is going to be.

    Args:
        folder: With the surfaces of all jobs.
        job_id: ID of the job.

    Returns:
        The path.

    Raises:
        ValueError: If that is no ID, so that the path might be anywhere.
    """
    if _ID.fullmatch(job_id) is None:
        raise ValueError(f"expected the ID of a job, got {job_id!r}")
    return folder / f"{job_id}.h5"


def write_surface(folder: Path, job: Job, results: Results) -> Path:
    """Write the surface of a job, atomically.

    Args:
        folder: With the surfaces of all jobs.
        job: The job; all its points are there, or failed.
        results: Its points.

    Returns:
        The file.

    Raises:
        StorageError: If it could not be written.
        OnnxscapeError: If the points make no landscape.
    """
    path = surface_path(folder, job.id)
    image = surface_image(landscape_of(job, results))
    try:
        with replacing(path) as file:
            file.write(image)
            reach("surface.before_rename")
    except OSError as error:
        raise StorageError(
            f"cannot write the surface {path}: {reason(error)}; it is tried again: free space "
            "or mend the disk"
        ) from error
    reach("surface.after_rename")
    return path


def sweep(folder: Path, known: Callable[[str], bool]) -> None:
    """Remove what a killed server left: unfinished files, surfaces of jobs that are deleted.

    Args:
        folder: With the surfaces of all jobs; made if it is missing.
        known: Whether a job exists.

    Raises:
        OSError: If the folder cannot be made or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        unfinished = path.name.startswith(".onnxscape-") and path.suffix == ".tmp"
        if unfinished or (path.suffix == ".h5" and not known(path.stem)):
            path.unlink(missing_ok=True)
