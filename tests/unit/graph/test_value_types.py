"""Types of values, against ONNX's own inference on files that are known to be harmless."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from onnxscape.graph.value_types import UNKNOWN, value_types

MODELS = Path(__file__).parents[2] / "exporters" / "models"
FIXTURES = [
    "block_torch_legacy_nofolding",
    "cnn_quantized_qdq",
    "cross_torch_dynamo_packed",
    "gpt_torch_legacy_nofolding",
    "lstm_torch_legacy_nofolding",
    "mlp_handmade_if",
    "mlp_torch_dynamo_dropout",
    "rnn_jax2onnx",
    "upsample_torch_legacy_nofolding",
]


@pytest.mark.parametrize("fixture", FIXTURES)
def test_types_are_those_that_onnx_infers(fixture):
    model = onnx.load(MODELS / f"{fixture}.onnx")
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model)
    expected = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    found = value_types(model)
    known = {name: kind for name, kind in expected.items() if kind}
    assert known
    assert {name: found[name] for name in known} == known


def test_what_makes_a_type_by_itself_is_known(make_model):
    model = make_model(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("Cast", ["shape"], ["halves"], to=TensorProto.FLOAT16),
            helper.make_node("SequenceConstruct", ["x"], ["sequence"]),
            helper.make_node("NoSuchOperator", ["x"], ["y"], domain="somebody"),
        ],
        {"x": ["n", 3]},
        {"y": ["n", 3]},
        {},
    )
    found = value_types(model)
    assert found["shape"] == TensorProto.INT64
    assert found["zeros"] == TensorProto.FLOAT
    assert found["halves"] == TensorProto.FLOAT16
    assert found["sequence"] == UNKNOWN
    assert found["y"] == TensorProto.FLOAT  # as the file declares
