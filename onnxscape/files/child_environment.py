"""The environment of child processes that read what strangers wrote: no secrets in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_NAMES = frozenset(
    {
        *("PATH", "LANG", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"),
        "ONNXSCAPE_FAILPOINTS",
        # Without these, Python does not start on Windows, or finds no home and no folder.
        *("SYSTEMROOT", "TEMP", "TMP", "USERPROFILE", "LOCALAPPDATA"),
    }
)
_PREFIXES = (
    *("LC_", "PYTHON", "OMP_", "ORT_", "CUDA_", "CUDNN_", "NVIDIA_"),
    *("KMP_", "MKL_", "OPENBLAS_"),
)


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment for a child: variables that it needs, and no others.

    The child imports from where this process does.

    Args:
        **more: Variables besides.

    Returns:
        Name to value.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return kept | {"PYTHONPATH": path} | more
