"""What may stand in requests about jobs: names, pages, states, formats."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from onnxscape.service.job_messages import STATES
from onnxscape.service.order_checks import JOBS, Findings, identifier
from onnxscape.service.rich_errors import BadRequestError
from onnxscape.v1 import jobs_pb2

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnxscape.jobs.states import JobState

DEFAULT_PAGE, LARGEST_PAGE = 100, 1000

_LONGEST_TOKEN = 512


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


def page_size_of(asked: int) -> int:
    """Return how many entries a page has.

    Args:
        asked: How many are asked for; 0 for the default.

    Returns:
        At most `LARGEST_PAGE`.

    Raises:
        BadRequestError: If it is below 0.
    """
    findings = Findings()
    if asked < 0:
        findings.add("page_size", f"a number from 1 to {LARGEST_PAGE}, or 0", asked)
    findings.refuse()
    return min(asked or DEFAULT_PAGE, LARGEST_PAGE)


def page_token(last: str) -> str:
    """Return what continues a list.

    Args:
        last: Where the page ends.

    Returns:
        The token.
    """
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def read_page_token(token: str) -> str | None:
    """Return where a page begins.

    Args:
        token: From `page_token`, or empty.

    Returns:
        Where the page before ended; None for the first page.

    Raises:
        BadRequestError: If it is no token.
    """
    if not token:
        return None
    try:
        if len(token) > _LONGEST_TOKEN:
            raise ValueError
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        findings = Findings()
        findings.add("page_token", "the next_page_token of another page", token)
        raise BadRequestError(findings.violations) from None


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
