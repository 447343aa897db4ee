"""Errors as the wire knows them: a code, a message, and details that programs understand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.message import Message

DOMAIN = "onnxscape"
"""Whose reasons they are, in every `ErrorInfo`."""

_MESSAGE_ROOM = 2000
_DETAILS_ROOM = 2000
# A status travels in headers, all of which may have 8 KiB: the message twice, in base64 the
# second time, and the details.


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a field of a request.

    Attributes:
        field: Its path, such as `spec.grid.x.num`.
        description: What was expected there, and what came.
    """

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A quota or limit that a request would exceed.

    Attributes:
        subject: What it is about, such as `jobs`.
        description: The limit, what is used, what was asked for.
    """

    subject: str
    description: str


class StatusError(Exception):
    """What a method raises to end a call with a status that is not OK."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        details: Sequence[Message] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Say what went wrong.

        Args:
            code: The kind of status.
            reason: For programs: the same one for the same cause.
            message: For people. What is too long for a header is cut off.
            details: Messages of google.rpc besides `ErrorInfo`.
            metadata: Of the `ErrorInfo`.
        """
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = _cut(message, _MESSAGE_ROOM)
        self.details = tuple(details)
        self.metadata = dict(metadata or {})

    def to_status(self) -> Status:
        """Return it as the message that is sent."""
        info = ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        packed = []
        for detail in (info, *self.details):
            packed.append(AnyMessage())
            packed[-1].Pack(detail)
        number: int = self.code.value[0]
        return Status(code=number, message=self.message, details=packed)


def bad_request(violations: Iterable[Violation]) -> StatusError:
    """Return what says which fields of a request mean nothing.

    Args:
        violations: What is wrong, at least one thing.

    Returns:
        An INVALID_ARGUMENT with as many of them as a header has room for.
    """
    found = list(violations)
    detail, size = BadRequest(), 0
    for violation in found:
        entry = BadRequest.FieldViolation(
            field=_cut(violation.field, 200), description=_cut(violation.description, 400)
        )
        size += entry.ByteSize()
        if size > _DETAILS_ROOM:
            break
        detail.field_violations.append(entry)
    text = "; ".join(f"{v.field}: {v.description}" for v in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return StatusError(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", text + more, details=[detail]
    )


def not_found(kind: str, name: str) -> StatusError:
    """Return what says that there is none, or that it is somebody else's.

    Args:
        kind: What it would be: `job`.
        name: What was asked for.

    Returns:
        A NOT_FOUND.
    """
    name = _cut(name, 200)
    return StatusError(
        grpc.StatusCode.NOT_FOUND,
        "NOT_FOUND",
        f"expected the name of one of your {kind}s, got {name!r}, of which nothing is known",
        details=[ResourceInfo(resource_type=kind, resource_name=name)],
    )


def blobs_missing(digests: Iterable[str]) -> StatusError:
    """Return what says that blobs have to be written first.

    Args:
        digests: sha256 (hex) of each.

    Returns:
        A FAILED_PRECONDITION.
    """
    missing = sorted(digests)
    violations = [
        PreconditionFailure.Violation(
            type="BLOB", subject=digest, description="write it with WriteBlob first"
        )
        for digest in missing[:10]
    ]
    return StatusError(
        grpc.StatusCode.FAILED_PRECONDITION,
        "BLOBS_MISSING",
        f"expected blobs that you have written, got {len(missing)} that you have not, the "
        f"first of them {missing[0]}; write them with WriteBlob first",
        details=[PreconditionFailure(violations=violations)],
    )


def failed_precondition(reason: str, message: str) -> StatusError:
    """Return what says that something else has to be done first.

    Args:
        reason: For programs.
        message: For people.

    Returns:
        A FAILED_PRECONDITION.
    """
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, reason, message)


def already_exists(reason: str, message: str) -> StatusError:
    """Return what says that a name is taken by something else.

    Args:
        reason: For programs.
        message: For people.

    Returns:
        An ALREADY_EXISTS.
    """
    return StatusError(grpc.StatusCode.ALREADY_EXISTS, reason, message)


def exhausted(
    reason: str,
    message: str,
    *,
    exceeded: Sequence[Exceeded] = (),
    retry_seconds: float | None = None,
) -> StatusError:
    """Return what says that a quota, a limit or the server is used up.

    Args:
        reason: For programs.
        message: For people.
        exceeded: Which quotas or limits.
        retry_seconds: When trying again may help; None if it does not help by itself.

    Returns:
        A RESOURCE_EXHAUSTED.
    """
    details: list[Message] = []
    if exceeded:
        violations = [
            QuotaFailure.Violation(subject=e.subject, description=_cut(e.description, 400))
            for e in exceeded[:4]
        ]
        details.append(QuotaFailure(violations=violations))
    if retry_seconds is not None:
        details.append(retry_info(retry_seconds))
    return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message, details=details)


def unavailable(reason: str, message: str, *, retry_seconds: float) -> StatusError:
    """Return what says that the same call works later.

    Args:
        reason: For programs.
        message: For people.
        retry_seconds: How much later.

    Returns:
        An UNAVAILABLE.
    """
    return StatusError(
        grpc.StatusCode.UNAVAILABLE, reason, message, details=[retry_info(retry_seconds)]
    )


def retry_info(seconds: float) -> RetryInfo:
    """Return when to try again.

    Args:
        seconds: From now.

    Returns:
        The detail.
    """
    fraction, whole = math.modf(max(seconds, 0.0))
    return RetryInfo(retry_delay=Duration(seconds=int(whole), nanos=int(fraction * 1e9)))


def _cut(text: str, room: int) -> str:
    """Return a text that takes no more bytes than there is room for in a header.

    Bytes that are not printable ASCII, and the percent sign, take three there.
    """
    used = 0
    for at, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        used += 1 if plain else 3 * len(character.encode("utf-8", "surrogatepass"))
        if used > room - 3:
            return text[:at] + "..."
    return text
