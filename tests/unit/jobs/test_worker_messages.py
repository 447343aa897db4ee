"""Messages of workers: what goes in comes out to the bit, and nothing else comes in."""

from __future__ import annotations

import json
import math
import struct

import pytest
from fake_executor import OUTLINE, PLAN
from hypothesis import given
from hypothesis import strategies as st

from onnxscape.core.grid import Point
from onnxscape.jobs.executor import (
    Beat,
    Chunk,
    Failed,
    Finished,
    Lost,
    PointDone,
    Ready,
    Replanned,
)
from onnxscape.jobs.order import DataRef, Order
from onnxscape.jobs.worker_messages import (
    Loaded,
    MessageError,
    chunk_line,
    event_line,
    event_of,
    give_back_line,
    request_of,
)

ORDER = Order(
    model="ab" * 32,
    model_name="net\n",
    data=DataRef(name="näme", blob="cd" * 32, preprocessing={"scale": 255.0, "mean": [0.1]}),
    options={"x": [-1.0, 1.0, 5], "metrics": ["accuracy"], "samples": None},
)


def bits(value):
    return struct.pack("<d", value)


@given(
    alpha=st.floats(allow_nan=False),
    value=st.floats(),
    seconds=st.floats(min_value=0, allow_infinity=False),
)
def test_every_float_keeps_its_bits(alpha, value, seconds):
    done = PointDone(Point(3, -1, alpha, 0.1), {"loss": value, "a": 0.1}, seconds)
    lease, got = event_of(event_line(5, done))
    assert lease == 5
    assert bits(got.point.alpha) == bits(alpha)
    assert bits(got.seconds) == bits(seconds)
    if math.isnan(value):
        assert math.isnan(got.metrics["loss"])
    else:
        assert bits(got.metrics["loss"]) == bits(value)


@pytest.mark.parametrize(
    "event",
    [
        Ready(
            plan=PLAN.to_json(),
            provenance={"device": "cpu", "threads": 1},
            outline=OUTLINE,
            seconds_per_point=0.25,
            notes=("a\nb",),
            warnings=("ü",),
        ),
        PointDone(Point(0, 1, -0.0, 1e-300, 40), {"loss": math.inf}, 0.0),
        Beat(1 << 40),
        Replanned(PLAN.to_json(), "short"),
        Failed("DataError", "no"),
        Finished(),
        Loaded(("one", "two")),
    ],
    ids=lambda event: type(event).__name__,
)
def test_events_come_back_equal_and_on_one_line(event):
    line = event_line(7, event)
    assert line.count(b"\n") == 1
    assert event_of(line) == (7, event)


def test_a_worker_cannot_tell_that_it_is_lost():
    with pytest.raises(TypeError):
        event_line(1, Lost("killed", ""))


def test_requests_come_back_equal():
    chunk = Chunk(
        job="j",
        lease=2**40,
        order=ORDER,
        plan=None,
        spec="ef" * 32,
        points=(Point(0, 1, -0.3, 1 / 3), Point(-1, -1, 0.0, 0.0, 7)),
        total=26,
    )
    assert request_of(chunk_line(chunk)) == chunk
    assert request_of(give_back_line(9)) == 9


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_a_message_error(line):
    with pytest.raises(MessageError):
        event_of(line)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.sampled_from(["ready", "point", "replanned", "failed", "loaded"]),
    st.sampled_from(["plan", "point", "metrics", "reason", "jobs", "outline", "lease"]),
    VALUES,
)
def test_a_field_of_any_other_value_is_an_event_or_a_message_error(kind, field, value):
    values = {
        "kind": kind,
        "lease": 1,
        "plan": PLAN.to_json(),
        "provenance": {},
        "outline": {},
        "seconds_per_point": 1.0,
        "notes": [],
        "warnings": [],
        "point": [0, 0, 0.0, 0.0, None],
        "metrics": {"loss": 1.0},
        "seconds": 1.0,
        "warning": "",
        "reason": "",
        "message": "",
        "jobs": [],
    } | {field: value}
    try:
        lease, event = event_of(json.dumps(values).encode())
    except MessageError:
        return
    assert type(lease) is int
    assert isinstance(event, Ready | PointDone | Replanned | Failed | Loaded)
