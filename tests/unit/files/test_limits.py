from __future__ import annotations

import pytest

from onnxscape.files.limits import Limits, human_bytes

LIMITS = Limits(most=1 << 30, ratio=10, always_fine=1 << 20)


@pytest.mark.parametrize(
    ("stored", "allowed"), [(0, 1 << 20), (1 << 20, 10 << 20), (1 << 29, 1 << 30)]
)
def test_what_may_come_of_packed_bytes_has_a_floor_and_a_ceiling(
    stored: int, allowed: int
) -> None:
    assert LIMITS.allowed(stored) == allowed
    assert LIMITS.excess(allowed, stored=stored) is None
    assert LIMITS.excess(allowed + 1, stored=stored) is not None


def test_plain_bytes_have_a_ceiling_alone() -> None:
    assert LIMITS.excess(1 << 30) is None
    assert LIMITS.excess(3 << 30) == "claims 3.0 GiB; expected at most 1.0 GiB"


def test_a_bomb_is_called_one() -> None:
    why = LIMITS.excess(11 << 20, stored=1 << 20)
    assert why is not None
    assert why.startswith("claims 11.0 MiB from 1.0 MiB of file, as a decompression bomb does")
    assert "at most 10 times" in why


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (4 << 40, "4.0 TiB")],
)
def test_bytes_are_written_for_people(size: int, text: str) -> None:
    assert human_bytes(size) == text
