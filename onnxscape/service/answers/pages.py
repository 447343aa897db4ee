"""Pages of a list: how long they are, and the token that asks for the next one."""

from __future__ import annotations

import base64
import binascii

from onnxscape.service.answers.findings import Findings

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000


def page_size(asked: int) -> int:
    """Return how many entries a page has.

    Args:
        asked: What the request says; 0 for the default.

    Returns:
        At most `LARGEST_SIZE`.

    Raises:
        BadRequestError: If it is negative.
    """
    if asked < 0:
        findings = Findings()
        findings.add("page_size", f"a number from 0 to {LARGEST_SIZE}", asked)
        findings.refuse()
    return min(asked or DEFAULT_SIZE, LARGEST_SIZE)


def page_token(kind: str, last: int) -> str:
    """Return what asks for the next page.

    It holds a position and no more: whose entries are listed is decided anew each time.

    Args:
        kind: What is listed.
        last: Number of the last entry of this page.

    Returns:
        The token.
    """
    return base64.urlsafe_b64encode(f"{kind}:{last}".encode()).decode()


def after_token(kind: str, token: str) -> int | None:
    """Return where a page begins.

    Args:
        kind: What is listed.
        token: What `page_token` gave; empty for the first page.

    Returns:
        Number of the last entry of the page before; None for the first page.

    Raises:
        BadRequestError: If it is no token of such a list.
    """
    if not token:
        return None
    try:
        text = base64.b64decode(token[:200].encode(), altchars=b"-_", validate=True).decode()
        found, _, number = text.partition(":")
        if found == kind and number.isascii() and number.isdecimal() and len(number) < 19:
            return int(number)
    except (binascii.Error, ValueError):
        pass
    findings = Findings()
    findings.add("page_token", "the next_page_token of a response, or none", token)
    findings.refuse()
    return None
