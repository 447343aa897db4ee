"""Estimates of when a job is finished."""

from __future__ import annotations

import pytest

from onnxscape.jobs.estimates import Load, completion


@pytest.mark.parametrize(
    ("own", "others", "slots", "expected"),
    [
        (Load(10), [], 1, 10),
        (Load(10), [], 4, 2.5),
        (Load(10), [Load(1000)], 1, 20),  # both have half until then
        (Load(10), [Load(4)], 1, 14),
        (Load(10), [Load(1000), Load(4), Load(0)], 2, 12),
        (Load(10), [Load(1000, 3.0)], 1, 40),
        (Load(10, 2.0), [Load(1000)], 1, 15),
        (Load(0), [Load(1000)], 1, 0),
        (Load(10), [], 0, 10),
    ],
)
def test_others_take_their_share_until_a_job_is_finished(own, others, slots, expected):
    assert completion(own, others, slots) == expected
