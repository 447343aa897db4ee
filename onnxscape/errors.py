"""The errors of onnxscape, every one a subclass of `OnnxscapeError`.

Each is also a built-in exception, so that callers may catch what they know::

    OnnxscapeError (Exception)
    ├── UsageError (ValueError)              an option or argument that means nothing
    │   ├── GridError                        a grid that holds no points or no range
    │   ├── DirectionError                   a direction file that does not fit the model
    │   ├── SpecConflictError                the output holds another landscape
    │   └── RequestIdConflictError           a request's name that stands for another order
    ├── DataError (ValueError)               samples that cannot be used with this model
    │   ├── UnknownDataError (LookupError)   a data set of that name is not known
    │   └── DataUnavailableError (OSError)   known data that cannot be had here and now
    ├── ModelFileError (ValueError)          bytes that are no readable ONNX model
    ├── UnsupportedModelError (TypeError)    a valid model that cannot be handled
    │   └── NoParametersError                a valid model without anything to move
    ├── DeviceError (RuntimeError)           a device that is not there
    │   └── OutOfMemoryError (MemoryError)   a device without enough memory
    ├── SelfTestError (ArithmeticError)      our evaluation differs from the user's file
    ├── SurfaceFileError (ValueError)        a file that is no readable surface
    ├── OutputError (OSError)                an output that cannot be written
    │   └── OutputBusyError                  another process is writing it
    ├── StorageError (OSError)               storage that failed while running; points are kept
    │   └── DiskFullError                    a disk, or a share of it, without room
    └── ServerError (RuntimeError)           a server that did not do what it was asked
        ├── ServerUnreachableError (ConnectionError)   no answer from it
        ├── AccessError (PermissionError)    a caller that it does not know, or does not allow
        ├── ServerLimitError                 a quota or a limit of it
        │   └── ServerBusyError              too much to do now; try again later
        └── JobFailedError                   a job that ended without all of its points

A message says what was expected, what came, where, and what to do.
"""

from __future__ import annotations

__all__ = [
    "AccessError",
    "DataError",
    "DataUnavailableError",
    "DeviceError",
    "DirectionError",
    "DiskFullError",
    "GridError",
    "JobFailedError",
    "ModelFileError",
    "NoParametersError",
    "OnnxscapeError",
    "OutOfMemoryError",
    "OutputBusyError",
    "OutputError",
    "RequestIdConflictError",
    "SelfTestError",
    "ServerBusyError",
    "ServerError",
    "ServerLimitError",
    "ServerUnreachableError",
    "SpecConflictError",
    "StorageError",
    "SurfaceFileError",
    "UnknownDataError",
    "UnsupportedModelError",
    "UsageError",
]


class OnnxscapeError(Exception):
    """Root of all errors that onnxscape raises on purpose."""

    def __str__(self) -> str:
        # LookupError and OSError subclasses would print a repr or an errno prefix.
        return str(self.args[0]) if self.args else type(self).__name__


class UsageError(OnnxscapeError, ValueError):
    """An option or argument that means nothing here."""


class GridError(UsageError):
    """A grid that holds no points, no range, or too many points."""


class DirectionError(UsageError):
    """A direction file that does not fit the model's parameters."""


class SpecConflictError(UsageError):
    """The output already holds a landscape of another spec or plan."""


class RequestIdConflictError(UsageError):
    """A request's name that was used for another order."""


class DataError(OnnxscapeError, ValueError):
    """Samples that cannot be read, or cannot be used with this model."""


class UnknownDataError(DataError, LookupError):
    """No data set, file or function of that name."""


class DataUnavailableError(DataError, OSError):
    """A known data set that cannot be had here and now."""


class ModelFileError(OnnxscapeError, ValueError):
    """Bytes that are no readable ONNX model."""


class UnsupportedModelError(OnnxscapeError, TypeError):
    """A valid model that cannot be handled."""


class NoParametersError(UnsupportedModelError):
    """A valid model in which nothing can be moved."""


class DeviceError(OnnxscapeError, RuntimeError):
    """A device that is not there, or that ONNX Runtime cannot use."""


class OutOfMemoryError(DeviceError, MemoryError):
    """A device that has not enough memory for a batch."""


class SelfTestError(OnnxscapeError, ArithmeticError):
    """The prepared evaluation differs from the user's own file."""


class SurfaceFileError(OnnxscapeError, ValueError):
    """A file that is no readable surface."""


class OutputError(OnnxscapeError, OSError):
    """An output that cannot be written."""


class OutputBusyError(OutputError):
    """Another process is writing the same output."""


class StorageError(OnnxscapeError, OSError):
    """Storage that failed while running; the finished points are kept."""


class DiskFullError(StorageError):
    """A disk, or a share of it, without room for what is to be written."""


class ServerError(OnnxscapeError, RuntimeError):
    """A server that did not do what it was asked."""


class ServerUnreachableError(ServerError, ConnectionError):
    """A server that does not answer."""


class AccessError(ServerError, PermissionError):
    """A caller whom a server does not know, or does not allow what was asked."""


class ServerLimitError(ServerError):
    """More than a quota or a limit of the server allows, or than it can take now."""


class ServerBusyError(ServerLimitError):
    """A server that has too much to do now; later it may have less."""


class JobFailedError(ServerError):
    """A job that ended without all of its points."""
