"""What may stand in requests about jobs: names, states, formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape.service.answers.findings import Findings
from onnxscape.service.answers.names import JOBS, identifier
from onnxscape.service.jobs.messages import STATES
from onnxscape.v1 import jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnxscape.jobs.states import JobState


def job_id_of(name: str) -> str:
    """Return the ID in the name of a job.

    Args:
        name: `jobs/ID`.

    Returns:
        The ID.

    Raises:
        BadRequestError: If it is no such name.
    """
    return identifier(JOBS, name, "name")


def states_of(asked: Collection[jobs_pb2.JobState]) -> frozenset[JobState]:
    """Return the states that are asked for.

    Args:
        asked: Their numbers.

    Returns:
        The states; none for all.

    Raises:
        BadRequestError: If a number is that of no state.
    """
    findings = Findings()
    known = {number: state for state, number in STATES.items()}
    for at, number in enumerate(asked):
        if number not in known:
            findings.add(f"states[{at}]", "the number of a state", number)
    findings.refuse()
    return frozenset(known[number] for number in asked)


def wants_arrays(request: jobs_pb2.ReadSurfaceRequest) -> bool:
    """Return whether a surface is asked for as arrays.

    Args:
        request: The request.

    Returns:
        False if it is asked for as a file.

    Raises:
        BadRequestError: If it is asked for in a form that is not known.
    """
    findings = Findings()
    known = (
        jobs_pb2.SURFACE_FORMAT_UNSPECIFIED,
        jobs_pb2.SURFACE_FORMAT_ARRAYS,
        jobs_pb2.SURFACE_FORMAT_HDF5,
    )
    if request.format not in known:
        findings.add("format", "the number of a format", request.format)
    findings.refuse()
    return request.format != jobs_pb2.SURFACE_FORMAT_HDF5
