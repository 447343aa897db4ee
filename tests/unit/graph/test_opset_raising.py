from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxscape.errors import UnsupportedModelError
from onnxscape.graph.opset_raising import NEWEST, VETTED, raise_opset

ROOT = Path(__file__).parents[3]
BFLOAT16 = "tensor(bfloat16)"
OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional


def versions(name):
    return sorted(
        s.since_version
        for s in onnx.defs.get_all_schemas_with_history()
        if s.domain == "" and s.name == name
    )


@pytest.mark.parametrize("name", sorted(VETTED))
def test_vetted_versions_take_and_give_what_those_before_them_did(name):
    history = versions(name)
    for version in VETTED[name]:
        assert version <= NEWEST
        older = onnx.defs.get_schema(name, history[history.index(version) - 1])
        newer = onnx.defs.get_schema(name, version)
        for key, attribute in older.attributes.items():
            assert newer.attributes[key].type == attribute.type
            assert newer.attributes[key].default_value == attribute.default_value
        for key in newer.attributes.keys() - older.attributes.keys():
            assert not newer.attributes[key].required
        assert len(newer.inputs) >= len(older.inputs)
        assert all(p.option == OPTIONAL for p in newer.inputs[len(older.inputs) :])
        pairs = zip(older.inputs, newer.inputs, strict=False)
        assert all(a.option == b.option for a, b in pairs)
        if (name, version) != ("BatchNormalization", 14):  # outputs of training, which is gone
            assert [p.name for p in older.outputs] == [p.name for p in newer.outputs]


@pytest.mark.parametrize(
    "path",
    [
        "models/digits_cnn.onnx",
        "models/resnet20_cifar10.onnx",
        "tests/exporters/models/cnn_torch_legacy_opset11.onnx",
    ],
)
def test_a_raised_model_computes_the_same_bits(path, run_model):
    model = onnx.load(ROOT / path)
    raised = ir.from_proto(model)
    raise_opset(raised, BFLOAT16)
    assert raised.opset_imports[""] == 22
    (source,) = model.graph.input
    shape = [d.dim_value or 3 for d in source.type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    names = [value.name for value in model.graph.output]
    results = [
        run_model(content.SerializeToString(), {source.name: x}, names)
        for content in (model, ir.to_proto(raised))
    ]
    for before, after in zip(*results, strict=True):
        np.testing.assert_array_equal(before, after)


def network(make_model, node, opset, inputs=None):
    model = make_model(
        [helper.make_node("Conv", ["x", "w"], ["c"]), node],
        {"x": ["n", 2, 5, 5]},
        {"y": None},
        {"w": np.ones((3, 2, 3, 3), np.float32), **(inputs or {})},
    )
    model.opset_import[0].version = opset
    return ir.from_proto(model)


def test_a_model_that_is_new_enough_stays_as_it_is(make_model):
    model = network(make_model, helper.make_node("Relu", ["c"], ["y"]), 23)
    raise_opset(model, BFLOAT16)
    assert model.opset_imports[""] == 23


def test_products_need_less_than_convolutions(make_model):
    model = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["n", 2]},
        {"y": ["n", 2]},
        {"w": np.eye(2, dtype=np.float32)},
    )
    model.opset_import[0].version = 12
    raised = ir.from_proto(model)
    raise_opset(raised, BFLOAT16)
    assert raised.opset_imports[""] == 13
    raise_opset(raised, "tensor(float16)")
    assert raised.opset_imports[""] == 13


def test_an_operator_that_changed_more_is_refused_with_what_to_do(make_model):
    model = network(make_model, helper.make_node("Softmax", ["c"], ["y"]), 12)
    with pytest.raises(
        UnsupportedModelError, match=r"set 22 .* has 12, and Softmax 13 .*opset_version=22"
    ):
        raise_opset(model, BFLOAT16)
    assert model.opset_imports[""] == 12


def test_an_operator_that_is_computed_in_float32_anyway_needs_no_newer_set(make_model):
    model = make_model(
        [
            helper.make_node("ConvTranspose", ["x", "w"], ["c"]),
            helper.make_node("Softmax", ["c"], ["y"]),
        ],
        {"x": ["n", 2, 5, 5]},
        {"y": None},
        {"w": np.ones((2, 3, 3, 3), np.float32)},
    )
    model.opset_import[0].version = 12
    kept = ir.from_proto(model)
    raise_opset(kept, BFLOAT16)
    assert kept.opset_imports[""] == 12


def test_a_pool_that_rounds_its_size_up_is_refused(make_model):
    def pool(**attributes):
        return helper.make_node("AveragePool", ["c"], ["y"], kernel_shape=[2, 2], **attributes)

    raise_opset(network(make_model, pool(), 17), BFLOAT16)
    with pytest.raises(UnsupportedModelError, match="AveragePool 19"):
        raise_opset(network(make_model, pool(ceil_mode=1), 17), BFLOAT16)
