"""Why an operation failed, for a message of one line."""

from __future__ import annotations


def reason(error: BaseException) -> str:
    """Return why an operation failed, on one line and without error numbers or paths.

    Args:
        error: What was raised.

    Returns:
        For instance `No space left on device`.
    """
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # its text is a repr
    return " ".join(text.split()) or type(error).__name__
