"""Samples from a function of the user's own, named `module:function`.

Naming a function runs its module: this is for local use only, never for references that came
over a network.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxscape.data.dataset import LABELS, SINGLE
from onnxscape.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_function_reference(reference: str) -> bool:
    """Return whether a reference has the form `module:function`.

    Args:
        reference: What the user gave.

    Returns:
        True if it has.
    """
    return _REFERENCE.fullmatch(reference) is not None


def call_function(reference: str, split: str) -> dict[str, NDArray[Any]]:
    """Import a function, also from the working folder, and call it.

    Args:
        reference: `module:function`. The function returns `(x, y)`, where x may be a dict of
            arrays by input name, or one dict with the labels under `y`.
        split: Handed to the function if it has a parameter `split`.

    Returns:
        Arrays by name, the labels under `y`.

    Raises:
        DataError: If it cannot be imported, fails, or returns something else.
    """
    function = _import(reference)
    try:
        takes_split = "split" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in callables have no signature
        takes_split = False
    try:
        result = function(split=split) if takes_split else function()
    except Exception as error:
        raise DataError(f"{reference} failed: {_one_line(error)}") from error
    return _arrays(result, reference)


def _import(reference: str) -> Callable[..., object]:
    module_name, _, path = reference.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise DataError(
            f"module {module_name!r} of {reference} cannot be imported from {here} or the "
            f"Python path: {_one_line(error)}"
        ) from error
    finally:
        sys.path.remove(here)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise DataError(f"module {module_name!r} has no function {path!r} ({reference})")
    function: Callable[..., object] = found
    return function


def _arrays(result: object, reference: str) -> dict[str, NDArray[Any]]:
    if isinstance(result, Mapping):
        named = dict(result)
    elif isinstance(result, tuple) and len(result) == 2:
        x, y = result
        named = dict(x) if isinstance(x, Mapping) else {SINGLE: x}
        named[LABELS] = y
    else:
        raise DataError(
            f"expected {reference} to return (x, y) or a dict with 'y', got "
            f"{type(result).__name__}"
        )
    try:
        return {str(name): np.asarray(value) for name, value in named.items()}
    except Exception as error:
        raise DataError(
            f"what {reference} returned is no array: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
