"""The names of things: `models/ID`, `dataSets/ID`, `jobs/ID`."""

from __future__ import annotations

import re

from onnxscape.service.answers.findings import Findings

MODELS, DATA_SETS, JOBS = "models", "dataSets", "jobs"
"""What the names of things start with."""

_ID = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"
_NAMES = {kind: re.compile(f"{kind}/({_ID})") for kind in (MODELS, DATA_SETS, JOBS)}


def check_name(kind: str, name: str, path: str, findings: Findings) -> str:
    """Check the name of a thing.

    Args:
        kind: `MODELS`, `DATA_SETS` or `JOBS`.
        name: Such as `jobs/ID`.
        path: The field that it stands in.
        findings: Told if it is no name of such a thing.

    Returns:
        Its ID; empty if it is no name.
    """
    match = _NAMES[kind].fullmatch(name)
    if match is not None:
        return match[1]
    findings.add(path, f"a name such as {kind}/ID", name)
    return ""


def identifier(kind: str, name: str, path: str) -> str:
    """Read the name of a thing.

    Args:
        kind: `MODELS`, `DATA_SETS` or `JOBS`.
        name: Such as `jobs/ID`.
        path: The field that it stands in.

    Returns:
        Its ID.

    Raises:
        BadRequestError: If it is no name of such a thing.
    """
    findings = Findings()
    found = check_name(kind, name, path, findings)
    findings.refuse()
    return found
