"""Exit statuses: one table from errors to what the shell sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxscape import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

DONE = 0
INTERNAL = 1
INTERRUPTED = 130

EXIT_STATUS: Mapping[type[errors.OnnxscapeError], int] = {
    errors.OnnxscapeError: INTERNAL,
    errors.SelfTestError: INTERNAL,
    errors.UsageError: 2,
    errors.GridError: 2,
    errors.DirectionError: 2,
    errors.SpecConflictError: 2,
    errors.RequestIdConflictError: 2,
    errors.DataError: 2,
    errors.UnknownDataError: 2,
    errors.ModelFileError: 2,
    errors.DeviceError: 2,
    errors.OutOfMemoryError: 2,
    errors.SurfaceFileError: 2,
    errors.OutputError: 2,
    errors.OutputBusyError: 2,
    errors.DataUnavailableError: 3,
    errors.UnsupportedModelError: 4,
    errors.NoParametersError: 4,
    errors.StorageError: 6,
    errors.DiskFullError: 6,
    errors.ServerError: 5,
    errors.ServerUnreachableError: 5,
    errors.AccessError: 5,
    errors.ServerLimitError: 5,
    errors.ServerBusyError: 5,
    errors.JobFailedError: 5,
}
"""Every error class has its row; a test proves it."""


def exit_status(error: errors.OnnxscapeError) -> int:
    """Return the exit status of an error.

    Args:
        error: What went wrong.

    Returns:
        The status of its class.
    """
    return EXIT_STATUS[type(error)]
