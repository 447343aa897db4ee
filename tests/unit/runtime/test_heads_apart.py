"""Heads apart from the model: together they compute what one graph does."""

from __future__ import annotations

import numpy as np
import onnx

from onnxscape.graph.apart import heads_apart
from onnxscape.graph.heads import LABELS
from onnxscape.runtime.constant_sessions import ConstantSessions
from onnxscape.runtime.devices import Device


def test_a_model_and_its_heads_have_nothing_in_common(case):
    before = case.prepared.proto.SerializeToString()
    body, heads = heads_apart(case.prepared)
    heads = onnx.load_from_string(heads)
    assert case.prepared.proto.SerializeToString() == before
    assert [value.name for value in body.proto.graph.input] == ["input"]
    assert [v.name for v in body.proto.graph.output] == [case.prepared.output]
    assert {value.name for value in heads.graph.input} == {LABELS, case.prepared.output}
    assert [value.name for value in heads.graph.output] == [
        result.tensor for result in case.prepared.head.results
    ]
    nodes = len(body.proto.graph.node) + len(heads.graph.node)
    assert nodes == len(case.prepared.proto.graph.node)
    assert body.slots == case.prepared.slots


def test_apart_they_compute_the_same_bits(case):
    together = case.make(ConstantSessions)
    elsewhere = Device("provider", 0, "CPU", other="CPUExecutionProvider")
    apart = case.make(ConstantSessions, device=elsewhere)
    for step in ((0.0, 0.0), (0.3, -0.7)):
        assert apart.evaluate(*step) == together.evaluate(*step)
        for name, values in together.outputs(*step).items():
            np.testing.assert_array_equal(apart.outputs(*step)[name], values)
    assert apart.with_threads(2).evaluate(0.3, 0.1) == together.evaluate(0.3, 0.1)
    assert apart.estimate() > 0
