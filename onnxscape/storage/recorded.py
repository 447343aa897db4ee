"""The spec, plan and provenance as JSON text in a file, read with care."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from onnxscape.core.interpolation import Interpolation
from onnxscape.core.plan import Plan
from onnxscape.core.spec import EvalSpec
from onnxscape.errors import SurfaceFileError
from onnxscape.files.reason import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class _Recorded(Protocol):
    def to_json(self) -> str: ...


_T = TypeVar("_T", bound=_Recorded)


def spec_from_json(text: str | None, path: Path) -> EvalSpec | None:
    """Read the text of a spec.

    Args:
        text: What `EvalSpec.to_json` gave; None where none was stored.
        path: The file it is from, for messages.

    Returns:
        The spec, or None.

    Raises:
        SurfaceFileError: If the text is no spec that this version can read.
    """
    return _read(EvalSpec.from_dict, text, "spec", path)


def plan_from_json(text: str | None, path: Path) -> Plan | None:
    """Read the text of a plan.

    Args:
        text: What `Plan.to_json` gave; None where none was stored.
        path: The file it is from, for messages.

    Returns:
        The plan, or None.

    Raises:
        SurfaceFileError: If the text is no plan that this version can read.
    """
    return _read(Plan.from_dict, text, "plan", path)


def interpolation_from_json(text: str | None, path: Path) -> Interpolation | None:
    """Read the text of an interpolation.

    Args:
        text: What `Interpolation.to_json` gave; None where none was stored.
        path: The file it is from, for messages.

    Returns:
        The interpolation, or None.

    Raises:
        SurfaceFileError: If the text is no interpolation that this version can read.
    """
    return _read(Interpolation.from_dict, text, "interpolation", path)


def provenance_to_json(provenance: Mapping[str, Any]) -> str:
    """Return the provenance as text; what JSON does not know is written as a string.

    Args:
        provenance: Plain values by name.

    Returns:
        A JSON object.
    """
    return json.dumps(dict(provenance), sort_keys=True, default=str)


def provenance_from_json(text: str | None, path: Path) -> dict[str, Any]:
    """Read the text of a provenance.

    Args:
        text: What `provenance_to_json` gave; None where none was stored.
        path: The file it is from, for messages.

    Returns:
        The values by name; empty for None.

    Raises:
        SurfaceFileError: If the text is no JSON object.
    """
    return {} if text is None else _object(text, "provenance", path)


def _read(
    build: Callable[[Mapping[str, Any]], _T], text: str | None, what: str, path: Path
) -> _T | None:
    if text is None:
        return None
    values = _object(text, what, path)
    try:
        result = build(values)
        result.to_json()  # a field of a strange type shows when it is written out again
    except SurfaceFileError as error:
        raise SurfaceFileError(f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise SurfaceFileError(
            f"{path}: the stored {what} cannot be read ({reason(error)}); "
            "use --restart to compute anew"
        ) from error
    return result


def _object(text: str, what: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        values, why = None, reason(error)
    else:
        why = f"it is a {type(values).__name__}"
    if not isinstance(values, dict):
        raise SurfaceFileError(
            f"{path}: the stored {what} is no JSON object ({why}); "
            "restore the file, or use --restart to compute anew"
        )
    return values
