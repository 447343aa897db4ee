"""What the tests of all passes share: a model before and after, run by plain ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.graph.canonical import canonical


@pytest.fixture(scope="session")
def node():
    """Returns a node named after its first output."""

    def build(op, inputs, outputs, **attributes):
        outputs = [outputs] if isinstance(outputs, str) else outputs
        return helper.make_node(op, inputs, outputs, name=f"{outputs[0]}.node", **attributes)

    return build


@pytest.fixture(scope="session")
def unchanged(run_model):
    """Returns the canonical form of a model after comparing what both compute."""

    def check(model, feeds, *, rtol=1e-5, atol=1e-6, precision="fp32"):
        before = model.SerializeToString(deterministic=True)
        form = canonical(model, precision=precision)
        after = ir.to_proto(form.model)
        assert model.SerializeToString(deterministic=True) == before
        # Not optimized: fusions of quantized nodes round in other places.
        results = [run_model(m, feeds, optimized=False) for m in (after, model)]
        for ours, truth in zip(*results, strict=True):
            assert ours.dtype == truth.dtype
            np.testing.assert_allclose(ours, truth, rtol=rtol, atol=atol)
        return form

    return check


@pytest.fixture(scope="session")
def ops():
    """Returns the operators of a canonical form's main graph, in order."""
    return lambda form: [node.op_type for node in form.model.graph]
