"""Errors as the wire knows them: a code, a message, and details that programs understand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

from onnxscape.service.answers.times import duration

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


class BadRequestError(StatusError):
    """INVALID_ARGUMENT: fields of a request that mean nothing."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        """Say which; a header has room for many of them, not for all.

        Args:
            violations: What is wrong, at least one thing.
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
        super().__init__(
            grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", text + more, details=[detail]
        )


class NotFoundError(StatusError):
    """NOT_FOUND: there is none of that name, or it is somebody else's."""

    def __init__(self, kind: str, name: str) -> None:
        """Say what was asked for.

        Args:
            kind: What it would be: `job`.
            name: What was asked for.
        """
        name = _cut(name, 200)
        super().__init__(
            grpc.StatusCode.NOT_FOUND,
            "NOT_FOUND",
            f"expected the name of a {kind} that you have, got {name!r}, which is none",
            details=[ResourceInfo(resource_type=kind, resource_name=name)],
        )


class BlobsMissingError(StatusError):
    """FAILED_PRECONDITION: blobs that the caller has to write first."""

    def __init__(self, digests: Iterable[str]) -> None:
        """Say which.

        Args:
            digests: sha256 (hex) of each; at least one.
        """
        missing = sorted(digests)
        violations = [
            PreconditionFailure.Violation(
                type="BLOB", subject=digest, description="write it with WriteBlob first"
            )
            for digest in missing[:10]
        ]
        super().__init__(
            grpc.StatusCode.FAILED_PRECONDITION,
            "BLOBS_MISSING",
            f"expected blobs that you have written, got {len(missing)} that you have not, the "
            f"first of them {missing[0]}; write them with WriteBlob first",
            details=[PreconditionFailure(violations=violations)],
        )


class FailedPreconditionError(StatusError):
    """FAILED_PRECONDITION: something else has to be done first."""

    def __init__(self, reason: str, message: str) -> None:
        """Say what.

        Args:
            reason: For programs.
            message: For people.
        """
        super().__init__(grpc.StatusCode.FAILED_PRECONDITION, reason, message)


class AlreadyExistsError(StatusError):
    """ALREADY_EXISTS: a name is taken by something else."""

    def __init__(self, reason: str, message: str) -> None:
        """Say which.

        Args:
            reason: For programs.
            message: For people.
        """
        super().__init__(grpc.StatusCode.ALREADY_EXISTS, reason, message)


class ExhaustedError(StatusError):
    """RESOURCE_EXHAUSTED: a quota, a limit or the server itself is used up."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        exceeded: Sequence[Exceeded] = (),
        retry_seconds: float | None = None,
    ) -> None:
        """Say what.

        Args:
            reason: For programs.
            message: For people.
            exceeded: Which quotas or limits.
            retry_seconds: When trying again may help; None if waiting does not help.
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
        super().__init__(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message, details=details)


class UnavailableError(StatusError):
    """UNAVAILABLE: the same call works later."""

    def __init__(self, reason: str, message: str, *, retry_seconds: float) -> None:
        """Say why.

        Args:
            reason: For programs.
            message: For people.
            retry_seconds: How much later.
        """
        super().__init__(
            grpc.StatusCode.UNAVAILABLE, reason, message, details=[retry_info(retry_seconds)]
        )


def retry_info(seconds: float) -> RetryInfo:
    """Return when to try again.

    Args:
        seconds: From now.

    Returns:
        The detail.
    """
    return RetryInfo(retry_delay=duration(seconds))


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
