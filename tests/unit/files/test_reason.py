from __future__ import annotations

from onnxscape.files.reason import reason


def test_a_reason_is_one_line_without_the_number() -> None:
    assert reason(OSError(28, "No space left on device", "/x")) == "No space left on device"
    assert reason(ValueError("two\n  lines")) == "two lines"
    assert reason(KeyError("bare")) == "bare"
    assert reason(MemoryError()) == "MemoryError"
