"""Orders that were tampered with are refused by their fields, or mean something."""

from __future__ import annotations

import contextlib

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxscape.jobs.job_inputs import checked_options
from onnxscape.jobs.order import DataRef, Order
from onnxscape.service.answers.rich_errors import BadRequestError
from onnxscape.service.orders.checks import OrderLimits, refuse_violations
from onnxscape.service.orders.messages import order_of
from onnxscape.v1.jobs_pb2 import CreateJobRequest

AXIS = {"start": -1, "stop": 1, "num": 25}
BLOB = {"sha256": "a" * 64, "size": 7}
GOOD = CreateJobRequest(
    spec={
        "model": "models/m",
        "data": "dataSets/d",
        "split": "test",
        "samples": {"auto": True},
        "grid": {"x": AXIS, "y": AXIS},
        "directions": {"seed": 7, "normalization": "layer", "include": ["a*"], "file": BLOB,
                       "filter_axis": {"w": -1}},
        "loss": {"name": "l.onnx", "metrics": ["m.onnx", "error"], "class_axis": 1,
                 "label_smoothing": 0.5, "huber_delta": 2.0,
                 "graphs": {"l.onnx": BLOB, "m.onnx": BLOB}},
        "input_format": {"layout": "NCHW", "mean": [1, 2, 3], "std": [1], "scale": "255"},
        "precision": "bf16",
        "weights": BLOB,
        "savings": {"adaptive": True, "tolerance": 0.1, "stderr": 0.01},
    },
    execution={"device": "cpu", "strategy": "constant", "batch_size": 9},
    display_name="mine",
    priority=50,
    request_id="r",
).SerializeToString(deterministic=True)  # fmt: skip


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
    st.integers(len(GOOD) // 2, len(GOOD)),
)
def test_a_message_that_was_tampered_with_is_refused_or_means_something(changes, length):
    data = bytearray(GOOD)
    for at, byte in changes:
        data[at] = byte
    request = CreateJobRequest()
    with contextlib.suppress(DecodeError, BadRequestError):
        request.ParseFromString(bytes(data[:length]))
        refuse_violations(request, OrderLimits())
        order = order_of(
            request.spec, request.execution, model="m", model_name="m",
            data=DataRef(name="d"),
        )  # fmt: skip
        text = order.to_json()
        assert not {"NaN", "Infinity"} & set(text.replace(":", ",").split(","))
        assert checked_options(Order.from_json(text))["grid"].size >= 2
        assert all(name.lower().endswith(".onnx") for name in order.graphs)
        assert not any({"/", "\\"} & set(name) for name in order.graphs)


def test_the_message_itself_is_a_good_one():
    refuse_violations(CreateJobRequest.FromString(GOOD), OrderLimits())
