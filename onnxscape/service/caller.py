"""Who calls: known to every method of the service, put there by authentication."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

LOCAL_USER = "local"
"""Whose everything is on a server without authentication."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    Attributes:
        user: The name under which everything is kept that is the caller's.
    """

    user: str


CALLER: ContextVar[Caller] = ContextVar("CALLER")
"""The caller of the method that runs; set for the length of each call."""


def current_user() -> str:
    """Return the name of the user whose call is answered.

    Returns:
        The name.
    """
    return CALLER.get().user
