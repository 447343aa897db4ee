"""Times and time spans as protobuf has them."""

from __future__ import annotations

import math

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_LONGEST = 315_576_000_000
# Seconds that a Duration of protobuf can hold: 10000 years.


def timestamp(seconds: float) -> Timestamp:
    """Return a time.

    Args:
        seconds: Unix time.

    Returns:
        The message.
    """
    whole = math.floor(seconds)
    return Timestamp(seconds=whole, nanos=min(int((seconds - whole) * 1e9), 999_999_999))


def duration(seconds: float) -> Duration:
    """Return a time span.

    Args:
        seconds: Its length; what is too long, infinite or no number becomes the longest.

    Returns:
        The message.
    """
    if not seconds < _LONGEST:
        return Duration(seconds=_LONGEST)
    fraction, whole = math.modf(max(seconds, 0.0))
    return Duration(seconds=int(whole), nanos=int(fraction * 1e9))
