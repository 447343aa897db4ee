"""Runs heads behind a model whose output is what it is fed, and what they should compute."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.core.loss import Loss, labels_of
from onnxscape.graph.canonical import canonical
from onnxscape.graph.heads import LABELS, graft_heads


@pytest.fixture
def run_head(make_model, run_model):
    """Returns the results of a loss by name, each [n]."""

    def run(name, y, labels=None, *, opset=17, custom=None, exact_softmax=True, **options):
        y = np.asarray(y)
        kind = helper.np_dtype_to_tensor_dtype(y.dtype)
        model = canonical(
            make_model(
                [helper.make_node("Identity", ["x"], ["y"])],
                {"x": ["n", *y.shape[1:]]},
                {"y": ["n", *y.shape[1:]]},
                {},
                opset=opset,
                types={"x": kind, "y": kind},
            ),
            precision="native",
        ).model
        if labels_of(name) == "classes":
            options = {"class_axis": 1} | options
        labels = None if labels is None else np.asarray(labels)
        given = None if labels is None else labels.dtype
        loss = Loss(name=name, output="y", shape=y.shape[1:], label_type=given, **options)
        head = graft_heads(model, loss, custom, exact_softmax=exact_softmax)
        feeds = {"x": y}
        if head.label_type is not None:
            feeds[LABELS] = labels.astype(head.label_type)
        outputs = run_model(ir.to_proto(model), feeds, [r.tensor for r in head.results])
        assert all(output.dtype == np.float64 for output in outputs)
        assert all(output.ndim == 2 and output.shape[1] == 1 for output in outputs)
        names = [result.name for result in head.results]
        return dict(zip(names, (output[:, 0] for output in outputs), strict=True))

    return run


@pytest.fixture
def identity_model(make_model):
    """A canonical model `y = x`, both [n, 2]."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return canonical(make_model(nodes, {"x": ["n", 2]}, {"y": ["n", 2]}, {})).model
